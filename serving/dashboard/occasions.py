"""The pages of occasions: every one with what it did, and one of them with who is due on the coming days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import Connection

from features.history.campaigns import load_campaign
from features.history.engine import read_only
from serving.dashboard.answers import PageAnswers
from serving.dashboard.charts import columns
from serving.dashboard.occasion_words import STANDING_WORDS, rule_words
from serving.occasions.book import Tally, tally
from serving.occasions.preview import preview
from serving.occasions.standing import OccasionStanding, standing
from serving.occasions.store import Stored, list_occasions, load_occasion
from serving.routes.fields import Name
from serving.routes.paging import Cursor, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store

_PAGE = 20
_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class OccasionPage:
    """An occasion, whether it works, and what it did.

    Attributes:
        rule: In words.
    """

    stored: Stored
    standing: OccasionStanding
    done: Tally
    rule: str

    @classmethod
    def of(cls, conn: Connection, stored: Stored, now: datetime) -> OccasionPage:
        """Read what it did.

        Args:
            conn: Only read.
            stored: The occasion.
            now: Aware.
        """
        return cls(
            stored=stored,
            standing=standing(load_campaign(conn, stored.occasion.campaign_id), now),
            done=tally(conn, stored.name),
            rule=rule_words(stored.occasion),
        )

    @property
    def standing_words(self) -> str:
        """What the badge says."""
        return STANDING_WORDS[self.standing]

    @property
    def badge(self) -> str:
        """The look of the badge."""
        return {OccasionStanding.NOT_OPEN_YET: "ready", OccasionStanding.CLOSED: "finished"}.get(
            self.standing, ""
        )


def occasion_pages(service: Service) -> APIRouter:
    """The pages below `/occasions`."""
    router = APIRouter(include_in_schema=False)
    answers = PageAnswers(service)

    @router.get("/occasions")
    async def occasions(cursor: Cursor = None) -> Response:
        now = service.clock()

        def make() -> Response:
            after = "" if cursor is None else str(from_cursor(cursor, str)[0])
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                found, following = page_of(
                    list_occasions(conn, after, _PAGE + 1), _PAGE, lambda stored: to_cursor(stored.name)
                )
                shown = [OccasionPage.of(conn, stored, now) for stored in found]
            return answers.page("occasions.html", occasions=shown, cursor=cursor, next_cursor=following)

        return await answers.made("/occasions", make)

    @router.get("/occasions/{name}")
    async def one(name: Name) -> Response:
        now = service.clock()

        def make() -> Response:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                shown = OccasionPage.of(conn, load_occasion(conn, name), now)
            ahead = preview(service.engine, name, now, _DAYS)
            return answers.page(
                "occasion.html", shown=shown, ahead=ahead, n_days=_DAYS, chart=columns(ahead.by_day)
            )

        return await answers.made(f"/occasions/{name}", make)

    return router
