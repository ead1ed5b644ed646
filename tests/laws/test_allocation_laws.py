"""Laws of the allocation of scarce channels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.allocation.prices import allocate
from models.allocation.whole import Allocation
from tests.benchmarks.allocation import Instance, budget, highs_optimum, plain, tied

# Few different numbers, so that ties come up; some not round.
WORTH = st.sampled_from([-np.inf, -3.0, 0.0, 0.3, 1.0, 2.0, 2.0, 2.5, 7.0, 40.0])
USE = st.sampled_from([0.0, 0.1, 0.7, 1.0, 1.0, 2.0, 3.0])
TOLERANCE = 1e-9


@st.composite
def instances(draw, most_customers=6, most_resources=3):
    """A few customers, choices and resources; the last choice uses nothing."""
    n = draw(st.integers(0, most_customers))
    n_choices = draw(st.integers(1, 4))
    n_resources = draw(st.integers(0, most_resources))
    value = np.array(draw(st.lists(WORTH, min_size=n * n_choices, max_size=n * n_choices))).reshape(
        n, n_choices
    )
    value[:, -1] = draw(st.lists(st.sampled_from([0.0, 0.0, -1.0, 1.5]), min_size=n, max_size=n))
    size = n_choices * n_resources
    use = np.array(draw(st.lists(USE, min_size=size, max_size=size))).reshape(n_choices, n_resources)
    use[-1] = 0.0
    room = st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.5, 100.0])
    return Instance(value, use, np.array(draw(st.lists(room, min_size=n_resources, max_size=n_resources))))


ONE_RESOURCE = instances(most_resources=1).filter(lambda one: len(one.capacity) == 1)


def best_of_all(one: Instance) -> float:
    """The optimum, by trying everything."""
    n, n_choices = one.value.shape
    found = -np.inf
    for choices in product(range(n_choices), repeat=n):
        if (np.bincount(choices, minlength=n_choices) @ one.use <= one.capacity).all():
            found = max(found, sum(one.value[i, k] for i, k in enumerate(choices)))
    return float(found)


def dual_at(one: Instance, price: np.ndarray) -> float:
    return float((one.value - one.use @ price).max(axis=1).sum() + one.capacity @ price)


@given(instances(most_customers=40))
def test_no_capacity_is_exceeded_and_nobody_gets_what_is_not_open(one):
    found = one.solved()
    assert one.violations(found) == 0
    assert (found.used <= one.capacity).all()
    assert found.used == pytest.approx(one.use[found.choice].sum(axis=0))
    assert np.isfinite(found.value)


@given(instances(most_customers=40))
def test_the_bound_is_the_dual_at_the_prices_and_above_the_value(one):
    found = one.solved()
    assert (found.price >= 0).all()
    assert found.value <= found.bound
    assert found.gap >= 0
    assert found.bound == pytest.approx(dual_at(one, found.price), rel=TOLERANCE, abs=TOLERANCE)
    assert found.value == pytest.approx(one.value[np.arange(len(one.value)), found.choice].sum())


@given(instances(most_customers=40))
def test_the_bound_is_the_optimum_of_the_linear_program(one):
    if not len(one.value) or not len(one.capacity):
        return
    assert one.solved().bound == pytest.approx(highs_optimum(one), rel=1e-6, abs=1e-6)


@given(instances(most_customers=5))
def test_the_optimum_lies_between_the_value_and_the_bound(one):
    found, best = one.solved(), best_of_all(one)
    assert found.value <= best + TOLERANCE
    assert best <= found.bound + TOLERANCE


@given(instances(most_customers=40))
def test_nobody_alone_can_be_given_anything_better(one):
    found = one.solved()
    counts = np.bincount(found.choice, minlength=len(one.use))
    for i, k in product(range(len(one.value)), range(len(one.use))):
        if one.value[i, k] > one.value[i, found.choice[i]]:
            after = counts.copy()
            after[found.choice[i]] -= 1
            after[k] += 1
            assert (after @ one.use > one.capacity).any()


@given(ONE_RESOURCE)
def test_with_one_resource_one_customer_at_most_is_lost_to_the_bound(one):
    found = one.solved()
    open_to = np.where(np.isfinite(one.value), one.value, np.nan)
    widest = max((np.nanmax(row) - np.nanmin(row) for row in open_to), default=0.0)
    assert found.bound - found.value <= widest + TOLERANCE


@given(ONE_RESOURCE)
def test_with_one_resource_a_price_above_0_is_one_at_which_the_capacity_is_reached(one):
    (price,) = one.solved().price
    net = one.value - price * one.use[:, 0]
    best = net >= net.max(axis=1, keepdims=True) - TOLERANCE
    least = np.where(best, one.use[:, 0], np.inf).min(axis=1).sum()
    most = np.where(best, one.use[:, 0], 0.0).max(axis=1).sum()
    assert least <= one.capacity[0] + TOLERANCE
    if price > 0:
        assert most >= one.capacity[0] - TOLERANCE


@given(ONE_RESOURCE, st.integers(2, 4))
def test_with_one_resource_the_price_is_that_of_many_such_customers_with_as_much_more_room(one, times):
    many = allocate(np.repeat(one.value, times, axis=0), one.use, one.capacity * times)
    found = one.solved()
    assert many.bound == pytest.approx(found.bound * times, abs=TOLERANCE)
    whole = np.array_equal(one.capacity, np.round(one.capacity)) and np.array_equal(
        one.use, np.round(one.use)
    )
    if whole:  # else what just fits is a matter of rounding
        assert many.price.tolist() == pytest.approx(found.price.tolist())


@given(instances(most_customers=40))
def test_what_is_enough_for_everybody_has_no_price(one):
    enough = 1 + len(one.value) * one.use.max(axis=0, initial=0.0)
    found = Instance(one.value, one.use, enough).solved()
    assert (found.price == 0).all()
    if len(one.value):
        assert found.value == pytest.approx(one.value.max(axis=1).sum())


@given(instances(most_customers=20), st.floats(0.1, 50))
def test_values_in_another_unit_give_prices_in_that_unit(one, unit):
    found = one.solved()
    other = allocate(one.value * unit, one.use, one.capacity)
    assert other.bound == pytest.approx(found.bound * unit, rel=1e-6, abs=1e-6)
    assert dual_at(one, other.price / unit) == pytest.approx(found.bound, rel=1e-6, abs=1e-6)


@given(instances(most_customers=20), st.data())
def test_more_of_a_resource_never_lowers_the_bound(one, data):
    more = one.capacity + data.draw(st.sampled_from([0.0, 0.5, 1.0, 4.0]))
    wider = allocate(one.value, one.use, more)
    bound = one.solved().bound
    assert wider.bound >= bound - 1e-6 * (1 + abs(bound))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [plain, budget, tied])
def test_some_hundred_customers_are_as_well_off_as_the_linear_program_says(make, seed):
    one = make(400, seed)
    found: Allocation = one.solved()
    assert one.violations(found) == 0
    optimum = highs_optimum(one)
    assert found.bound == pytest.approx(optimum, rel=1e-6)
    # What divided customers take of it: at most one for each resource.
    finite = np.where(np.isfinite(one.value), one.value, 0.0)
    assert optimum - found.value <= len(one.capacity) * np.ptp(finite, axis=1).max()
