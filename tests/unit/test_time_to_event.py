"""The share that has moved on by a day: a textbook example, and what must hold of any customers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from models.evaluation.share import wilson
from models.evaluation.time_to_event import MovedOn, moved_on

# Remission of 21 children with leukaemia under 6-MP, weeks; + is still watched. Freireich et al. (1963), as worked in Kleinbaum
# and Klein (2012), Survival Analysis, chapter 2: at 6 weeks 18/21, at 7 times 16/17, at 10 times 14/15, at 13 times 11/12,
# at 16 times 10/11, at 22 times 6/7, at 23 times 5/6. Median 23.
RELAPSED = (6, 6, 6, 7, 10, 13, 16, 22, 23)
WATCHED = (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
ROWS = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(1, 5)), min_size=1, max_size=30)


def of(rows: list[tuple[int, bool, int]]) -> MovedOn:
    day, moved, n = zip(*rows, strict=True)
    return moved_on(np.array(day), np.array(moved), np.array(n))


@pytest.fixture
def remission() -> MovedOn:
    return of([(day, True, 1) for day in RELAPSED] + [(day, False, 1) for day in WATCHED])


def test_the_textbooks_example(remission):
    assert list(remission.days) == [6, 7, 10, 13, 16, 22, 23]
    stays = [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    np.testing.assert_allclose(1 - remission.share, stays, atol=5e-5)
    # Greenwood's standard errors of the same table.
    errors = [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    np.testing.assert_allclose(np.sqrt(remission.variance), errors, atol=5e-5)
    assert (remission.n, remission.at_risk(10), remission.at_risk(23), remission.median()) == (21, 15, 6, 23)


def test_an_interval_has_as_many_customers_as_would_have_greenwoods_variance(remission):
    found = remission.by(10)
    # share .247059, variance (.752941)^2 (3/(21*18) + 1/(17*16) + 1/(15*14)) = .0092832: as of 20.0385 customers.
    n = 0.2470588 * 0.7529412 / (0.7529412**2 * (3 / 378 + 1 / 272 + 1 / 210))
    expected = wilson(0.2470588, n)
    assert (found.value, found.low, found.high) == pytest.approx((0.2470588, expected.low, expected.high))
    assert 0 < found.low < found.value < found.high < 1


def test_what_nobody_was_watched_for_is_not_known(remission):
    assert remission.by(35).value == pytest.approx(1 - 0.4482, abs=5e-5)
    assert remission.by(36) is None
    assert of([(3, False, 10)]).by(4) is None
    assert of([(3, False, 10)]).median() is None


def test_who_was_watched_for_a_day_alone_does_not_count_as_a_failure():
    old = [(5, True, 40), (60, False, 60)]
    with_new = of([*old, (0, False, 5_000)])
    assert with_new.by(30).value == pytest.approx(of(old).by(30).value) == pytest.approx(0.4)
    assert (with_new.n, with_new.at_risk(30)) == (5_100, 60)


def test_none_and_all_have_intervals_too():
    none, all_of_them = of([(30, False, 50)]).by(30), of([(3, True, 50)]).by(30)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, wilson(0, 50).high))
    assert (all_of_them.value, all_of_them.high) == pytest.approx((1, 1))
    assert all_of_them.low == pytest.approx(wilson(1, 50).low)


@given(ROWS)
def test_without_shorter_watching_it_is_the_plain_share(rows):
    """Everybody is watched for 41 days."""
    found = of([(day if moved else 41, moved, n) for day, moved, n in rows])
    n = sum(each for _, _, each in rows)
    for day in (0, 10, 40):
        plain = sum(each for at, moved, each in rows if moved and at <= day) / n
        assert found.by(day).value == pytest.approx(plain)
        if 0 < plain < 1:
            expected = wilson(plain, n)
            assert (found.by(day).low, found.by(day).high) == pytest.approx((expected.low, expected.high))


@given(ROWS, st.randoms())
def test_the_order_of_customers_and_how_they_are_counted_up_change_nothing(rows, random):
    one_by_one = [(day, moved, 1) for day, moved, n in rows for _ in range(n)]
    random.shuffle(one_by_one)
    for day in (0, 7, 30):
        assert of(one_by_one).by(day) == of(rows).by(day)


@given(ROWS)
def test_the_share_never_falls_and_stays_in_its_interval(rows):
    found = [share for share in map(of(rows).by, range(45)) if share is not None]
    assert all(0 <= share.low <= share.value + 1e-12 for share in found)
    assert all(share.value <= share.high + 1e-12 <= 1 + 2e-12 for share in found)
    assert all(a.value <= b.value + 1e-12 for a, b in pairwise(found))


@pytest.mark.parametrize("n", [1, 10, 38, 43, 1_001])
def test_none_and_all_end_at_zero_and_one_exactly(n):
    assert wilson(0.0, n).low == 0.0
    assert wilson(1.0, n).high == 1.0


def test_nobody_has_no_figures():
    empty = moved_on(np.array([], dtype=np.int64), np.array([], dtype=bool), np.array([], dtype=np.int64))
    assert (empty.n, empty.by(30), empty.median()) == (0, None, None)


@pytest.mark.parametrize("rows", [[(-1, True, 1)], [(1, True, -1)]])
def test_what_cannot_be_is_refused(rows):
    with pytest.raises(InvalidInputError):
        of(rows)
    with pytest.raises(InvalidInputError, match="as many of each"):
        moved_on(np.zeros(2, dtype=np.int64), np.zeros(1, dtype=bool), np.ones(2, dtype=np.int64))


@pytest.mark.parametrize(("value", "n"), [(1.1, 10), (0.5, 0)])
def test_no_share_is_refused(value, n):
    with pytest.raises(InvalidInputError):
        wilson(value, n)
