"""The pure middle of a decision: who decides for whom, what it is worth, and what is drawn."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pytest
from scipy import stats

from models.choice import ActionDistribution, ChoiceProblem, FloatArray, Predictions
from models.choose import Choices, choose, policy_of
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, Caps, Content, Mode, Offer, PolicyName, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, Channel, ContentKind, IdentityKind
from models.domain.customer import ConsentStatus, Customer
from models.domain.eligibility import eligible
from models.domain.errors import NoPredictionsError
from models.domain.experiment import Arm, Experiment, uniform
from models.draw import sample
from models.policy.bandit import Bandit
from models.policy.registry import build_policies
from training.simulator.market import Market as SimulatedMarket

NOW = datetime(2026, 3, 2, 1, tzinfo=UTC)
CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
CAMPAIGN = Campaign(
    campaign_id="spring",
    send_window=SendWindow(starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=10)),
    slots=(time(9), time(13), time(18)),
    offers=(
        Offer(offer_id="a", margin_minor=2_000.0, content={ContentKind.TEXT: Content(body="hello")}),
        Offer(offer_id="b", margin_minor=1_500.0, content={ContentKind.TEXT: Content(body="hello")}),
    ),
    channels=("email", "push", "sms"),
    experiment=Experiment(experiment_id="spring", holdout_share=0.2, control_share=0.3),
    conversion_value_minor=2_000.0,
    quiet_hours=QuietHours(start=time(21), end=time(8)),
)


class Market:
    """A response model whose answers follow from one feature."""

    feature_names = ("affinity",)

    def predict(self, features: FloatArray, grid: ActionGrid, channels: Mapping[str, Channel]) -> Predictions:
        assert set(grid.channels) <= set(channels)
        affinity = features[:, 0]
        n, shape = len(features), grid.shape
        p_open = np.clip(affinity, 0, 1)[:, None, None] * np.linspace(0.5, 1.0, shape[1] * shape[2]).reshape(
            shape[1:]
        )
        offer = np.array([1.0, 0.9])[: shape[0], None, None]
        return Predictions(
            p_open=p_open,
            p_convert=0.02 + 0.02 * p_open[:, None] * offer,
            p_convert_no_contact=np.full(n, 0.02),
            attention_minor=np.full((n, shape[1]), 0.5),
        )


def person(i: int) -> Customer:
    return Customer(
        customer_id=f"c-{i}",
        time_zone="Asia/Taipei",
        identities={IdentityKind.EMAIL: "x", IdentityKind.PHONE: "x", IdentityKind.DEVICE: "x"},
        consents={(name, "marketing"): ConsentStatus.GRANTED for name in CAMPAIGN.channels},
    )


def decide(
    campaign: Campaign,
    n: int,
    *,
    model: Market | None = None,
    ids: list[str] | None = None,
    people: list[Customer] | None = None,
    shadow: FloatArray | float = 0.0,
) -> Choices:
    persons = [person(i) for i in range(n)] if people is None else people
    affinity = np.array([uniform("affinity", p.customer_id) for p in persons]).reshape(-1, 1)
    return choose(
        campaign,
        CHANNELS,
        persons,
        affinity,
        model,
        build_policies(campaign, Bandit.fresh(campaign.channels, campaign.slots)),
        ids or [f"d-{i}" for i in range(n)],
        NOW,
        shadow_price_minor=shadow,
    )


def test_the_holdout_is_never_contacted_and_its_propensity_is_one() -> None:
    chosen = decide(CAMPAIGN, 500, model=Market())
    held = np.array([arm is Arm.HOLDOUT for arm in chosen.arms])
    assert 50 < held.sum() < 150
    assert (chosen.action[held] == chosen.grid.no_contact).all()
    assert (chosen.propensity[held] == 1.0).all()
    assert all(
        policy is None for policy, arm in zip(chosen.policies, chosen.arms, strict=True) if arm is Arm.HOLDOUT
    )


def test_control_gets_the_control_policy_and_treatment_the_campaigns() -> None:
    chosen = decide(CAMPAIGN, 300, model=Market())
    names = {
        arm: {
            policy.name
            for policy, other in zip(chosen.policies, chosen.arms, strict=True)
            if other is arm and policy
        }
        for arm in (Arm.CONTROL, Arm.TREATMENT)
    }
    assert names == {Arm.CONTROL: {"cheapest_first"}, Arm.TREATMENT: {"bandit"}}


def test_a_campaign_in_shadow_sends_by_the_control_policy() -> None:
    shadow = replace(CAMPAIGN, mode=Mode.SHADOW)
    assert policy_of(shadow, "c-1", Arm.TREATMENT) is PolicyName.CHEAPEST_FIRST
    assert policy_of(shadow, "c-1", Arm.HOLDOUT) is None


def test_a_canary_lets_in_its_share_and_the_same_customers_each_time() -> None:
    canary = replace(CAMPAIGN, mode=Mode.CANARY, canary_share=0.25)
    let_in = [policy_of(canary, f"c-{i}", Arm.TREATMENT) is PolicyName.BANDIT for i in range(4_000)]
    assert abs(np.mean(let_in) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4_000)
    wider = replace(canary, canary_share=0.5)
    assert all(
        policy_of(wider, f"c-{i}", Arm.TREATMENT) is PolicyName.BANDIT for i in range(4_000) if let_in[i]
    )


def test_a_decision_is_the_same_alone_and_among_others() -> None:
    together = decide(CAMPAIGN, 60, model=Market())
    for i in (0, 17, 59):
        alone = decide(CAMPAIGN, 1, model=Market(), people=[person(i)], ids=[f"d-{i}"])
        assert alone.action[0] == together.action[i]
        assert alone.propensity[0] == pytest.approx(together.propensity[i], abs=1e-12)


def test_the_same_decision_id_gives_the_same_choice() -> None:
    once, again = decide(CAMPAIGN, 100, model=Market()), decide(CAMPAIGN, 100, model=Market())
    assert once.action.tolist() == again.action.tolist()
    assert once.propensity.tolist() == again.propensity.tolist()


@pytest.mark.parametrize("policy", [PolicyName.BANDIT, PolicyName.UNIFORM])
def test_ten_thousand_replays_agree_with_the_logged_distribution(policy: PolicyName) -> None:
    everybody = replace(CAMPAIGN, policy=policy, experiment=Experiment(experiment_id="all"))
    n = 10_000
    chosen = decide(
        everybody, n, model=Market(), people=[person(7)] * n, ids=[f"replay-{i}" for i in range(n)]
    )
    law = chosen.probabilities[0]
    assert (chosen.probabilities == law).all()
    counts = np.bincount(chosen.action, minlength=len(law))
    assert not counts[law == 0].any()
    usual = law * n >= 5
    observed = np.append(counts[usual], counts[~usual].sum())
    expected = np.append(law[usual], law[~usual].sum()) * n
    used = expected > 0
    assert stats.chisquare(observed[used], expected[used] * observed.sum() / expected.sum()).pvalue > 0.001


def test_an_action_of_probability_zero_is_never_drawn_at_either_end() -> None:
    law = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]])
    edges = [0.0, 0.25, np.nextafter(0.5, 0), 0.5, 1 - 2**-53]
    assert [int(sample(law, np.array([u]))[0]) for u in edges] == [1, 1, 1, 3, 3]


def test_a_row_whose_sum_is_rounded_off_is_drawn_within_it() -> None:
    law = np.array([[0.1] * 10 + [0.0]])
    assert law.cumsum()[-1] != 1.0
    assert sample(law, np.array([1 - 2**-53]))[0] == 9


def test_without_a_model_the_control_policy_decides_and_nothing_is_ranked() -> None:
    rule = replace(CAMPAIGN, policy=PolicyName.CHEAPEST_FIRST)
    chosen = decide(rule, 50)
    assert chosen.predictions is None
    assert chosen.net_value_minor is None
    contacted = [chosen.grid.unravel(int(a)) for a in chosen.action if a != chosen.grid.no_contact]
    # Push is free; 09:00 in Taipei is now.
    assert Counter(contacted) == {(0, 1, 0): len(contacted)}


def test_without_a_model_the_bandit_refuses() -> None:
    with pytest.raises(NoPredictionsError, match="bandit"):
        decide(CAMPAIGN, 50)


def test_a_shadow_price_lowers_the_value_of_its_channel_by_as_much() -> None:
    free = decide(CAMPAIGN, 40, model=Market())
    priced = decide(CAMPAIGN, 40, model=Market(), shadow=np.array([0.0, 0.0, 3.0]))
    assert free.net_value_minor is not None
    assert priced.net_value_minor is not None
    change = (free.net_value_minor - priced.net_value_minor)[:, :-1].reshape(40, 2, 3, 3)
    assert np.allclose(change[:, :, 2], 3.0)
    assert np.allclose(change[:, :, :2], 0.0)


def test_a_price_beyond_every_value_leaves_everybody_alone() -> None:
    everybody = replace(CAMPAIGN, policy=PolicyName.GREEDY, experiment=Experiment(experiment_id="all"))
    chosen = decide(everybody, 30, model=Market(), shadow=1e6)
    assert (chosen.action == chosen.grid.no_contact).all()


@pytest.mark.parametrize("model", [None, Market()])
def test_nobody_asked_is_nobody_chosen_for(model: Market | None) -> None:
    chosen = decide(CAMPAIGN, 0, model=model)
    assert chosen.action.shape == (0,)
    assert chosen.probabilities.shape == (0, chosen.grid.n_actions)


def test_twenty_thousand_simulated_decisions_hold_no_ineligible_choice() -> None:
    market = SimulatedMarket("retail", 2_000, 5)
    campaign = replace(
        market.campaign(NOW),
        caps=Caps(contacts=3, contacts_per_channel=2, contacts_on={"sms": 1}),
        quiet_hours=QuietHours(start=time(20), end=time(10)),
    )
    policies = build_policies(campaign, Bandit.fresh(campaign.channels, campaign.slots))
    rows, rng = np.arange(2_000), np.random.default_rng(6)
    n_contacts = 0
    for day in range(10):
        now = NOW + timedelta(days=day, hours=day)
        people = market.people(rows, campaign)
        ids = [f"{day}/{row}" for row in rows]
        affinity = rng.random((2_000, 1))
        chosen = choose(campaign, market.channels(), people, affinity, Market(), policies, ids, now)
        assert np.abs(chosen.probabilities.sum(axis=1) - 1).max() <= 1e-6
        assert not chosen.probabilities[~chosen.mask].any()
        for someone, action in zip(people, chosen.action.tolist(), strict=True):
            place = chosen.grid.unravel(action)
            if place is not None:
                n_contacts += 1
                assert eligible(campaign, market.channels(), someone, now).reason(*place) is None
        market.respond(rows, chosen.action, market.start_at(rows, chosen.action, campaign, now), rng)
    assert n_contacts > 2_000


class Cheating:
    """Gives probability to whatever stands first, or too much to no contact."""

    name = "greedy"
    version = "1"

    def __init__(self, probabilities: list[float]) -> None:
        self.probabilities = probabilities

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        answer = np.zeros(problem.mask.shape)
        answer[:, [0, -1]] = self.probabilities
        return ActionDistribution(probabilities=answer)


@pytest.mark.parametrize(
    ("probabilities", "complaint"), [([1.0, 0.0], "not a candidate"), ([0.0, 0.9], "must be <= 1e-6")]
)
def test_a_policy_that_cheats_is_refused(probabilities: list[float], complaint: str) -> None:
    greedy = replace(CAMPAIGN, policy=PolicyName.GREEDY, experiment=Experiment(experiment_id="all"))
    unreachable = replace(person(1), identities={})
    with pytest.raises(ValueError, match=complaint):
        choose(
            greedy,
            CHANNELS,
            [unreachable],
            np.zeros((1, 1)),
            None,
            {PolicyName.GREEDY: Cheating(probabilities)},
            ["d-1"],
            NOW,
        )
