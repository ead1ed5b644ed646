"""Laws of the choice between campaigns."""

from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.arbitration import Proposal, arbitrate, draw_again
from models.choice import Predictions
from models.choose import policy_of
from models.domain.campaign import Campaign, Content, Mode, Offer, PolicyName, SendWindow
from models.domain.channel import ContentKind
from models.domain.experiment import Arm, Experiment
from models.draw import sample
from models.value import net_value

DRAWS = st.floats(0, 1, exclude_max=True)
VALUES = st.floats(-50, 50).map(lambda value: round(value, 1))  # rounded, so that ties come up


@st.composite
def proposals(draw, least=1, most=3, with_values=True):
    """Distributions and values of campaigns for one customer; some actions are no candidates."""
    made = []
    for _ in range(draw(st.integers(least, most))):
        n_contacts = draw(st.integers(1, 3))
        some = st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=n_contacts, max_size=n_contacts)
        weights = np.array([*draw(some), draw(st.sampled_from([0.0, 0.5, 3.0]))])
        if weights.sum() == 0:
            weights[-1] = 1.0
        values = np.array([*draw(st.lists(VALUES, min_size=n_contacts, max_size=n_contacts)), 0.0])
        made.append(Proposal((weights / weights.sum())[None], values[None] if with_values else None))
    return made


def greedy(*values_of_campaign: list[float]) -> list[Proposal]:
    """What the greedy policy proposes: its best contact, or none where that is worth less than nothing."""
    made = []
    for values in values_of_campaign:
        ranked = np.array([*values, 0.0])
        chosen = np.zeros(len(ranked))
        chosen[len(ranked) - 1 if max(values) <= 0 else int(np.argmax(values))] = 1.0
        made.append(Proposal(chosen[None], ranked[None]))
    return made


@given(proposals(), DRAWS)
def test_the_probabilities_of_all_campaigns_and_of_silence_sum_to_one(given_proposals, draw):
    outcome = arbitrate(given_proposals, np.array([draw]))
    contacts = sum(each[0, :-1].sum() for each in outcome.probabilities)
    assert contacts + outcome.p_silence[0] == pytest.approx(1.0)
    for each in outcome.probabilities:
        assert each[0].sum() == pytest.approx(1.0)
        assert (each >= 0).all()
    assert 0 < outcome.propensity[0] <= 1


@given(proposals(), DRAWS)
def test_they_are_those_of_all_campaigns_proposing_on_their_own_and_the_best_proposal_winning(
    given_proposals, draw
):
    """Every joint outcome of independent proposals, one by one."""
    outcome = arbitrate(given_proposals, np.array([draw]))
    expected = [np.zeros(one.probabilities.shape[1] - 1) for one in given_proposals]
    for joint in product(*(range(one.probabilities.shape[1]) for one in given_proposals)):
        p = np.prod([one.probabilities[0, a] for one, a in zip(given_proposals, joint, strict=True)])
        bids = [
            (one.net_value_minor[0, a], -k, k, a)
            for k, (one, a) in enumerate(zip(given_proposals, joint, strict=True))
            if a < one.probabilities.shape[1] - 1
        ]
        if bids:
            _, _, k, a = max(bids)
            expected[k][a] += p
    for each, wanted in zip(outcome.probabilities, expected, strict=True):
        assert each[0, :-1] == pytest.approx(wanted, abs=1e-12)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=3, max_size=3), DRAWS)
def test_of_three_greedy_campaigns_the_one_with_the_best_net_value_wins(values, draw):
    outcome = arbitrate(greedy(*values), np.array([draw]))
    best = max(max(each) for each in values)
    if best <= 0:
        assert outcome.winner[0] == -1
    else:
        assert values[outcome.winner[0]][outcome.action[0]] == best
        assert outcome.winner[0] == min(k for k, each in enumerate(values) if max(each) == best)
    assert outcome.propensity[0] == 1.0


