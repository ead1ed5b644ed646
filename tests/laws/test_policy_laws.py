"""Laws that hold for every policy, on any problem."""

from datetime import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.choice import ActionDistribution, ChoiceProblem, Policy, Predictions
from models.domain.action import ActionGrid
from models.draw import sample
from models.evaluation.checks import LawBrokenError, check_policy
from models.policy.bandit import Bandit
from models.policy.baselines import CheapestFirst, FixedTime, Greedy, Pinned, Uniform
from models.policy.exploration import Exploration
from models.value import net_value

CHANNELS = ("email", "push", "sms")
SLOTS = (time(8), time(12), time(20))
POLICIES: tuple[Policy, ...] = (
    CheapestFirst(),
    Pinned("push"),
    FixedTime(1),
    Uniform(),
    Greedy(),
    Bandit.fresh(CHANNELS, SLOTS),
)


@st.composite
def problems(draw: st.DrawFn) -> ChoiceProblem:
    """Any customers, prices and eligibility, with values from hopeless to splendid."""
    grid = ActionGrid(("a", "b")[: draw(st.integers(1, 2))], CHANNELS, SLOTS)
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n, *grid.shape)
    predictions = Predictions(
        p_open=rng.choice([0.0, 1e-9, 0.1, 0.5, 1.0], (n, *grid.shape[1:]))
        * rng.random((n, *grid.shape[1:])),
        p_convert=rng.random(shape) * draw(st.sampled_from([0.0, 0.01, 1.0])),
        p_convert_no_contact=rng.random(n) * draw(st.sampled_from([0.0, 0.01, 1.0])),
        attention_minor=rng.exponential(1.0, (n, len(CHANNELS))),
    )
    cost = rng.choice([0.0, 0.01, 1.5, 3_000.0], len(CHANNELS))
    mask = rng.random((n, grid.n_actions)) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    mask[:, -1] = True
    return ChoiceProblem(
        grid=grid,
        mask=mask,
        send_at=rng.integers(0, 3, (n, len(SLOTS))) * 3_600.0,
        cost_minor=cost,
        features=rng.normal(size=(n, 2)),
        predictions=predictions,
        net_value_minor=net_value(predictions, rng.normal(0, 5_000, grid.shape[0]), cost),
    )


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_every_policy_keeps_every_law(policy: Policy, problem: ChoiceProblem) -> None:
    check_policy(policy, problem)


@given(problem=problems(), max_loss_share=st.sampled_from([0.0, 1e-6, 5e-4, 0.1]))
@settings(max_examples=60, deadline=None)
def test_the_bandit_never_expects_to_lose_more_than_the_guardrail_allows(
    problem: ChoiceProblem, max_loss_share: float
) -> None:
    exploration = Exploration(value_scale_minor=5_000.0, max_loss_share=max_loss_share)
    answer = Bandit.fresh(CHANNELS, SLOTS, exploration=exploration).distribution(problem)
    assert answer.net_value_minor is not None
    values = np.where(problem.mask, answer.net_value_minor, -np.inf)
    loss = np.where(problem.mask, values.max(axis=1, keepdims=True) - values, 0.0)
    expected = (answer.probabilities * loss).sum(axis=1)
    assert expected.max() <= max_loss_share * 5_000.0 * (1 + 1e-9) + 1e-9


@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_three_percent_of_every_contact_are_spread_over_its_slots_where_the_guardrail_allows(
    problem: ChoiceProblem,
) -> None:
    free = Exploration(value_scale_minor=5_000.0, max_loss_share=float("inf"))
    p = Bandit.fresh(CHANNELS, SLOTS, exploration=free).distribution(problem).probabilities
    shape = (len(p), *problem.grid.shape)
    contacts, open_slots = p[:, :-1].reshape(shape), problem.mask[:, :-1].reshape(shape)
    floor = 0.03 * contacts.sum(axis=3, keepdims=True) / np.maximum(open_slots.sum(axis=3, keepdims=True), 1)
    assert (contacts >= np.where(open_slots, floor, 0.0) - 1e-12).all()


@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_is_a_candidate_with_a_propensity_above_zero(problem: ChoiceProblem, seed: int) -> None:
    probabilities = Bandit.fresh(CHANNELS, SLOTS).distribution(problem).probabilities
    n = len(probabilities)
    uniforms = np.random.default_rng(seed).choice([0.0, 0.5, 1 - 2**-53], n)
    action = sample(probabilities, uniforms)
    assert problem.mask[np.arange(n), action].all()
    assert (probabilities[np.arange(n), action] > 0).all()


@given(problem=problems(), rise=st.floats(0.01, 100.0))
@settings(max_examples=60, deadline=None)
def test_a_dearer_channel_is_never_chosen_more_by_greed(problem: ChoiceProblem, rise: float) -> None:
    assert problem.net_value_minor is not None
    dearer = problem.net_value_minor.copy()
    offers, channels, slots = problem.grid.shape
    sms = np.tile(np.repeat(np.arange(channels) == 2, slots), offers)
    dearer[:, :-1][:, sms] -= rise

    def use(values: np.ndarray) -> np.ndarray:
        asked = ChoiceProblem(
            grid=problem.grid,
            mask=problem.mask,
            send_at=problem.send_at,
            cost_minor=problem.cost_minor,
            features=problem.features,
            predictions=problem.predictions,
            net_value_minor=values,
        )
        return Greedy().distribution(asked).probabilities[:, :-1][:, sms].sum(axis=1)

    assert (use(dearer) <= use(problem.net_value_minor)).all()


class Broken:
    """Breaks one law on purpose."""

    name = "broken"
    version = "1"

    def __init__(self, law: str) -> None:
        self.law = law
        self.calls = 0

    def distribution(self, problem: ChoiceProblem) -> ActionDistribution:
        probabilities = np.zeros(problem.mask.shape)
        probabilities[:, -1] = 1.0
        self.calls += 1
        n = len(probabilities)
        if self.law == "probabilities sum to one":
            probabilities[:, -1] = 0.9
        elif self.law == "nothing ineligible is chosen":
            probabilities[:, 0] = 1.0
            probabilities[:, -1] = 0.0
        elif self.law == "same in, same out":
            probabilities[:, -1] = 1.0 - 1e-8 * self.calls
        elif self.law == "permuting customers permutes the answers":
            probabilities[0, 0], probabilities[0, -1] = 1.0, 0.0
        elif self.law == "each customer is decided alone":
            probabilities[:, 1], probabilities[:, -1] = 1 / n, 1 - 1 / n
        return ActionDistribution(probabilities=probabilities)


@pytest.mark.parametrize(
    "law",
    [
        "probabilities sum to one",
        "nothing ineligible is chosen",
        "same in, same out",
        "permuting customers permutes the answers",
        "each customer is decided alone",
    ],
)
def test_a_policy_that_breaks_a_law_is_caught_by_that_law(law: str) -> None:
    grid = ActionGrid(("a",), CHANNELS, SLOTS)
    mask = np.ones((3, grid.n_actions), dtype=np.bool_)
    mask[:, 0] = law != "nothing ineligible is chosen"
    problem = ChoiceProblem(
        grid=grid,
        mask=mask,
        send_at=np.zeros((3, 3)),
        cost_minor=np.zeros(3),
        features=np.zeros((3, 1)),
        predictions=None,
        net_value_minor=None,
    )
    with pytest.raises(LawBrokenError, match=law):
        check_policy(Broken(law), problem)
