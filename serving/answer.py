"""From one row of the choice arrays to the decision that is recorded and answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from features.history.evidence import Numbers
from features.history.shown import Alternatives, Option, write_contact
from models.choice import FloatArray, Policy
from models.choose import Choices
from models.domain.action import Action
from models.domain.campaign import LEARNED, Campaign
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.decision import Decision, Evidence, Expected
from serving.explain.summary import Grounds, Ranked, explain
from serving.layout import Layout, lay_out
from serving.money import Currency

HOLDOUT_POLICY = "holdout"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the rows of one call of `choose` have in common.

    Attributes:
        model_version: Of the bundle; None without one.
        feature_names: Names of the columns of the features that are logged.
    """

    campaign: Campaign
    channels: Mapping[str, Channel]
    model_version: str | None
    feature_names: Sequence[str]
    currency: Currency
    now: datetime

    @cached_property
    def cost_minor(self) -> dict[str, float]:
        """Cost of a message by channel of the campaign."""
        return {name: self.channels[name].cost_minor or 0.0 for name in self.campaign.channels}

    def layout_of(self, choices: Choices) -> Layout:
        """The layout of one of the call's choices, worked out once for all its rows."""
        known = self._layouts.get(id(choices))
        if known is None:
            known = self._layouts[id(choices)] = choices, lay_out(choices, self.campaign)
        return known[1]

    @cached_property
    def _layouts(self) -> dict[int, tuple[Choices, Layout]]:
        """By the choices' identity, which holds as long as they are kept."""
        return {}


def to_decision(
    choices: Choices,
    row: int,
    setting: Setting,
    *,
    decision_id: str,
    customer: Customer,
    features: FloatArray,
    degraded: tuple[str, ...],
    dry_run: bool,
    parent_id: str | None = None,
) -> Decision:
    """The decision of one row.

    Args:
        choices: What `choose` answered.
        row: Which customer of it.
        setting: Of the call.
        decision_id: The id that seeded the draw.
        customer: The person.
        features: Their features, shape (F,); NaN where missing.
        degraded: What was missing.
        dry_run: Whether the decision is only shown.
        parent_id: The decision that it follows.
    """
    campaign, laid = setting.campaign, setting.layout_of(choices)
    chosen, *others = _options(laid, row, setting)
    action = chosen.contact.action
    propensity = float(choices.propensity[row])
    exclusions = laid.exclusions[row]
    name, version = version_of(choices.policies[row], setting.model_version)
    return Decision(
        decision_id=decision_id,
        customer_id=customer.customer_id,
        campaign_id=campaign.campaign_id,
        campaign_version=campaign.version,
        decided_at=setting.now,
        action=action,
        propensity=propensity,
        expected=chosen.expected,
        alternatives=Alternatives(others),
        exclusions=exclusions,
        arm=choices.arms[row],
        mode=campaign.mode,
        policy=name,
        policy_version=version,
        degraded=degraded,
        explanation=explain(
            Grounds(
                action=action,
                propensity=propensity,
                net_value_minor=chosen.net_value_minor,
                alternatives=[Ranked(one.contact.action, one.net_value_minor) for one in others],
                exclusions=exclusions,
                arm=choices.arms[row],
                policy=name,
                n_candidates=len(laid.candidates[row][0]),
                time_zone=customer.time_zone,
            ),
            setting.currency,
        ),
        evidence=_evidence(laid, row, setting, customer, features),
        parent_id=parent_id,
        dry_run=dry_run,
    )


def version_of(policy: Policy | None, model_version: str | None) -> tuple[str, str]:
    """Name and version of the policy that chose; None is the holdout's, which never contacts anybody."""
    if policy is None:
        return HOLDOUT_POLICY, "1"
    if policy.name in LEARNED and model_version is not None:
        return policy.name, model_version
    return policy.name, policy.version


def action_of(choices: Choices, row: int, index: int, campaign: Campaign) -> Action | None:
    """The action of an index of the grid; None is no contact."""
    axes = choices.grid.unravel(index)
    if axes is None:
        return None
    offer, channel, slot = axes
    return write_contact(
        choices.grid.offers[offer],
        choices.grid.channels[channel],
        slot,
        choices.eligibility[row].send_at[slot],
        timedelta(seconds=campaign.message_ttl_seconds),
    ).action


def expected_of(choices: Choices, row: int, index: int, setting: Setting) -> Expected:
    """What the action of that index is expected to do."""
    axes = choices.grid.unravel(index)
    predictions = choices.predictions
    cost = 0.0 if axes is None else setting.cost_minor[choices.grid.channels[axes[1]]]
    if predictions is None:
        return _unknown(cost)
    base = float(predictions.p_convert_no_contact[row])
    p_open, p_convert = None, base
    if axes is not None:
        offer, channel, slot = axes
        p_convert = float(predictions.p_convert[row, offer, channel, slot])
        if choices.p_open is not None:
            p_open = float(choices.p_open[row, channel, slot])
    value = None if choices.net_value_minor is None else float(choices.net_value_minor[row, index])
    return Expected(
        p_open=p_open,
        p_convert=p_convert,
        p_convert_no_contact=base,
        uplift=p_convert - base,
        cost_minor=cost,
        net_value_minor=value,
    )


def _options(laid: Layout, row: int, setting: Setting) -> list[Option]:
    """What is laid out for a customer; what it says of an action is `expected_of`."""
    contacts, propensity, cost = laid.options[row], laid.propensity[row], setting.cost_minor
    costs = [0.0 if contact.action is None else cost[contact.action.channel] for contact in contacts]
    if laid.p_convert is None or laid.p_convert_no_contact is None:
        nothing = [None] * len(contacts)
        return list(map(Option, contacts, propensity, nothing, nothing, nothing, nothing, costs, nothing))
    p_convert, base = laid.p_convert[row], laid.p_convert_no_contact[row]
    p_open = [None] * len(contacts) if laid.p_open is None else laid.p_open[row]
    values = [None] * len(contacts) if laid.net_value_minor is None else laid.net_value_minor[row]
    return [
        Option(
            contact,
            propensity[at],
            None if contact.action is None else p_open[at],
            p_convert[at],
            base,
            p_convert[at] - base,
            costs[at],
            values[at],
        )
        for at, contact in enumerate(contacts)
    ]


def _unknown(cost_minor: float) -> Expected:
    return Expected(
        p_open=None,
        p_convert=None,
        p_convert_no_contact=None,
        uplift=None,
        cost_minor=cost_minor,
        net_value_minor=None,
    )


def _evidence(laid: Layout, row: int, setting: Setting, customer: Customer, features: FloatArray) -> Evidence:
    candidates, values = laid.candidates[row]
    drawn, probabilities = laid.drawn[row]
    prices = laid.price_minor
    return Evidence(
        features=Numbers(setting.feature_names, features),
        distribution=Numbers(drawn, probabilities),
        net_value_minor=Numbers(candidates[: len(values)], values),
        cost_minor=setting.cost_minor,
        price_minor={} if prices is None else dict(zip(setting.cost_minor, prices[row], strict=True)),
        n_candidates=len(candidates),
        time_zone=customer.time_zone,
    )