@given(proposals(most=1), DRAWS)
def test_one_campaign_in_the_list_is_the_same_as_asking_for_it_alone(given_proposals, draw):
    (one,) = given_proposals
    outcome = arbitrate(given_proposals, np.array([draw]))
    assert outcome.probabilities[0] is one.probabilities
    (alone,) = sample(one.probabilities, np.array([draw])).tolist()
    silent = alone == one.probabilities.shape[1] - 1
    assert outcome.action[0] == (-1 if silent else alone)
    assert outcome.propensity[0] == one.probabilities[0, alone]


@given(proposals(least=2), DRAWS)
def test_what_is_no_candidate_never_wins_and_a_campaign_less_never_harms_the_others(given_proposals, draw):
    outcome = arbitrate(given_proposals, np.array([draw]))
    for one, each in zip(given_proposals, outcome.probabilities, strict=True):
        assert (each[0, :-1][one.probabilities[0, :-1] == 0] == 0).all()
    # The last campaign loses all of its candidates: the others keep theirs, and their chances only grow.
    without = arbitrate(given_proposals[:-1], np.array([draw]))
    for before, after in zip(outcome.probabilities, without.probabilities, strict=False):
        assert (after[0, :-1] >= before[0, :-1] - 1e-12).all()


@given(proposals(least=2))
def test_the_order_of_campaigns_matters_only_at_equal_value(given_proposals):
    values = [v for one in given_proposals for v in one.net_value_minor[0, :-1].tolist()]
    if len(set(values)) < len(values):
        return
    forth = arbitrate(given_proposals, np.array([0.5])).probabilities
    back = arbitrate(given_proposals[::-1], np.array([0.5])).probabilities[::-1]
    for one, other in zip(forth, back, strict=True):
        assert one == pytest.approx(other)


@given(proposals(with_values=False, least=2), DRAWS)
def test_without_predictions_the_campaign_that_is_named_first_goes_first(given_proposals, draw):
    outcome = arbitrate(given_proposals, np.array([draw]))
    assert outcome.probabilities[0][0] == pytest.approx(given_proposals[0].probabilities[0])


CHANCES = st.floats(0, 0.2).map(lambda p: round(p, 3))
PRICES = st.floats(0, 40).map(lambda price: round(price, 1))


@st.composite
def three_campaigns(draw):
    """Predictions, margins and costs of three campaigns for one customer: 2 offers, 2 channels, 2 slots each."""

    def some(strategy, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(strategy, min_size=size, max_size=size))).reshape(shape)

    return [
        {
            "p_convert": some(CHANCES, 1, 2, 2, 2),
            "p_convert_no_contact": some(CHANCES, 1),
            "margin_minor": some(st.sampled_from([100.0, 1000.0, 4000.0]), 2),
            "cost_minor": some(PRICES, 2),
        }
        for _ in range(3)
    ]


def bids(campaigns, attention) -> list[Proposal]:
    """What the greedy policy proposes for each, with what a message by each of the channels loses in attention."""
    values = [
        net_value(
            Predictions(
                p_open=np.zeros_like(one["p_convert"]),
                p_convert=one["p_convert"],
                p_convert_no_contact=one["p_convert_no_contact"],
                attention_minor=np.array([attention]),
            ),
            one["margin_minor"],
            one["cost_minor"],
        )
        for one in campaigns
    ]
    return greedy(*(each[0, :-1].tolist() for each in values))


@given(three_campaigns(), st.tuples(PRICES, PRICES), DRAWS)
def test_of_three_campaigns_the_best_by_net_value_after_the_attention_price_makes_the_contact(
    campaigns, attention, draw
):
    worth = {
        (k, (o * 2 + c) * 2 + s): one["margin_minor"][o]
        * (one["p_convert"][0, o, c, s] - one["p_convert_no_contact"][0])
        - one["cost_minor"][c]
        - attention[c]
        for k, one in enumerate(campaigns)
        for o, c, s in product(range(2), repeat=3)
    }
    outcome = arbitrate(bids(campaigns, attention), np.array([draw]))
    best = max(worth.values())
    if outcome.winner[0] == -1:
        assert best <= 1e-9
    else:
        assert worth[int(outcome.winner[0]), int(outcome.action[0])] == pytest.approx(best)
        assert best > -1e-9


