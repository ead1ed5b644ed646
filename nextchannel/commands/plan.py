"""`nextchannel plan`: an audience looked at, then decided for in the background by the running service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.domain.campaign import Campaign
    from serving.plans.desk import PlanDesk
    from serving.plans.plan import Plan

app = typer.Typer(
    help="Decide for a segment, or for everybody: forecast, start, pause, cancel. The running service works on it.",
    no_args_is_help=True,
)

_PlanId = Annotated[UUID, typer.Argument(help="Of the plan.")]
_WATCHED_SECONDS = 0.5


@app.command()
def make(
    campaign: Annotated[str, typer.Option(help="What to decide.")],
    segment: Annotated[
        str | None, typer.Option(help="Whose members; everybody where it is left out.")
    ] = None,
    start: Annotated[bool, typer.Option("--start", help="Begin as soon as the forecast is there.")] = False,
) -> None:
    """Make a plan and print its id; without `--start` it waits once its forecast is there."""
    plan = _desk().make(campaign, segment, starts=start)
    typer.echo(plan.plan_id)
    typer.echo(f"see how far it is: nextchannel plan show {plan.plan_id} --watch", err=True)


@app.command("list")
def list_(limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20) -> None:
    """Plans, the newest first."""
    for plan in _desk().newest(None, limit):
        members = "?" if plan.n_members is None else f"{plan.n_members:,}"
        audience = plan.segment or "everybody"
        typer.echo(
            f"{plan.plan_id}  {plan.created_at:%Y-%m-%d %H:%M}  {plan.status:<11} {plan.n_decided:>9,} of {members:<9} "
            f"{plan.campaign_id} for {audience}"
        )


@app.command()
def show(
    plan_id: _PlanId,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until it ends, pauses or fails.")] = False,
) -> None:
    """The forecast, and how far it is."""
    desk = _desk()
    plan = _watched(desk, plan_id) if watch else desk.find(plan_id)
    typer.echo(_told(plan))


@app.command()
def start(plan_id: _PlanId) -> None:
    """Begin, or go on after a pause or a failure."""
    _move(plan_id, "running")


@app.command()
def pause(plan_id: _PlanId) -> None:
    """Decide for nobody more until it is started again."""
    _move(plan_id, "paused")


@app.command()
def cancel(plan_id: _PlanId) -> None:
    """End it for good; what was decided stays decided."""
    _move(plan_id, "cancelled")


def _move(plan_id: UUID, to: str) -> None:
    from serving.plans.plan import PlanStatus

    plan = _desk().move(plan_id, PlanStatus(to))
    typer.echo(f"plan {plan.plan_id} is {plan.status}")


def _watched(desk: PlanDesk, plan_id: UUID) -> Plan:
    """The plan once nobody works on it any more, with a bar until then."""
    import time

    from nextchannel.commands.progress import progress_bar
    from serving.plans.plan import WORKED_ON

    with progress_bar("looking at the audience, then deciding") as done:
        while (plan := desk.find(plan_id)).status in WORKED_ON:
            done(plan.n_decided / plan.n_members if plan.n_members else 0.0)
            time.sleep(_WATCHED_SECONDS)
    return plan


def _told(plan: Plan) -> str:
    from nextchannel.settings import Settings
    from serving.money import Currency

    settings = Settings()
    money = Currency(settings.currency, settings.currency_digits).words
    members = "not counted yet" if plan.n_members is None else f"{plan.n_members:,} members"
    lines = [
        f"plan {plan.plan_id}: {plan.campaign_id} for {plan.segment or 'everybody'}",
        f"{plan.status}; {plan.n_decided:,} decided for; {members}",
    ]
    forecast = plan.forecast
    if forecast is not None:
        worth = (
            ""
            if forecast.net_value_minor is None
            else f", expected net value {money(forecast.net_value_minor)}"
        )
        lines.append(
            f"expected by the model, from {forecast.n_sampled:,} members: {_by_channel(forecast.contacts)}; "
            f"cost {money(forecast.cost_minor)}{worth}"
        )
    if plan.n_decided:
        worth = "" if plan.net_value_minor is None else f", expected net value {money(plan.net_value_minor)}"
        lines.append(f"so far: {_by_channel(plan.contacts)}; cost {money(plan.cost_minor)}{worth}")
    lines += [
        f"room for one more message by {name} is worth {money(price)}"
        for name, price in plan.shadow_prices.items()
    ]
    if plan.n_problems:
        lines.append(f"{plan.n_problems:,} could not be decided for")
    if plan.problem:
        lines.append(f"problem: {plan.problem}")
    return "\n".join(lines)


def _by_channel(messages: Mapping[str, float]) -> str:
    found = [f"{n:,.0f} {name}" for name, n in sorted(messages.items(), key=lambda one: -one[1])]
    return ", ".join(found) or "no messages"


def _desk() -> PlanDesk:
    from datetime import UTC, datetime

    from features.history.campaigns import load_campaign
    from features.history.engine import read_only
    from nextchannel.commands.installation import open_features, open_history
    from nextchannel.settings import Settings
    from serving.plans.desk import PlanDesk

    settings = Settings()
    engine = open_history(settings)

    def campaign_of(campaign_id: str) -> Campaign:
        with read_only(engine).connect() as conn:
            return load_campaign(conn, campaign_id)

    workspace = open_features(settings, engine)
    return PlanDesk(
        engine,
        campaign_of,
        lambda: workspace.features if workspace.defined else None,
        lambda: datetime.now(UTC),
    )
