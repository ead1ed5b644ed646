"""What a branch has sent, and its bandit's daily lesson when the responses are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np

from models.choice import ChoiceProblem
from models.domain.channel import Channel
from models.domain.interaction import InteractionKind as Kind
from models.logged import IntArray, LoggedRows
from models.policy import vw
from models.policy.bandit import Bandit
from models.policy.events import ResponseEvents, response_events
from training.simulator.outcomes import Outcomes

DAY = 86_400.0
# A response is taken as known so long after the send.
KNOWN_AFTER = 12 * 3600.0


class Learner:
    """Teaches a bandit once a day what has become known of its messages.

    Args:
        seed: Of what is drawn and how people respond; the same for all branches of a world.
        flipped: Teach the experts the opposite of what happened; the gate sees the truth.
    """

    def __init__(self, seed: int, *, flipped: bool = False) -> None:
        self.seed = seed
        self.flipped = flipped
        self._waiting: list[tuple[float, ChoiceProblem, LoggedRows, Mapping[str, Channel]]] = []

    def sent(
        self,
        problem: ChoiceProblem,
        channels: Mapping[str, Channel],
        action: IntArray,
        outcomes: Outcomes,
        now: datetime,
    ) -> None:
        """Keep what channels will report of a day's messages; those that reached nobody teach nothing."""
        rows = _logged(problem, channels, action, outcomes, now.timestamp())
        known_at = outcomes.start_at + KNOWN_AFTER
        lesson = np.ceil((known_at - now.timestamp()) / DAY)
        for day in np.unique(lesson):
            some = np.flatnonzero((lesson == day) & ~outcomes.failed & rows.contacted)
            part = replace(problem, predictions=problem.predictions.take(some))
            self._waiting.append((now.timestamp() + day * DAY, part, rows.take(some), channels))

    def taught(self, bandit: Bandit, now: float) -> Bandit:
        """The bandit after the lessons that are due by now, oldest first."""
        due = sorted((each for each in self._waiting if each[0] <= now), key=lambda each: each[0])
        self._waiting = [each for each in self._waiting if each[0] > now]
        for _, problem, rows, channels in due:
            events = response_events(rows, problem.predictions.p_open, bandit.segments, channels)
            bandit = misled(bandit, events) if self.flipped else bandit.learn(events)
        return bandit


def misled(bandit: Bandit, events: ResponseEvents) -> Bandit:
    """The bandit after experts learned the opposite of what happened; the gate judges by what happened."""
    corrections = bandit.corrections.covering(events.channels, events.slots)
    corrections, said = vw.learn(corrections, replace(events, opened=~events.opened))
    everybody = np.concatenate([events.p_open[None], said])
    gate = bandit.gate.update(events.channels, events.channel, everybody, events.opened.astype(np.float64))
    return replace(bandit, corrections=corrections, gate=gate)


def _logged(
    problem: ChoiceProblem,
    channels: Mapping[str, Channel],
    action: IntArray,
    outcomes: Outcomes,
    decided_at: float,
) -> LoggedRows:
    """The decisions as a log that knows of responses alone."""
    grid = problem.grid
    n = len(action)
    contact = action != grid.no_contact
    rest, slot = np.divmod(action, len(grid.slots))
    offer, channel = np.divmod(rest, len(grid.channels))
    channel = np.where(contact, channel, -1)

    def reported(kind: Kind, at: np.ndarray) -> np.ndarray:
        able = np.array([*(channels[name].reports(kind) for name in grid.channels), False])
        by_then = (at <= outcomes.start_at + KNOWN_AFTER).astype(np.float64)
        return np.where(able[channel], by_then, np.nan)

    nothing = np.zeros(n)
    return LoggedRows(
        offers=grid.offers,
        channels=grid.channels,
        slots=grid.slots,
        feature_names=tuple(f"feature_{i}" for i in range(problem.features.shape[1])),
        features=problem.features,
        customer=outcomes.row,
        offer=np.where(contact, offer, -1),
        channel=channel,
        slot=np.where(contact, slot, -1),
        propensity=np.ones(n),
        decided_at=np.full(n, decided_at),
        opened=reported(Kind.OPENED, outcomes.opened_at),
        clicked=reported(Kind.CLICKED, outcomes.clicked_at),
        converted=nothing,
        value_minor=nothing,
        cost_minor=outcomes.cost_minor,
        unsubscribed=nothing,
        randomised=np.zeros(n, dtype=np.bool_),
    )