@given(three_campaigns(), st.tuples(PRICES, PRICES), st.floats(0.1, 50), DRAWS)
def test_a_dearer_attention_never_makes_a_contact_out_of_silence_nor_moves_one_to_the_dearer_channel(
    campaigns, attention, more, draw
):
    def channel_of(outcome) -> int | None:
        return None if outcome.winner[0] == -1 else int(outcome.action[0]) // 2 % 2

    before = channel_of(arbitrate(bids(campaigns, attention), np.array([draw])))
    dearer = (attention[0] + more, attention[1])
    after = channel_of(arbitrate(bids(campaigns, dearer), np.array([draw])))
    if before is None:
        assert after is None
    if before == 1:
        assert after == 1
    # At a price that no message can earn, everybody is silent.
    unbearable = (1e6, 1e6)
    assert channel_of(arbitrate(bids(campaigns, unbearable), np.array([draw]))) is None


@given(three_campaigns(), st.tuples(PRICES, PRICES), DRAWS)
def test_one_price_of_attention_for_all_campaigns_leaves_their_order_on_a_channel_as_it_is(
    campaigns, attention, draw
):
    """On one channel everybody loses the same, so who wins by it is who would win for nothing, if anybody does."""
    one_channel = [
        one | {"p_convert": one["p_convert"][:, :, :1], "cost_minor": one["cost_minor"][:1]}
        for one in campaigns
    ]
    free = arbitrate(bids(one_channel, attention[:1]), np.array([draw]))
    dear = arbitrate(bids(one_channel, (attention[0] + 5.0,)), np.array([draw]))
    if dear.winner[0] != -1:
        values = [each.net_value_minor[0, :-1].max() for each in bids(one_channel, attention[:1])]
        assert values[dear.winner[0]] == pytest.approx(values[free.winner[0]], abs=1e-9)


@given(proposals(), DRAWS)
def test_the_draw_can_be_made_again_from_what_is_recorded(given_proposals, draw):
    outcome = arbitrate(given_proposals, np.array([draw]))
    recorded = [
        {index: p for index, p in enumerate(each[0, :-1].tolist()) if p > 0} for each in outcome.probabilities
    ]
    again = draw_again(recorded, float(outcome.p_silence[0]), draw)
    assert again == (outcome.winner[0], outcome.action[0], outcome.propensity[0])


def canary(share: float) -> Campaign:
    text = {ContentKind.TEXT: Content(body="Coats are in.")}
    return Campaign(
        campaign_id="spring",
        send_window=SendWindow(
            starts_at=datetime(2026, 3, 1, tzinfo=UTC), ends_at=datetime(2026, 4, 1, tzinfo=UTC)
        ),
        slots=(time(9),),
        offers=(Offer(offer_id="coats", margin_minor=3000.0, content=text),),
        channels=("email",),
        experiment=Experiment(experiment_id="spring"),
        conversion_value_minor=3000.0,
        mode=Mode.CANARY,
        canary_share=share,
    )


def in_canary(share: float, n: int = 20_000) -> set[int]:
    campaign = canary(share)
    return {i for i in range(n) if policy_of(campaign, f"c{i}", Arm.TREATMENT) is PolicyName.BANDIT}


def test_the_canary_holds_its_share_and_growing_it_takes_nobody_out():
    five, ten, all_of_them = in_canary(0.05), in_canary(0.10), in_canary(1.0)
    # 0.10 * 20,000 = 2,000; standard deviation sqrt(20,000 * 0.1 * 0.9) = 42; five of them
    assert abs(len(ten) - 2_000) < 5 * 42
    assert abs(len(five) - 1_000) < 5 * 31
    assert five < ten < all_of_them
    assert len(all_of_them) == 20_000
    assert in_canary(0.0) == set()
