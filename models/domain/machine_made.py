"""Tell machines from people among opens and clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from models.domain.interaction import InteractionKind

# Only these can be made by a machine that fetches what a message contains.
FETCHES = frozenset({InteractionKind.OPENED, InteractionKind.CLICKED})


class MachineRule(StrEnum):
    """Why a fact counts as machine-made.

    Of several rules that apply the first in this order is named, whatever the order in which facts arrive.
    """

    STATED = "stated"
    PREFETCH_AGENT = "prefetch_agent"
    TOO_SOON = "too_soon"
    CLICK_STORM = "click_storm"


@dataclass(frozen=True, slots=True)
class MachineRules:
    """The rules and their thresholds.

    Apple Mail fetches every picture when a message arrives, through a proxy whose user agent is just
    `Mozilla/5.0` (https://help.socketlabs.com/docs/identifying-apple-mpp-opens-in-notification-api-events).
    Mail gateways fetch links to check them, within seconds of delivery, and all links of a message at once.
    Gmail's `GoogleImageProxy` fetches when a person opens the message, so it is not listed.

    Each rule can only come to hold as facts arrive, never cease to: so a history in any order ends with the same
    flags.

    Attributes:
        exact_agents: User agents, whole and in lower case.
        agent_parts: Parts of user agents, in lower case.
        within_seconds: Nobody opens or clicks a message this soon after it was sent.
        storm_clicks: Nobody clicks one message this often ...
        storm_seconds: ... within this time.
    """

    exact_agents: frozenset[str] = frozenset({"", "mozilla/5.0"})
    agent_parts: tuple[str, ...] = (
        "barracuda",
        "bingpreview",
        "bot",
        "crawler",
        "mimecast",
        "proofpoint",
        "spider",
    )
    within_seconds: float = 2.0
    storm_clicks: int = 4
    storm_seconds: float = 10.0

    def by_agent(self, user_agent: str) -> MachineRule | None:
        """`PREFETCH_AGENT` where that user agent is a machine's."""
        agent = user_agent.strip().lower()
        if agent in self.exact_agents or any(part in agent for part in self.agent_parts):
            return MachineRule.PREFETCH_AGENT
        return None

    def by_delay(self, sent_at: datetime | None, fetched_at: datetime) -> MachineRule | None:
        """`TOO_SOON` where a message was fetched so soon after it was sent, or before it was."""
        if sent_at is None or fetched_at - sent_at < timedelta(seconds=self.within_seconds):
            return MachineRule.TOO_SOON
        return None

    def storms(self, clicked_at: Sequence[datetime]) -> list[bool]:
        """Of each click on one message, whether it belongs to `storm_clicks` clicks within `storm_seconds`.

        Args:
            clicked_at: In order of time, shape (n,).
        """
        stormy = [False] * len(clicked_at)
        reach = timedelta(seconds=self.storm_seconds)
        for first in range(len(clicked_at) - self.storm_clicks + 1):
            last = first + self.storm_clicks - 1
            if clicked_at[last] - clicked_at[first] <= reach:
                stormy[first : last + 1] = [True] * self.storm_clicks
        return stormy
