"""Count on where whoever looked at a report could not wait for all of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from features.history.rewards import settle_in_parts
from serving.background import Repeating, told

_IDLE_SECONDS = 60.0
_TURN_SECONDS = 0.5
_REST = 3.0


class Counting(Repeating):
    """Counts the campaigns that somebody looked at, in the background and at rest for most of the time.

    Where nobody looks nothing is counted here: trainings and the learner settle for themselves.

    Args:
        engine: The history.
        clock: Gives the present, aware UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        super().__init__("counting", self._count_some, _IDLE_SECONDS, rest=_REST)
        self._engine = engine
        self._clock = clock
        self._wanted: set[str] = set()

    def go_on(self, campaign_id: str) -> None:
        """Count this campaign until all is counted."""
        self._wanted.add(campaign_id)
        self.wake()

    def _count_some(self) -> bool:
        """A turn; whether there is more to count."""
        for campaign_id in tuple(self._wanted):
            # One that cannot be counted is not tried again until somebody looks again.
            with told(f"counting {campaign_id}"):
                if not settle_in_parts(self._engine, self._clock(), campaign_id, seconds=_TURN_SECONDS):
                    continue
            self._wanted.discard(campaign_id)
        return bool(self._wanted)
