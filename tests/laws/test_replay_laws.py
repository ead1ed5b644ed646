"""A decision's values can be computed again from what was recorded, and only by what decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pytest

from models.choice import FloatArray, Predictions
from models.choose import choose
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, Content, Offer, PolicyName, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, Channel, ContentKind, IdentityKind
from models.domain.customer import ConsentStatus, Customer
from models.domain.experiment import Experiment
from models.explanation.flips import Ranking
from models.explanation.replay import replay
from models.policy.bandit import Bandit
from models.policy.corrections import Corrections
from models.policy.registry import build_policies

NOW = datetime(2026, 3, 2, 1, tzinfo=UTC)
CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
NAMES, SLOTS = ("email", "push", "sms"), (time(9), time(18))
FRESH = Bandit.fresh(NAMES, SLOTS)
LEARNED = replace(
    FRESH,
    corrections=Corrections.from_vectors(
        np.random.default_rng(5).normal(0, 0.5, FRESH.corrections.vectors.shape).astype(np.float32),
        FRESH.corrections,
    ),
)
# Reachable by e-mail and push; SMS is excluded.
ADA = Customer(
    customer_id="ada",
    time_zone="Asia/Taipei",
    identities={IdentityKind.EMAIL: "a@example.com", IdentityKind.DEVICE: "d"},
    consents={(name, "marketing"): ConsentStatus.GRANTED for name in NAMES},
)


class Market:
    """A response model whose answers follow from one feature; `lift` scales its effects."""

    feature_names = ("affinity",)

    def __init__(self, lift: float = 1.0) -> None:
        self.lift = lift

    def predict(self, features: FloatArray, grid: ActionGrid, channels: Mapping[str, Channel]) -> Predictions:
        assert set(grid.channels) <= set(channels)
        n, shape = len(features), grid.shape
        spread = np.linspace(0.4, 0.9, shape[1] * shape[2]).reshape(shape[1:])
        p_open = features[:, 0, None, None] * spread
        return Predictions(
            p_open=p_open,
            p_convert=np.broadcast_to(0.02 + self.lift * 0.02 * p_open[:, None], (n, *shape)),
            p_convert_no_contact=np.full(n, 0.02),
            attention_minor=np.full((n, shape[1]), 0.5),
        )


def campaign(policy: PolicyName) -> Campaign:
    return Campaign(
        campaign_id="spring",
        send_window=SendWindow(starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=9)),
        slots=SLOTS,
        offers=(
            Offer(offer_id="a", margin_minor=2_000.0, content={ContentKind.TEXT: Content(body="hello")}),
        ),
        channels=NAMES,
        experiment=Experiment(experiment_id="spring"),
        conversion_value_minor=2_000.0,
        policy=policy,
    )


@pytest.mark.parametrize("policy", [PolicyName.GREEDY, PolicyName.BANDIT])
@pytest.mark.parametrize("shadow", [0.0, 3.0])
def test_what_decided_gives_the_recorded_values_again_and_values_what_was_excluded(policy, shadow):
    features = np.array([[0.7]])
    asked = campaign(policy)
    policies = build_policies(asked, LEARNED)
    prices = np.array([0.0, shadow, shadow])
    choices = choose(
        asked, CHANNELS, [ADA], features, Market(), policies, ["d"], NOW, shadow_price_minor=prices
    )
    assert choices.net_value_minor is not None
    assert choices.price_minor is not None
    cost = np.array([CHANNELS[name].cost_minor for name in NAMES])
    assert choices.price_minor[0] == pytest.approx(cost + prices + 0.5)
    mask = choices.mask[0]
    recorded = Ranking(
        grid=choices.grid,
        mask=mask,
        net_value_minor=np.where(mask, choices.net_value_minor[0], 0.0),
        price_minor=choices.price_minor[0],
        cost_minor=cost,
        margin_minor=np.array([2_000.0]),
        send_at=np.array([moment.timestamp() for moment in choices.eligibility[0].send_at]),
    )
    again = replay(recorded, Market(), policies[policy], CHANNELS, features[0])
    assert again.reproduced
    assert not mask[recorded.of_channel(2)].any()
    assert again.ranking.net_value_minor == pytest.approx(choices.net_value_minor[0])
    assert again.p_open == pytest.approx(choices.p_open[0])

    assert not replay(recorded, Market(1.001), policies[policy], CHANNELS, features[0]).reproduced
    if policy is PolicyName.BANDIT:
        forgetful = build_policies(asked, FRESH)[policy]
        assert not replay(recorded, Market(), forgetful, CHANNELS, features[0]).reproduced
