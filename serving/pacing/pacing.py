"""Keeps the shadow prices for requests that come by themselves, and what they are made from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from threading import Lock
from time import monotonic

from sqlalchemy import Connection, Engine

from features.history.engine import read_only
from models.allocation.pacing import MOST_DAYS
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from serving.background import Repeating
from serving.pacing.ask import Ask, Option
from serving.pacing.memory import Memory
from serving.pacing.scarcity import Pace, Scarce, pace
from serving.pacing.store import forget_asks, read_asks, write_asks
from serving.snapshot import Snapshot, Snapshots
from serving.store.availability import reaching_the_store
from serving.store.ledger import Ledger
from serving.store.resources import message_days

_EVERY_SECONDS = 5.0
# Prices that could not be worked out anew for so long count no more: who is still to come is not known any better.
_HOLDS_SECONDS = 120.0
# A day more than is looked back upon, since a stream's days are counted from its first request.
_REMEMBERED = timedelta(days=MOST_DAYS + 1)
# Of an hour's first requests so many are looked at, each; of n later ones every (n / so many)-th.
_LOOKED_AT = 64
_HOUR_SECONDS = 3_600
_NO_PRICES: Mapping[str, float] = {}


class Pacing(Repeating):
    """Shadow prices of what is scarce, worked out anew every few seconds.

    Requests are counted, and some are looked at, each of which stands for those since the one before. They are kept in the
    database, where every process finds them. Nothing is counted or kept of campaigns that nothing can run out of.

    Args:
        engine: The history.
        snapshots: Campaigns and channels.
        clock: Gives the present, aware UTC.
    """

    def __init__(self, engine: Engine, snapshots: Snapshots, clock: Callable[[], datetime]) -> None:
        super().__init__("pacing", self.work, _EVERY_SECONDS)
        self._engine = engine
        self._snapshots = snapshots
        self._clock = clock
        self._memory = Memory()
        self._newest = 0
        self._watched: frozenset[str] = frozenset()
        self._pace: Pace | None = None
        self._worked_out_at = 0.0
        # A rehearsal takes turns of its own.
        self._working = Lock()
        # Of the thread that decides.
        self._new: deque[Ask] = deque()
        self._hour = 0
        self._in_hour = 0
        self._since = 0

    @property
    def current(self) -> Pace | None:
        """The prices of the moment; None before they were worked out for the first time."""
        return self._pace

    def prices_of(self, campaign_id: str) -> Mapping[str, float]:
        """What one message of the campaign takes of what is scarce, minor units, by channel; absent where that is nothing."""
        if self._pace is None or monotonic() - self._worked_out_at > _HOLDS_SECONDS:
            return _NO_PRICES
        return self._pace.prices.get(campaign_id, _NO_PRICES)

    def asked(
        self,
        now: datetime,
        campaigns: Sequence[str],
        rows: Sequence[int],
        options_of: Callable[[int], tuple[Option, ...]],
    ) -> None:
        """Count requests, and look at some of them.

        Args:
            now: Aware.
            campaigns: Which were asked.
            rows: One a request.
            options_of: What the request of a row could be given.
        """
        if self._watched.isdisjoint(campaigns):
            return
        for row, n in self._looked_at(int(now.timestamp()) // _HOUR_SECONDS, rows):
            self._new.append(Ask(at=now, n=n, campaigns=tuple(sorted(campaigns)), options=options_of(row)))

    def work(self) -> None:
        """Write down what was looked at, read what others have, and make prices of it.

        Raises:
            StoreUnavailableError: the database cannot be reached; the prices stay as they are, for two minutes.
        """
        with self._working:
            self._pace = self._take_turn()
            self._worked_out_at = monotonic()

    def _take_turn(self) -> Pace:
        snapshot, now = self._snapshots.current, self._clock()
        campaigns = _open_ones(snapshot, now)
        watched = {name: one for name, one in campaigns.items() if _can_run_out(one, snapshot.channels)}
        self._watched = frozenset(watched)
        if not watched:
            return Pace(as_of=now)
        with reaching_the_store():
            self._remember(now)
            with read_only(self._engine).connect() as conn:
                left = _left(conn, watched.values(), snapshot, now)
        cost = {
            place: snapshot.priced(campaigns[place.campaign_id])[place.channel].cost_minor or 0.0
            for place in self._memory.places
            if place.campaign_id in campaigns and place.channel in snapshot.channels
        }
        return pace(self._memory, campaigns, cost, left, now)

    def _looked_at(self, hour: int, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Rows to look at, and how many requests each stands for."""
        if hour != self._hour:
            self._hour, self._in_hour = hour, 0
        for row in rows:
            self._in_hour += 1
            self._since += 1
            if self._since * _LOOKED_AT >= self._in_hour:
                yield row, self._since
                self._since = 0

    def _remember(self, now: datetime) -> None:
        since = now - _REMEMBERED
        new = [self._new.popleft() for _ in range(len(self._new))]
        forgotten = self._memory.forget(since.timestamp())
        if new or forgotten:
            with self._engine.begin() as conn:
                write_asks(conn, new)
                if forgotten:
                    forget_asks(conn, since)
        with read_only(self._engine).connect() as conn:
            while True:
                some, self._newest = read_asks(conn, self._newest, since)
                if not some:
                    return
                self._memory.add(some)


def _open_ones(snapshot: Snapshot, now: datetime) -> dict[str, Campaign]:
    """Campaigns that somebody can be decided for."""
    return {
        name: campaign
        for name, campaign in snapshot.campaigns.items()
        if now < campaign.send_window.closes_at and snapshot.channels.keys() >= set(campaign.channels)
    }


def _can_run_out(campaign: Campaign, channels: Mapping[str, Channel]) -> bool:
    """Whether it has a budget, or a channel has a capacity."""
    return campaign.budget_minor is not None or any(
        channels[name].capacity_per_day is not None for name in campaign.channels
    )


def _left(conn: Connection, campaigns: Iterable[Campaign], snapshot: Snapshot, now: datetime) -> list[Scarce]:
    """What is left of every budget and capacity of these campaigns."""
    ledger = Ledger(conn, (), now)
    capacities: dict[tuple[str, date], Scarce] = {}
    budgets: list[Scarce] = []
    for campaign in campaigns:
        for day in message_days(now):
            limits = ledger.limits(campaign, snapshot.priced(campaign), (day,))
            for name, messages in limits.capacity_left.items():
                capacities[name, day] = Scarce(channel=name, day=day, left=max(0.0, messages))
        if limits.budget_left_minor is not None:
            left = max(0.0, limits.budget_left_minor)
            budgets.append(Scarce(campaign_id=campaign.campaign_id, left=left))
    return [capacities[key] for key in sorted(capacities)] + budgets
