"""A log of randomised decisions: the warm-up that everything first learns from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from models.choice import BoolArray, FloatArray
from models.domain.action import Action
from models.domain.campaign import Campaign, PolicyName
from models.domain.decision import Decision, Expected
from models.domain.errors import require
from models.domain.experiment import Arm
from models.domain.interaction import Interaction
from models.draw import sample
from models.logged import IntArray
from training.simulator.facts import moment
from training.simulator.market import Market
from training.simulator.outcomes import Outcomes
from training.simulator.people import SOURCE, customer_id

POLICY_VERSION = f"{SOURCE}-warm-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomisedLog:
    """Decisions drawn without a look at the customer, and what followed.

    Attributes:
        campaign: The campaign that asked.
        decision_ids: Shape (n,).
        row: Customer, shape (n,).
        action: Index in the campaign's grid, shape (n,).
        propensity: Probability of that action, shape (n,), in (0, 1].
        decided_at: Seconds since 1970, shape (n,).
        start_at: Send time, or time of decision for no contact, seconds since 1970, shape (n,).
        cost_minor: Cost of the contact, minor units, shape (n,).
        net_value_minor: True expected net value of the action (for yardsticks, never for a learner), shape (n,).
        interactions: What the history gets to see: outcomes, and everyday behaviour in between.
    """

    campaign: Campaign
    decision_ids: list[str]
    row: IntArray
    action: IntArray
    propensity: FloatArray
    decided_at: FloatArray
    start_at: FloatArray
    cost_minor: FloatArray
    net_value_minor: FloatArray
    interactions: list[Interaction]

    def __len__(self) -> int:
        return len(self.row)

    def decisions(self) -> list[Decision]:
        """The same as domain objects, which the history takes."""
        grid = self.campaign.grid
        lifetime = timedelta(seconds=self.campaign.message_ttl_seconds)
        found = []
        for i, decision_id in enumerate(self.decision_ids):
            index = grid.unravel(int(self.action[i]))
            action = None
            if index is not None:
                send_at = moment(self.start_at[i])
                action = Action(
                    offer=grid.offers[index[0]],
                    channel=grid.channels[index[1]],
                    slot=index[2],
                    send_at=send_at,
                    expires_at=send_at + lifetime,
                )
            found.append(
                Decision(
                    decision_id=decision_id,
                    customer_id=customer_id(int(self.row[i])),
                    campaign_id=self.campaign.campaign_id,
                    campaign_version=self.campaign.version,
                    decided_at=moment(self.decided_at[i]),
                    action=action,
                    propensity=float(self.propensity[i]),
                    expected=Expected(
                        p_open=None,
                        p_convert=None,
                        p_convert_no_contact=None,
                        uplift=None,
                        cost_minor=float(self.cost_minor[i]),
                        net_value_minor=None,
                    ),
                    alternatives=(),
                    exclusions=(),
                    arm=Arm.TREATMENT,
                    mode=self.campaign.mode,
                    policy=PolicyName.UNIFORM,
                    policy_version=POLICY_VERSION,
                    degraded=(),
                    explanation="Drawn at random to learn from.",
                )
            )
        return found


def randomised_log(
    market: Market,
    campaign: Campaign,
    start: datetime,
    days: int,
    decisions_per_day: int,
    no_contact_share: float,
    rng: np.random.Generator,
) -> RandomisedLog:
    """Decide at random for some customers each day, and move the market on.

    Customers take turns in one random order, so that decisions of one customer lie as far apart as they can.
    No contact is drawn with `no_contact_share`, every other candidate with an equal part of the rest; a
    customer who has no other candidate is left alone with probability 1.

    Args:
        market: Moved on by `days`.
        campaign: Whose offers, channels, slots and caps apply.
        start: Of the first day, aware; decisions are made at this time of each day.
        days: How many.
        decisions_per_day: At most the number of customers.
        no_contact_share: In (0, 1).
        rng: Source of chance.
    """
    require(0 < no_contact_share < 1, "no_contact_share", no_contact_share, "must be in (0, 1)")
    require(
        0 < decisions_per_day <= market.n_customers,
        "decisions_per_day",
        decisions_per_day,
        f"must be in [1, {market.n_customers}]",
    )
    turns = rng.permutation(market.n_customers)
    interactions: list[Interaction] = []
    decision_ids: list[str] = []
    parts: list[tuple[IntArray, IntArray, FloatArray, FloatArray, Outcomes, FloatArray]] = []
    for day in range(days):
        now = start + timedelta(days=day)
        first = day * decisions_per_day
        rows = turns[np.arange(first, first + decisions_per_day) % market.n_customers]
        p = random_distribution(market.mask(rows, campaign, now), no_contact_share)
        action, propensity = _draw(p, rng)
        at = np.arange(len(rows))
        value = market.expected_net_value(rows, now)[at, action]
        outcomes = market.respond(rows, action, market.start_at(rows, action, campaign, now), rng)
        ids = [f"{campaign.campaign_id}-{first + i:09d}" for i in range(len(rows))]
        decided_at = np.full(len(rows), now.timestamp())
        interactions += market.interactions(outcomes, ids, campaign.campaign_id)
        interactions += market.everyday(now, 1)
        market.advance()
        decision_ids += ids
        parts.append((rows, action, propensity, decided_at, outcomes, value))
    return RandomisedLog(
        campaign=campaign,
        decision_ids=decision_ids,
        row=np.concatenate([part[0] for part in parts]),
        action=np.concatenate([part[1] for part in parts]),
        propensity=np.concatenate([part[2] for part in parts]),
        decided_at=np.concatenate([part[3] for part in parts]),
        start_at=np.concatenate([part[4].start_at for part in parts]),
        cost_minor=np.concatenate([part[4].cost_minor for part in parts]),
        net_value_minor=np.concatenate([part[5] for part in parts]),
        interactions=interactions,
    )


def random_distribution(mask: BoolArray, no_contact_share: float) -> FloatArray:
    """No contact with a share, the other candidates alike; shape (n, A), rows sum to 1."""
    n_contacts = mask[:, :-1].sum(axis=1)
    p: FloatArray = mask / np.maximum(n_contacts, 1)[:, None] * (1 - no_contact_share)
    p[:, -1] = np.where(n_contacts > 0, no_contact_share, 1.0)
    return p


def _draw(p: FloatArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    action = sample(p, rng.random(len(p)))
    return action.astype(np.int64), p[np.arange(len(p)), action]
