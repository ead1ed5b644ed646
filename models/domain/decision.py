"""The answer: one immutable decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from models.domain.action import Action, Exclusion
from models.domain.campaign import Mode
from models.domain.experiment import Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an action is expected to do; None where no model has said.

    Attributes:
        p_open: Probability that the message is opened, in [0, 1].
        p_convert: Probability of a conversion with this action, in [0, 1].
        p_convert_no_contact: The same without contact, in [0, 1].
        uplift: `p_convert - p_convert_no_contact`.
        cost_minor: Price of the contact, minor units.
        net_value_minor: `margin * worth * uplift - cost - shadow price - attention price`, minor units.
    """

    p_open: float | None
    p_convert: float | None
    p_convert_no_contact: float | None
    uplift: float | None
    cost_minor: float
    net_value_minor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another candidate; `action` None is no contact."""

    action: Action | None
    propensity: float
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What it takes to run the decision again and to learn from it.

    Attributes:
        features: Feature value by name; None where missing.
        distribution: Probability by action index, for every action above zero.
        net_value_minor: Expected net value by action index, for every candidate.
        cost_minor: Cost of a message by channel, minor units.
        price_minor: Cost, shadow price and attention price by channel, minor units; empty without predictions.
        n_candidates: How many there were, no contact included; None on a decision that came without.
        time_zone: The customer's, by which slots were placed; None on a decision that came without.
    """

    features: Mapping[str, float | None] = field(default_factory=dict)
    distribution: Mapping[int, float] = field(default_factory=dict)
    net_value_minor: Mapping[int, float] = field(default_factory=dict)
    cost_minor: Mapping[str, float] = field(default_factory=dict)
    price_minor: Mapping[str, float] = field(default_factory=dict)
    n_candidates: int | None = None
    time_zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What the optimiser would have done where the mode or the arm kept it out, or its choice had just run out.

    Attributes:
        policy: Name of the policy that would have chosen.
        action: Its choice, drawn with the decision's own seed; None is no contact.
        propensity: Probability of that choice, in (0, 1].
    """

    policy: str
    policy_version: str
    action: Action | None
    propensity: float
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """One campaign's part in a decision between several.

    Attributes:
        decision_id: Of the campaign's own decision, whose evidence says what it proposed from.
        action: The contact worth most of those that its policy may have proposed; None where it proposed none.
        net_value_minor: Of that contact; None without predictions.
        p_wins: Probability that this campaign makes the contact.
        distribution: Probability by index of the contact, in the campaign's own grid.
        won: Whether it made the contact.
    """

    campaign_id: str
    campaign_version: int
    decision_id: str
    arm: Arm
    policy: str
    policy_version: str
    action: Action | None
    net_value_minor: float | None
    p_wins: float
    distribution: Mapping[int, float]
    won: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Arbitration:
    """A decision between several campaigns.

    Attributes:
        propensity: Probability of the outcome among the candidates of all campaigns, in (0, 1].
        p_silence: Probability that none of them makes a contact.
        bids: One a campaign, in the order in which they were asked.
        left_out: Campaigns that were asked for and whose send window has closed.
    """

    propensity: float
    p_silence: float
    bids: tuple[Bid, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Which offer, on which channel, at what time, or no contact - and why.

    Attributes:
        decision_id: Also the seed of the draw.
        action: The choice; None is no contact.
        propensity: Probability with which `action` was chosen, after all constraints, in (0, 1].
        expected: Of the chosen action.
        alternatives: The other candidates, best first.
        exclusions: Why the rest of the grid holds no candidate.
        arm: Of the campaign's experiment.
        policy: Name of the policy that chose.
        policy_version: Of the bundle, or of the rule.
        degraded: What was missing, so that a simpler policy decided; empty when all was there.
        explanation: One sentence for people.
        parent_id: The decision that this one follows up.
        shadow: What the optimiser would have done; None where it decided, and in the control arm.
        arbitration: How the campaigns compared, where several were asked; None on those that made no contact.
        decided_with: The decision that was answered, on those of the other campaigns that were asked with it.
        lost_to: On these, the campaign that makes the contact; None where nobody does.
    """

    decision_id: str
    customer_id: str
    campaign_id: str
    campaign_version: int
    decided_at: datetime
    action: Action | None
    propensity: float
    expected: Expected
    alternatives: Sequence[Alternative]
    exclusions: tuple[Exclusion, ...]
    arm: Arm
    mode: Mode
    policy: str
    policy_version: str
    degraded: tuple[str, ...]
    explanation: str
    evidence: Evidence = field(default_factory=Evidence)
    parent_id: str | None = None
    dry_run: bool = False
    shadow: Shadow | None = None
    arbitration: Arbitration | None = None
    decided_with: str | None = None
    lost_to: str | None = None
