"""`/v1/campaigns/{id}/offers/{id}/...`: what an offer gives; `/v1/decisions/{id}/voucher`: what a decision gave."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection, select, tuple_

from features.history.engine import read_only
from features.history.tables import outbox, survey_answers
from models.domain.errors import InvalidInputsError
from serving.incentives.incentive import CODE_FORM, LONGEST_CODE, Incentive, IncentiveKind
from serving.incentives.lottery import commitment
from serving.incentives.report import count_codes
from serving.incentives.store import (
    Stored,
    add_codes,
    find_offer,
    load_incentive,
    save_incentive,
    withdraw_incentive,
)
from serving.incentives.survey import Answer
from serving.incentives.vouchers import Voucher, find_voucher, give_to_caller
from serving.routes.examples import INCENTIVES, PROBLEMS
from serving.routes.fields import Name, ShortName, unstorable_in
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.tracking import Signer, TrackedLinks

MOST_CODES = 10_000

CampaignId = Annotated[Name, Path(description="Name of the campaign.")]
OfferId = Annotated[Name, Path(description="Of one of its offers.")]
DecisionId = Annotated[ShortName, Path(description="Of a decision to contact.")]
Code = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CODE, pattern=CODE_FORM)]


class IncentiveIn(BaseModel):
    """What the offer gives."""

    model_config = ConfigDict(extra="forbid")

    incentive: Incentive


class DrawOut(BaseModel):
    """By which a draw can be proved."""

    commitment: str = Field(
        description="SHA-256 of the secret, hexadecimal; it was there before the first ticket."
    )
    secret: str | None = Field(description="Told from `valid_until` on; null before.")


class IncentiveOut(BaseModel):
    """What the offer gives, and what that costs."""

    campaign_id: str
    offer_id: str
    version: int
    created_at: datetime
    incentive: Incentive
    margin_minor: float = Field(
        description="Of a conversion under the offer, net of `expected_cost_minor`, minor units."
    )
    expected_cost_minor: float = Field(description="Of one redemption, prizes included, minor units.")
    draw: DrawOut | None = Field(description="Of a lottery; null for what is none.")

    @classmethod
    def of(cls, conn: Connection, stored: Stored, now: datetime) -> IncentiveOut:
        """From the domain."""
        until, secret = stored.incentive.valid_until, stored.secret
        over = until is not None and now >= until
        return cls(
            campaign_id=stored.campaign_id,
            offer_id=stored.offer_id,
            version=stored.version,
            created_at=stored.created_at,
            incentive=stored.incentive,
            margin_minor=find_offer(conn, stored.campaign_id, stored.offer_id).margin_minor,
            expected_cost_minor=stored.incentive.expected_cost_minor,
            draw=None
            if secret is None
            else DrawOut(commitment=commitment(secret), secret=secret if over else None),
        )


class CodesIn(BaseModel):
    """Codes that the shop system made."""

    model_config = ConfigDict(extra="forbid")

    codes: Annotated[list[Code], Field(min_length=1, max_length=MOST_CODES)]


class CodesOut(BaseModel):
    """How many were new, how many known already, and how many nobody has yet."""

    n_new: int
    n_repeated: int
    n_left: int


class VoucherOut(BaseModel):
    """What a decision gave."""

    decision_id: str
    campaign_id: str
    offer_id: str
    kind: IncentiveKind
    coupon: str = Field(description="The code, as `{{ coupon }}` says it.")
    redeem_link: str = Field(description="The customer's page, as `{{ redeem_link }}` says it.")
    given_at: datetime
    opens_at: datetime = Field(description="Redeemed from then on.")
    lapses_at: datetime | None = Field(description="Not redeemed from then on; null for no end.")


class SurveyAnswerOut(BaseModel):
    """One answer."""

    decision_id: str
    question_id: str
    answer: Answer
    answered_at: datetime


class SurveyAnswersOut(BaseModel):
    """Answers of people who were not erased, in order of decision and question."""

    answers: list[SurveyAnswerOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


def incentive_routes(service: Service) -> APIRouter:
    """The endpoints of incentives."""
    router = APIRouter(prefix="/v1", tags=["incentives"], responses=PROBLEMS)
    base = "/campaigns/{campaign_id}/offers/{offer_id}"
    links = TrackedLinks(service.public_url, Signer(service.tracking_secret))

    @router.put(f"{base}/incentive", openapi_extra=INCENTIVES)
    async def put(campaign_id: CampaignId, offer_id: OfferId, posted: IncentiveIn) -> IncentiveOut:
        """Store what an offer gives: whoever has one already keeps its terms. A draw cannot be changed any more."""
        if found := unstorable_in(posted.incentive, "incentive."):
            raise InvalidInputsError(found)
        now = service.clock()

        def write() -> IncentiveOut:
            with reaching_the_store(), service.engine.begin() as conn:
                stored = save_incentive(conn, campaign_id, offer_id, posted.incentive, now)
                return IncentiveOut.of(conn, stored, now)

        return await service.in_thread(write)

    @router.get(f"{base}/incentive")
    async def one(campaign_id: CampaignId, offer_id: OfferId) -> IncentiveOut:
        """What an offer gives now, and what that costs beside what a conversion brings."""
        now = service.clock()

        def read() -> IncentiveOut:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return IncentiveOut.of(conn, load_incentive(conn, campaign_id, offer_id), now)

        return await service.in_thread(read)

    @router.delete(f"{base}/incentive", status_code=204)
    async def withdraw(campaign_id: CampaignId, offer_id: OfferId) -> Response:
        """Give nothing from now on; what was given stays good."""
        now = service.clock()

        def write() -> Response:
            with reaching_the_store(), service.engine.begin() as conn:
                withdraw_incentive(conn, campaign_id, offer_id, now)
            return Response(status_code=204)

        return await service.in_thread(write)

    @router.post(f"{base}/codes")
    async def codes(campaign_id: CampaignId, offer_id: OfferId, posted: CodesIn) -> CodesOut:
        """Add up to 10,000 codes to the list, from which each is given once; the same code again changes nothing."""

        def write() -> CodesOut:
            with reaching_the_store(), service.engine.begin() as conn:
                n_new = add_codes(conn, campaign_id, offer_id, posted.codes)
                n_left, _ = count_codes(conn, campaign_id, offer_id)
            return CodesOut(n_new=n_new, n_repeated=len(posted.codes) - n_new, n_left=n_left)

        return await service.in_thread(write)

    @router.get(f"{base}/answers")
    async def answers(
        campaign_id: CampaignId, offer_id: OfferId, limit: Limit = USUAL_PAGE, cursor: Cursor = None
    ) -> SurveyAnswersOut:
        """What was answered to a survey."""
        after = None if cursor is None else from_cursor(cursor, str, str)

        def read() -> list[SurveyAnswerOut]:
            place = (survey_answers.c.decision_id, survey_answers.c.question_id)
            query = select(survey_answers).where(
                survey_answers.c.campaign_id == campaign_id, survey_answers.c.offer_id == offer_id
            )
            if after is not None:
                query = query.where(tuple_(*place) > tuple_(*after))
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                find_offer(conn, campaign_id, offer_id)
                rows = conn.execute(query.order_by(*place).limit(limit + 1)).all()
            return [
                SurveyAnswerOut(
                    decision_id=row.decision_id,
                    question_id=row.question_id,
                    answer=row.answer["value"],
                    answered_at=row.answered_at,
                )
                for row in rows
            ]

        page, following = page_of(
            await service.in_thread(read), limit, lambda each: to_cursor(each.decision_id, each.question_id)
        )
        return SurveyAnswersOut(answers=page, next_cursor=following)

    def shown(conn: Connection, voucher: Voucher) -> VoucherOut:
        stored = load_incentive(conn, voucher.campaign_id, voucher.offer_id, voucher.version)
        message_id = conn.scalar(
            select(outbox.c.message_id).where(outbox.c.decision_id == voucher.decision_id).limit(1)
        )
        return VoucherOut(
            decision_id=voucher.decision_id,
            campaign_id=voucher.campaign_id,
            offer_id=voucher.offer_id,
            kind=stored.incentive.kind,
            coupon=voucher.code,
            redeem_link=links.redeem(str(message_id)),
            given_at=voucher.given_at,
            opens_at=stored.incentive.opens_at(voucher.given_at),
            lapses_at=stored.incentive.lapses_at(voucher.given_at),
        )

    @router.post("/decisions/{decision_id}/voucher")
    async def give(decision_id: DecisionId) -> VoucherOut:
        """Code and link for a message that you send yourself; asking again gives the same."""
        now = service.clock()

        def write() -> VoucherOut:
            with reaching_the_store(), service.engine.begin() as conn:
                return shown(conn, give_to_caller(conn, decision_id, now))

        return await service.in_thread(write)

    @router.get("/decisions/{decision_id}/voucher")
    async def given(decision_id: DecisionId) -> VoucherOut:
        """What a decision gave."""

        def read() -> VoucherOut:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                return shown(conn, find_voucher(conn, decision_id))

        return await service.in_thread(read)

    return router
