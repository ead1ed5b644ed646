"""What somebody who asks could be given of what is scarce: kept of some requests, for those who come on the days after.

It says nothing of who asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from models.candidates import mask_of
from models.choice import FloatArray
from models.choose import Choices
from models.domain.campaign import LEARNED
from models.domain.customer import Customer
from models.domain.eligibility import Limits, eligible
from serving.answer import Setting


class Option(NamedTuple):
    """A contact that somebody could be given.

    Attributes:
        campaign_id: Whose.
        channel: Over which.
        days_ahead: UTC days from the request to the message.
        value_minor: What the best such contact is worth, cost taken off and shadow price not, minor units; None where a
            rule decides.
        messages: Where a rule decides, how many it is expected to decide on, in [0, 1]; else 0.
    """

    campaign_id: str
    channel: str
    days_ahead: int
    value_minor: float | None
    messages: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that was looked at.

    Attributes:
        at: When, aware.
        n: Requests that it stands for, >= 1.
        campaigns: Which were asked.
        options: What could be given; nothing where nobody may be contacted.
    """

    at: datetime
    n: int
    campaigns: tuple[str, ...]
    options: tuple[Option, ...]


def options_of(
    choices: Choices,
    row: int,
    setting: Setting,
    customer: Customer,
    limits: Limits,
    shadow_price_minor: FloatArray | float,
) -> list[Option]:
    """What one campaign could give one customer, whether there was something left or not.

    Args:
        choices: What was decided.
        row: Which customer of it.
        setting: Of the call.
        customer: The person, as they were decided for.
        limits: Of a follow-up; nothing in them of what is left.
        shadow_price_minor: That the customer was decided for at, shape (C,).
    """
    policy = choices.policies[row]
    if policy is None:  # the holdout is given nothing
        return []
    campaign, grid = setting.campaign, choices.grid
    verdict = eligible(campaign, setting.channels, customer, setting.now, limits)
    today = setting.now.astimezone(UTC).date()
    ahead = [(moment.astimezone(UTC).date() - today).days for moment in verdict.send_at]
    if policy.name in LEARNED and choices.net_value_minor is not None:
        mask = mask_of(grid, (verdict,))[0, :-1].reshape(grid.shape)
        value = np.where(mask, choices.net_value_minor[row, :-1].reshape(grid.shape), -np.inf)
        by_slot = value.max(axis=0) + np.reshape(shadow_price_minor, (-1, 1))
        best = by_slot.argmax(axis=1)
        return [
            Option(campaign.campaign_id, name, ahead[slot], float(by_slot[at, slot]), 0.0)
            for at, (name, slot) in enumerate(zip(grid.channels, best.tolist(), strict=True))
            if by_slot[at, slot] > 0  # else nobody would choose it
        ]
    messages = choices.probabilities[row, :-1].reshape(grid.shape).sum(axis=0)
    return [
        Option(campaign.campaign_id, name, day, None, expected)
        for at, name in enumerate(grid.channels)
        for day in sorted(set(ahead))
        if (expected := float(messages[at, [one == day for one in ahead]].sum())) > 0
    ]
