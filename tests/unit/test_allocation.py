"""Who gets a scarce channel, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from models.allocation.prices import allocate, highest_prices
from models.allocation.whole import Allocation
from models.domain.errors import InvalidInputError
from tests.benchmarks.allocation import budget, by_priority, highs_optimum, plain, tied

SHUT = -np.inf
ONE = np.array([[1.0], [0.0]])


def on_one(*worth: float) -> np.ndarray:
    """Customers of one channel, and no contact."""
    return np.array([[each, 0.0] for each in worth])


def test_calls_go_to_those_to_whom_they_bring_most_at_the_price_of_the_first_who_gets_none() -> None:
    found = allocate(on_one(3.0, 9.0, 5.0, 7.0), ONE, np.array([2.0]))
    assert found.choice.tolist() == [1, 0, 1, 0]
    assert found.price.tolist() == [5.0]
    assert found.used.tolist() == [2.0]
    # 9 + 7; at the price 5 these have 4 and 2 of it left, and two units are sold: 6 + 10.
    assert found.value == found.bound == 16.0
    assert found.gap == 0.0


def test_two_channels_are_divided_by_what_either_brings_beyond_the_other() -> None:
    # All want the first channel most. It goes to the one who would lose 6 on the second, not to the one with most.
    value = np.array([[10.0, 9.0, 0.0], [8.0, 2.0, 0.0], [1.0, 0.5, 0.0]])
    use = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = allocate(value, use, np.array([1.0, 1.0]))
    assert found.choice.tolist() == [1, 0, 2]
    assert found.value == 17.0
    assert found.gap == pytest.approx(0.0, abs=1e-12)


def test_prices_that_have_to_move_together_are_found() -> None:
    # Four want one of three units. Either price alone at 0 is best while the other one is 0: who may have both would only change
    # to the other. At 5 and 5 the dual is 3 * 5, at 0 and 0 it is 4 * 5.
    value = np.array([[5.0, 5.0, 0.0]] * 2 + [[SHUT, 5.0, 0.0]] * 2)
    use = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = allocate(value, use, np.array([1.0, 2.0]))
    assert found.price == pytest.approx([5.0, 5.0])
    assert np.bincount(found.choice).tolist() == [1, 2, 1]
    assert found.value == pytest.approx(15.0)
    assert found.bound == pytest.approx(15.0)


def test_a_budget_buys_the_cheaper_contact_where_the_dearer_one_adds_less_a_unit() -> None:
    # A call costs 10 and brings 30, a letter costs 4 and brings 20: a letter to both, 8 of 14 spent; then a call instead of
    # one letter, 6 more. That is 14, and 50.
    value = np.array([[30.0, 20.0, 0.0], [29.0, 20.0, 0.0]])
    use = np.array([[10.0], [4.0], [0.0]])
    found = allocate(value, use, np.array([14.0]))
    assert found.choice.tolist() == [0, 1]
    assert found.used.tolist() == [14.0]
    assert found.value == found.bound == 50.0
    # What the next change brings a unit: 9 for 6.
    assert found.price == pytest.approx([1.5])


def test_what_is_left_of_a_budget_is_used_by_who_needs_less() -> None:
    # 10 a unit against 9 a unit; after one call 3 are left, which is no call and one letter.
    found = allocate(
        np.array([[50.0, SHUT, 0.0], [49.0, SHUT, 0.0], [SHUT, 27.0, 0.0]]),
        np.array([[5.0], [3.0], [0.0]]),
        np.array([8.0]),
    )
    assert found.choice.tolist() == [0, 2, 1]
    assert found.value == 77.0
    # At 9.8 a unit: 1 is left to the first, and 8 * 9.8.
    assert found.bound == pytest.approx(79.4)
    assert found.gap == pytest.approx(2.4 / 79.4)


@pytest.mark.parametrize("n", [7, 500, 30_000])
def test_of_equal_customers_as_many_are_contacted_as_there_is_room_for(n: int) -> None:
    room = n // 3
    found = allocate(on_one(*[4.0] * n), ONE, np.array([float(room)]))
    assert found.used.tolist() == [room]
    assert found.price.tolist() == [4.0]
    assert found.gap == 0.0


def test_equal_customers_of_several_kinds_are_divided_as_the_linear_program_divides_them() -> None:
    one = tied(3_000, seed=2)
    found = one.solved()
    assert found.bound == pytest.approx(highs_optimum(one), rel=1e-9)
    assert found.gap < 1e-3
    assert one.violations(found) == 0


@pytest.mark.parametrize("make", [plain, budget])
def test_a_large_plan_is_the_best_there_is(make) -> None:
    one = make(30_000, seed=5)
    found = one.solved()
    assert found.gap <= 1e-5
    assert one.violations(found) == 0
    assert found.value > by_priority(one)


def test_a_plan_from_ties_to_the_cent_keeps_its_capacities() -> None:
    one = plain(30_000, seed=6)
    cents = np.round(one.value)
    found = allocate(cents, one.use, one.capacity)
    assert (found.used <= one.capacity).all()
    assert found.gap <= 1e-5


def test_a_capacity_that_is_enough_has_no_price() -> None:
    value = np.array([[5.0, 7.0, 0.0], [6.0, 3.0, 0.0]])
    use = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    found = allocate(value, use, np.array([2.0, 1.0]))
    assert found.price.tolist() == [0.0, 0.0]
    assert found.choice.tolist() == [1, 0]


def test_without_capacity_nobody_is_contacted() -> None:
    found = allocate(on_one(3.0, 9.0), ONE, np.array([0.0]))
    assert found.choice.tolist() == [1, 1]
    assert found.value == found.bound == 0.0
    assert found.price.tolist() == [9.0]


def test_without_resources_everybody_has_the_best() -> None:
    found = allocate(on_one(3.0, -1.0), np.zeros((2, 0)), np.zeros(0))
    assert found.choice.tolist() == [0, 1]
    assert found.price.shape == found.used.shape == (0,)
    assert found.value == found.bound == 3.0


def test_without_customers_nothing_is_used_and_nothing_has_a_price() -> None:
    found = allocate(np.zeros((0, 2)), ONE, np.array([2.0]))
    assert found.choice.shape == (0,)
    assert found.price.tolist() == found.used.tolist() == [0.0]
    assert found.value == found.bound == found.gap == 0.0


def test_what_is_not_open_is_never_given() -> None:
    found = allocate(np.array([[SHUT, 0.0], [SHUT, -2.0]]), ONE, np.array([2.0]))
    assert found.choice.tolist() == [1, 1]
    assert found.value == -2.0


def test_the_highest_prices_are_those_of_the_last_who_gets_something() -> None:
    value = on_one(9.0, 5.0, 4.0)
    found = allocate(value, ONE, np.array([2.0]))
    assert found.price.tolist() == [4.0]
    assert highest_prices(value, ONE, found).tolist() == [5.0]
    nobody = allocate(value, ONE, np.array([0.0]))
    assert highest_prices(value, ONE, nobody).tolist() == nobody.price.tolist()


def test_at_the_highest_prices_nobody_gives_anything_up() -> None:
    one = budget(2_000, seed=1)
    found = one.solved()
    price = highest_prices(one.value, one.use, found)
    assert (price >= found.price).all()
    net, before = one.value - one.use @ price, one.value - one.use @ found.price
    row = np.arange(len(net))
    # Whole customers do not always fit: a few have less than their best at these prices.
    kept = before[row, found.choice] >= before.max(axis=1) - 1e-9
    assert kept.mean() > 0.95
    assert (net[row, found.choice] >= net.max(axis=1) - 1e-9)[kept].all()


def test_the_arguments_are_left_as_they_are_in_whatever_order_they_lie() -> None:
    one = budget(400, seed=1)
    told = one.solved()
    column_wise = np.asfortranarray(one.value)
    for array in (column_wise, one.use, one.capacity):
        array.flags.writeable = False
    found = allocate(column_wise, one.use, one.capacity)
    assert found.choice.tolist() == told.choice.tolist()
    assert np.array_equal(column_wise, one.value)


def test_the_gap_of_nothing_is_nothing() -> None:
    none = np.zeros(1)
    assert Allocation(price=none, choice=np.zeros(0, np.intp), used=none, value=0.0, bound=0.0).gap == 0.0
    assert Allocation(price=none, choice=np.zeros(0, np.intp), used=none, value=-11.0, bound=-10.0).gap == 0.1


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("value", {"value": np.zeros(2)}),
        ("value", {"value": np.zeros((2, 0))}),
        ("value", {"value": np.array([[np.nan, 0.0]])}),
        ("value", {"value": np.array([[np.inf, 0.0]])}),
        ("value[1]", {"value": np.array([[1.0, 0.0], [1.0, SHUT]])}),
        ("use", {"use": np.zeros((3, 1))}),
        ("use", {"use": np.zeros((2, 2))}),
        ("use", {"use": np.array([[-1.0], [0.0]])}),
        ("use", {"use": np.array([[np.nan], [0.0]])}),
        ("use", {"use": np.array([[1.0], [0.5]])}),
        ("capacity", {"capacity": np.array([[1.0]])}),
        ("capacity", {"capacity": np.array([-1.0])}),
        ("capacity", {"capacity": np.array([np.nan])}),
        ("capacity", {"capacity": np.array([np.inf])}),
        ("sweeps", {"sweeps": 0}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(field: str, changed: dict[str, object]) -> None:
    given = {"value": on_one(1.0, 2.0), "use": ONE, "capacity": np.array([1.0])} | changed
    with pytest.raises(InvalidInputError) as refused:
        allocate(**given)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert "must" in refused.value.bound
