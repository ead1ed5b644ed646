"""What policies are truly worth in a simulated market, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from sqlalchemy import Engine

from features.online import FeatureReader
from models.bundle import Bundle
from models.choice import FloatArray
from models.domain.campaign import Campaign, PolicyName
from models.domain.experiment import Experiment
from training.choices import Chooser
from training.simulator.market import Market

# Everybody is treated: the comparison is of policies, not of arms.
_EVERYBODY = Experiment(experiment_id="comparison")
_CHUNK = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTruth:
    """Mean net value of policies over the whole market, minor units a customer, nobody held out.

    Attributes:
        expected: What the live policy itself expects; None without a model.
        live: What it is truly worth.
        rivals: What control policies are truly worth, by name.
        oracle: What full knowledge of the truth would earn.
    """

    expected: float | None
    live: float
    rivals: Mapping[str, float]
    oracle: float

    @property
    def percent_of_oracle(self) -> float:
        """`100 * live / oracle`."""
        return 100 * self.live / self.oracle


def true_values(
    market: Market,
    engine: Engine,
    features: FeatureReader,
    campaign: Campaign,
    bundle: Bundle | None,
    now: datetime,
) -> PolicyTruth:
    """Value the live policy, control policies, the best constant action and the oracle by the market's truth."""
    rows = np.arange(market.n_customers)
    truth = market.expected_net_value(rows, now)
    mask = market.mask(rows, campaign, now)
    possible = np.where(mask, truth, 0.0)
    serving = replace(campaign, experiment=_EVERYBODY)
    if bundle is None:
        serving = replace(serving, policy=campaign.control_policy)
    live, expected = _worth(market, engine, features, serving, bundle, truth, now)
    rivals: dict[str, float] = {}
    for policy in (PolicyName.CHEAPEST_FIRST, PolicyName.UNIFORM):
        rival = replace(campaign, experiment=_EVERYBODY, policy=policy, control_policy=policy)
        rivals[policy], _ = _worth(market, engine, features, rival, bundle, truth, now)
    rivals["best constant action in hindsight"] = float(possible.mean(axis=0).max())
    return PolicyTruth(
        expected=expected,
        live=live,
        rivals=rivals,
        oracle=float(np.where(mask, truth, -np.inf).max(axis=1).mean()),
    )


def _worth(
    market: Market,
    engine: Engine,
    features: FeatureReader,
    campaign: Campaign,
    bundle: Bundle | None,
    truth: FloatArray,
    now: datetime,
) -> tuple[float, float | None]:
    """True and expected mean net value of a campaign's policy."""
    chooser = Chooser(engine, features, campaign, market.channels(), bundle)
    ids = market.customer_ids()
    true_sum = expected_sum = 0.0
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        _, choices = chooser.choose(part, now)
        at = np.arange(len(part))
        true_sum += float(truth[start + at, choices.action].sum())
        if choices.net_value_minor is not None:
            expected_sum += float(choices.net_value_minor[at, choices.action].sum())
    return true_sum / len(ids), None if bundle is None else expected_sum / len(ids)
