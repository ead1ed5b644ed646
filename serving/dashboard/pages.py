"""The pages: what a campaign earned, why a decision was taken, and who a customer is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.domain.errors import NextchannelError
from models.evaluation.experiment import Difference
from serving.compared import DifferenceReport
from serving.dashboard.charts import Forest, Interval, forest
from serving.dashboard.decision import DecisionPage
from serving.dashboard.scarce import ScarcePanel
from serving.explain.catalogue import Language
from serving.explain.english import ENGLISH
from serving.explain.explainer import Explainer
from serving.explain.phrases import points
from serving.money import Currency
from serving.problems import problem_of
from serving.report import Report, latest_campaign
from serving.routes.customers import LONGEST_CURSOR, sees_contact_points
from serving.routes.fields import Name
from serving.security.gate import PAGE_POLICY
from serving.service import Service

_HISTORY_ENTRIES = 25
_FOLDER = Path(__file__).parent
STATIC_FOLDER = _FOLDER / "static"
# Forms say where they come from (`Origin`), which `no-referrer` would blank.
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": PAGE_POLICY,
}


def dashboard_routes(service: Service) -> APIRouter:
    """The pages of the service."""
    router = APIRouter(include_in_schema=False)
    environment = page_environment(service.currency)
    explainer = Explainer(service.engine, service.snapshots)

    def page(template: str, status_code: int = 200, **values: object) -> HTMLResponse:
        html = environment.get_template(template).render(title=service.title, **values)
        return HTMLResponse(html, status_code=status_code, headers=PAGE_HEADERS)

    def failure(error: NextchannelError, path: str) -> HTMLResponse:
        problem = problem_of(error, path)
        return page("problem.html", status_code=problem.status, problem=problem)

    @router.get("/")
    async def overview(campaign: Annotated[Name | None, Query()] = None) -> HTMLResponse:
        now = service.clock()

        def make() -> HTMLResponse:
            campaigns = list(service.snapshots.current.campaigns.values())
            if not campaigns:
                return page("welcome.html")
            try:
                chosen = campaign or latest_campaign(service.engine) or campaigns[0].campaign_id
                report = service.report(chosen, now)
            except NextchannelError as exc:
                return failure(exc, "/")
            return page(
                "overview.html",
                report=report,
                campaigns=campaigns,
                arms=_arms_plot(report),
                differences=_differences_plot(report),
                first_choices=_first_choices_plot(report),
                scarce=_scarce(service, chosen),
            )

        return await service.in_thread(make)

    @router.get("/decisions/{decision_id}")
    async def decision(
        decision_id: UUID, language: Annotated[Language, Query()] = Language.ENGLISH
    ) -> HTMLResponse:
        def make() -> HTMLResponse:
            try:
                found = service.decider.recorded(str(decision_id))
                explanation = explainer.explain(found)
            except NextchannelError as exc:
                return failure(exc, f"/decisions/{decision_id}")
            shown = DecisionPage.of(found, explanation, language, service.currency)
            return page("decision.html", shown=shown, decision=found, told=shown.told, labels=shown.labels)

        return await service.in_thread(make)

    @router.get("/customers/{customer_id}")
    async def customer(
        request: Request,
        customer_id: Name,
        cursor: Annotated[str | None, Query(max_length=LONGEST_CURSOR)] = None,
    ) -> HTMLResponse:
        now, clear = service.clock(), sees_contact_points(request)

        def make() -> HTMLResponse:
            try:
                whole = service.customers.profile(customer_id, now, in_the_clear=clear)
                history = service.customers.history(customer_id, _HISTORY_ENTRIES, cursor)
            except NextchannelError as exc:
                return failure(exc, f"/customers/{customer_id}")
            return page("customer.html", whole=whole, person=whole.profile, history=history)

        return await service.in_thread(make)

    return router


def _scarce(service: Service, campaign_id: str) -> ScarcePanel | None:
    """What can run out of a campaign; None where nothing is known of it."""
    campaign = service.snapshots.current.campaigns.get(campaign_id)
    pace = None if service.pacing is None else service.pacing.current
    return None if pace is None or campaign is None else ScarcePanel.of(pace, campaign)


@cache
def page_environment(currency: Currency) -> Environment:
    """Where the pages' templates are read, with the filters that they use; every template is compiled once."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = currency.words
    environment.filters["moment"] = _moment
    environment.filters["short"] = _short_moment
    environment.filters["percent"] = _percent
    environment.filters["points"] = points
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["about"] = lambda number: f"{number:,.{0 if number >= 10 else 1}f}".removesuffix(".0")
    environment.filters["channel"] = lambda name: ENGLISH.channel(name).strip()
    environment.filters["axis"] = lambda minor: f"{minor / currency.minor_per_major:,.6g}"
    return environment


def _arms_plot(report: Report) -> Forest | None:
    """Means of the arms."""
    intervals = [
        Interval(label=arm.arm.value, value=arm.mean_minor, low=arm.low_minor, high=arm.high_minor)
        for arm in report.arms
        if arm.mean_minor is not None and arm.low_minor is not None and arm.high_minor is not None
    ]
    return forest(intervals, include_zero=False)


def _differences_plot(report: Report) -> Forest | None:
    """Differences between arms, with both intervals."""
    intervals = differences_of(report.differences)
    return forest(intervals, include_zero=True)


def differences_of(differences: Iterable[DifferenceReport]) -> list[Interval]:
    """Each difference between two arms as a line of a forest plot."""
    return [
        interval_of(f"{one.arm.value} \N{MINUS SIGN} {one.other.value}", one.difference)
        for one in differences
    ]


def _first_choices_plot(report: Report) -> Forest | None:
    """Differences by the channel that was chosen first, of those that anything can be said about."""
    intervals = [
        interval_of(one.channel or "no contact", one.difference)
        for one in report.first_choices
        if one.difference is not None and one.readable
    ]
    return forest(intervals, include_zero=True)


def interval_of(label: str, difference: Difference) -> Interval:
    """A difference of arms as a line of a forest plot."""
    return Interval(
        label=label,
        value=difference.value,
        low=difference.low,
        high=difference.high,
        always_low=difference.always_low,
        always_high=difference.always_high,
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _short_moment(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %H:%M} UTC"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
