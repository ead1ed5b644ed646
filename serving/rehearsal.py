"""A rehearsal: the whole service on a clock that stands still until it is moved.

Weeks of a campaign are played through in minutes, by simulated customers (`nextchannel rehearse`) or by whoever wants to
see what an integration does when windows close. Nothing is sent: the caller says what went out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from sqlalchemy import Engine, func, select

from features.history.engine import read_only
from features.history.tables import decisions
from models.domain.errors import InvalidInputError, require

SETTING = "NEXTCHANNEL_REHEARSE_FROM"


class SteppedClock:
    """A clock that stands still until it is moved, and never passes the clock of the machine.

    What commands do by the machine's clock then always lies later than what the service did.

    Args:
        begins_at: Where it stands at first, aware.
        real_now: The clock of the machine.

    Raises:
        InvalidInputError: it would begin in the future.
    """

    def __init__(self, begins_at: datetime, real_now: Callable[[], datetime]) -> None:
        self._real_now = real_now
        self._now = begins_at
        self._require_past(SETTING, begins_at)

    def now(self) -> datetime:
        """Where it stands."""
        return self._now

    def check(self, to: datetime) -> None:
        """Refuse a moment to which it cannot be moved.

        Raises:
            InvalidInputError: it lies before where the clock stands, or after the clock of the machine.
        """
        require(to >= self._now, "now", to.isoformat(), f"must not be before {self._now.isoformat()}")
        self._require_past("now", to)

    def move(self, to: datetime) -> None:
        """Move it on.

        Raises:
            InvalidInputError: as in `check`.
        """
        self.check(to)
        self._now = to

    def _require_past(self, field: str, moment: datetime) -> None:
        real = self._real_now()
        require(moment <= real, field, moment.isoformat(), f"must not be after now, {real.isoformat()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What has to happen when the clock of a rehearsal moves.

    Attributes:
        clock: Of the service.
        due: What a real service does by itself, in this order: done before the clock leaves where it stands.
        every_day: Done after a move that passes midnight UTC, once.
    """

    clock: SteppedClock
    due: Sequence[Callable[[], object]]
    every_day: Callable[[], object]
    _moving: Lock = field(default_factory=Lock)

    def move(self, to: datetime) -> datetime:
        """Finish what is due where the clock stands, and move it on; where it stands then.

        To move it to where it stands finishes what is due, and no more.

        Raises:
            InvalidInputError: `to` lies before where the clock stands, or after the clock of the machine.
        """
        with self._moving:
            self.clock.check(to)
            for work in self.due:
                work()
            passes_midnight = to.date() > self.clock.now().date()
            self.clock.move(to)
            if passes_midnight:
                self.every_day()
            return to


def require_none_later(engine: Engine, field: str, moment: datetime) -> None:
    """Refuse a moment after which decisions are recorded: nobody rehearses where customers are served.

    Raises:
        InvalidInputError: names the field and the newest decision.
    """
    with read_only(engine).connect() as conn:
        newest = conn.execute(select(func.max(decisions.c.decided_at))).scalar_one()
    if newest is not None and newest > moment:
        raise InvalidInputError(
            field,
            moment.isoformat(),
            f"must not be before the newest decision ({newest.isoformat()}); rehearse in an installation of its own",
        )
