"""The first week of a campaign without history in simulated markets: the prior beside the cheapest channel first."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from models.choice import ChoiceProblem, Policy
from models.draw import sample
from models.logged import IntArray
from models.policy.bandit import Bandit
from models.policy.baselines import CheapestFirst
from models.response.prior import PriorResponse
from models.value import net_value
from training.simulator.market import Market
from training.simulator.yardstick import Situation, play

START = datetime(2026, 3, 2, 6, tzinfo=UTC)


def earned(market: Market, policy: Policy) -> float:
    """True expected net value of a week of decisions, one a customer, minor units."""
    campaign, channels = market.campaign(START), market.channels()
    grid = campaign.grid
    cost = np.array([channels[name].cost_minor or 0.0 for name in grid.channels])
    margin = np.array([offer.margin_minor for offer in campaign.offers])
    prior = PriorResponse(attention_value_minor=campaign.conversion_value_minor)

    def rule(now: Situation) -> IntArray:
        n = len(now.mask)
        predictions = prior.predict(np.zeros((n, 0)), grid, channels)
        problem = ChoiceProblem(
            grid=grid,
            mask=now.mask,
            send_at=np.tile(np.arange(len(grid.slots), dtype=np.float64), (n, 1)),
            cost_minor=cost,
            features=np.zeros((n, 0)),
            predictions=predictions,
            net_value_minor=net_value(predictions, margin, cost),
        )
        return sample(policy.distribution(problem).probabilities, now.rng.random(n)).astype(np.int64)

    return play(market.fork(), campaign, rule, START, 1, np.random.default_rng(0))


@pytest.mark.parametrize("seed", [11, 12, 13])
@pytest.mark.parametrize("preset", ["retail", "bank", "travel"])
def test_without_a_row_the_prior_earns_no_less_than_the_cheapest_channel_first(
    preset: str, seed: int
) -> None:
    market = Market(preset, 2_000, seed)
    campaign = market.campaign(START)
    margin = max(offer.margin_minor for offer in campaign.offers)
    by_prior = earned(market, Bandit.fresh(campaign.channels, campaign.slots).valued_at(margin))
    assert by_prior >= earned(market, CheapestFirst())
