"""What the pages of plans show of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serving.plans.plan import WORKED_ON, Plan, PlanStatus
from serving.plans.store import can_move

STATUS_WORDS: Mapping[PlanStatus, str] = MappingProxyType(
    {
        PlanStatus.FORECASTING: "looking at the audience",
        PlanStatus.READY: "ready to start",
        PlanStatus.RUNNING: "deciding",
        PlanStatus.PAUSED: "paused",
        PlanStatus.FINISHED: "finished",
        PlanStatus.CANCELLED: "cancelled",
        PlanStatus.FAILED: "stopped by a problem",
    }
)
# What the button says that starts a plan.
_STARTS = {
    PlanStatus.FORECASTING: "Start when ready",
    PlanStatus.PAUSED: "Go on",
    PlanStatus.FAILED: "Try again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRow:
    """One channel of a plan.

    Attributes:
        channel: Its name.
        expected: Messages by the forecast; None before it is there.
        decided: Messages that were decided on so far.
    """

    channel: str
    expected: float | None
    decided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarceChannel:
    """A channel of which there is not enough for all.

    Attributes:
        channel: Its name.
        price_minor: What room for one more message would be worth by the forecast, minor units; None where nothing was
            scarce then.
        now_minor: The same as it is now; None where nothing is scarce any more.
    """

    channel: str
    price_minor: float | None
    now_minor: float | None


@dataclass(frozen=True, slots=True)
class PlanPage:
    """A plan as a manager looks at it."""

    plan: Plan

    @property
    def status(self) -> str:
        """How far it is, in words."""
        return STATUS_WORDS[self.plan.status]

    @property
    def moves(self) -> bool:
        """Whether the service works on it, so that the page is out of date in a moment."""
        return self.plan.status in WORKED_ON

    @property
    def started(self) -> bool:
        """Whether anything was decided that figures could speak of."""
        return self.plan.n_decided > 0

    @property
    def ended(self) -> bool:
        """Whether nobody more is decided for."""
        return self.plan.status in (PlanStatus.FINISHED, PlanStatus.CANCELLED)

    @property
    def done(self) -> tuple[int, int] | None:
        """Part and whole of the bar; None before the audience was counted. An empty audience is all done."""
        plan = self.plan
        if plan.status is PlanStatus.FINISHED:
            return 1, 1
        return None if plan.n_members is None else (plan.n_decided, plan.n_members)

    @property
    def start(self) -> str | None:
        """What the button says that starts it; None where it cannot be started."""
        return _STARTS.get(self.plan.status, "Start") if can_move(self.plan, PlanStatus.RUNNING) else None

    @property
    def can_pause(self) -> bool:
        """Whether it can be paused."""
        return can_move(self.plan, PlanStatus.PAUSED)

    @property
    def can_cancel(self) -> bool:
        """Whether it can be ended for good."""
        return can_move(self.plan, PlanStatus.CANCELLED)

    @property
    def n_contacts(self) -> int:
        """Messages that were decided on."""
        return sum(self.plan.contacts.values())

    @property
    def n_expected(self) -> float | None:
        """Messages by the forecast; None before it is there."""
        return None if self.plan.forecast is None else sum(self.plan.forecast.contacts.values())

    @property
    def channels(self) -> tuple[ChannelRow, ...]:
        """Every channel that is expected to be used, or was, most used first."""
        decided, forecast = self.plan.contacts, self.plan.forecast
        expected = {} if forecast is None else forecast.contacts
        rows = [
            ChannelRow(
                channel=name,
                expected=None if forecast is None else expected.get(name, 0.0),
                decided=decided.get(name, 0),
            )
            for name in {*expected, *decided}
        ]
        return tuple(sorted(rows, key=lambda row: (-(row.expected or 0.0), -row.decided, row.channel)))

    @property
    def most(self) -> float:
        """The longest bar of the channels, messages."""
        return max([0.0, *(max(row.expected or 0.0, row.decided) for row in self.channels)])

    @property
    def scarce(self) -> tuple[ScarceChannel, ...]:
        """Channels that have a shadow price, by the forecast or now, the dearest first."""
        forecast = {} if self.plan.forecast is None else self.plan.forecast.shadow_prices
        now = self.plan.shadow_prices
        rows = [
            ScarceChannel(channel=name, price_minor=forecast.get(name), now_minor=now.get(name))
            for name in {*forecast, *now}
        ]
        return tuple(
            sorted(rows, key=lambda row: (-max(row.price_minor or 0.0, row.now_minor or 0.0), row.channel))
        )
