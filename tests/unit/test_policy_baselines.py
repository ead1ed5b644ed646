"""The rules a marketer would write do what their names say."""

from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from models.choice import ChoiceProblem, Policy
from models.domain.action import ActionGrid
from models.domain.errors import InvalidInputError, NoPredictionsError
from models.policy.baselines import CheapestFirst, FixedTime, Greedy, Pinned, Uniform

# Two offers, three channels, two slots; the second slot comes round first.
GRID = ActionGrid(("a", "b"), ("sms", "email", "push"), (time(9), time(18)))
SMS, EMAIL, PUSH = range(3)


def problem(values: list[float] | None = None, *, excluded: tuple[int, ...] = ()) -> ChoiceProblem:
    mask = np.ones((1, GRID.n_actions), dtype=np.bool_)
    mask[0, list(excluded)] = False
    return ChoiceProblem(
        grid=GRID,
        mask=mask,
        send_at=np.array([[2_000.0, 1_000.0]]),
        cost_minor=np.array([1.5, 0.1, 0.1]),
        features=np.zeros((1, 0)),
        predictions=None,
        net_value_minor=None if values is None else np.array([[*values, 0.0]]),
    )


def chosen(policy: Policy, asked: ChoiceProblem) -> tuple[int, int, int] | None:
    probabilities = policy.distribution(asked).probabilities[0]
    assert probabilities.max() == 1.0
    return GRID.unravel(int(probabilities.argmax()))


def every(offer: int | None = None, channel: int | None = None, slot: int | None = None) -> tuple[int, ...]:
    return tuple(
        GRID.index(o, c, s)
        for o in range(2)
        for c in range(3)
        for s in range(2)
        if offer in (None, o) and channel in (None, c) and slot in (None, s)
    )


def test_cheapest_first_takes_the_cheapest_channel_at_its_earliest_time_with_the_first_offer() -> None:
    # E-mail and push cost the same; e-mail stands first. The slot at index 1 comes round first.
    assert chosen(CheapestFirst(), problem()) == (0, EMAIL, 1)


def test_cheapest_first_goes_down_the_waterfall_where_channels_are_excluded() -> None:
    assert chosen(CheapestFirst(), problem(excluded=every(channel=EMAIL))) == (0, PUSH, 1)
    cheap = every(channel=EMAIL) + every(channel=PUSH)
    assert chosen(CheapestFirst(), problem(excluded=cheap)) == (0, SMS, 1)


def test_cheapest_first_takes_the_next_offer_where_the_first_has_no_candidate() -> None:
    assert chosen(CheapestFirst(), problem(excluded=every(offer=0))) == (1, EMAIL, 1)


def test_cheapest_first_prefers_a_cheap_later_slot_to_a_dear_early_one() -> None:
    early_cheap = tuple(GRID.index(o, c, 1) for o in range(2) for c in (EMAIL, PUSH))
    assert chosen(CheapestFirst(), problem(excluded=early_cheap)) == (0, EMAIL, 0)


@pytest.mark.parametrize("policy", [CheapestFirst(), Pinned("sms"), FixedTime(0)])
def test_a_rule_leaves_alone_whom_it_cannot_reach(policy: Policy) -> None:
    assert chosen(policy, problem(excluded=every())) is None


def test_pinned_takes_its_channel_at_the_earliest_time() -> None:
    assert chosen(Pinned("sms"), problem()) == (0, SMS, 1)
    assert chosen(Pinned("sms"), problem(excluded=every(channel=SMS, slot=1))) == (0, SMS, 0)


def test_pinned_never_falls_back_to_another_channel() -> None:
    assert chosen(Pinned("sms"), problem(excluded=every(channel=SMS))) is None


def test_pinning_an_unknown_channel_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="pinned_channel == 'fax', must be one of sms, email, push"):
        Pinned("fax").distribution(problem())


def test_fixed_time_takes_the_cheapest_channel_at_its_slot() -> None:
    assert chosen(FixedTime(0), problem()) == (0, EMAIL, 0)
    assert chosen(FixedTime(0), problem(excluded=every(slot=0))) is None


def test_a_slot_that_the_campaign_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="fixed_slot == 2"):
        FixedTime(2).distribution(problem())


def test_uniform_gives_every_candidate_the_same_no_contact_included() -> None:
    answer = Uniform().distribution(problem(excluded=every(channel=SMS))).probabilities[0]
    assert answer[list(every(channel=SMS))].tolist() == [0.0] * 4
    assert answer[answer > 0].tolist() == [1 / 9] * 9
    assert answer[GRID.no_contact] == 1 / 9


def test_greedy_takes_the_highest_value() -> None:
    values = [-1.0] * 12
    values[GRID.index(1, PUSH, 0)] = 3.0
    assert chosen(Greedy(), problem(values)) == (1, PUSH, 0)


def test_greedy_passes_over_a_high_value_that_is_no_candidate() -> None:
    values = [1.0] * 12
    best = GRID.index(1, PUSH, 0)
    values[best] = 3.0
    values[GRID.index(0, SMS, 0)] = 2.0
    assert chosen(Greedy(), problem(values, excluded=(best,))) == (0, SMS, 0)


@pytest.mark.parametrize("worth", [-0.01, 0.0])
def test_greedy_leaves_alone_where_no_contact_is_worth_more_than_nothing(worth: float) -> None:
    assert chosen(Greedy(), problem([worth] * 12)) is None


def test_greedy_breaks_ties_by_cost_then_time_then_index() -> None:
    assert chosen(Greedy(), problem([1.0] * 12)) == (0, EMAIL, 1)


def test_greedy_refuses_without_predictions_and_says_what_to_do() -> None:
    with pytest.raises(NoPredictionsError, match=r"greedy needs predictions.*cheapest_first"):
        Greedy().distribution(problem())


def test_greedy_refuses_a_value_that_is_not_a_number() -> None:
    with pytest.raises(InvalidInputError, match="net_value_minor"):
        Greedy().distribution(problem([float("nan")] * 12))


@pytest.mark.parametrize("policy", [CheapestFirst(), Pinned("sms"), FixedTime(1), Uniform(), Greedy()])
def test_nobody_asked_is_nobody_answered(policy: Policy) -> None:
    asked = problem([1.0] * 12)
    assert asked.net_value_minor is not None
    nobody = replace(
        asked,
        mask=asked.mask[:0],
        send_at=asked.send_at[:0],
        features=asked.features[:0],
        net_value_minor=asked.net_value_minor[:0],
    )
    assert policy.distribution(nobody).probabilities.shape == (0, GRID.n_actions)
