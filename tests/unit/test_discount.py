"""What a discount takes from a conversion, and what it gives away, in logs in which both are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.logged import LoggedRows
from models.response.discount import fit_discount
from models.response.lag import Lag, early_signs, fit_lag
from models.response.worth import fit_worth
from tests.mailed import mailed

LAG = Lag(rate=5.0, share=0.4, evidence=100.0)
MARGIN = np.array([3_000.0, 2_250.0])
CUT = 0.25
MOVED = 0.3


def log(n: int, seed: int, *, uses_it: float = 1.0) -> LoggedRows:
    """News at the full price and a discount at random: of contacts 6 % cause a conversion, 6 % buy anyway.

    Of those who would have bought anyway 30 % take the discount; of those whom it moved the share `uses_it`. The first
    feature is what a customer spends (logarithm), and who spends less is moved by the discount more often.
    """
    rng = np.random.default_rng(seed)
    offer = rng.integers(-1, 2, n)
    contacted = offer >= 0
    spend = 0.5 * rng.normal(size=n)
    draw = rng.random(n)
    own = draw < 0.06
    caused = contacted & ~own & (draw < 0.06 + 0.06 * np.where(offer == 1, np.exp(-0.8 * spend - 0.08), 1.0))
    after = np.where(caused, rng.exponential(0.2, n), rng.random(n))
    converted = (own | caused) & (after < 1)
    takes = np.where(caused, rng.random(n) < uses_it, rng.random(n) < MOVED) & (offer == 1)
    value = 3_000.0 * np.where(takes, 1 - CUT, 1.0) * np.exp(spend + 0.4 * rng.normal(size=n) - 0.205)
    return mailed(
        features={"spend": spend + 0.1 * rng.normal(size=n), "noise": rng.normal(size=n)},
        offer=offer,
        converted=converted,
        after=after,
        value_minor=value,
        discounted=takes,
    )


def test_the_discount_is_recovered_although_those_who_take_it_spend_less():
    rows = log(40_000, 1)
    at = rows.converted > 0
    plain = (
        rows.value_minor[at & (rows.discounted == 1)].mean()
        / rows.value_minor[at & (rows.discounted == 0)].mean()
    )
    assert plain < 0.66
    assert fit_discount(rows) == pytest.approx(CUT, abs=0.04)


def test_without_prices_of_both_kinds_nothing_is_said_of_a_discount():
    rows = log(4_000, 2)
    assert rows.discounted is not None
    assert fit_discount(replace(rows, discounted=None)) == 0.0
    assert fit_discount(replace(rows, discounted=np.full(len(rows), np.nan))) == 0.0
    assert fit_discount(replace(rows, discounted=0.0 * rows.discounted)) == 0.0
    assert fit_discount(replace(rows, value_minor=0.0 * rows.value_minor)) == 0.0
    assert fit_discount(replace(rows, value_minor=np.where(rows.converted > 0, 100.0, 0.0))) == 0.0


def test_a_discount_that_raises_values_is_none():
    rows = log(20_000, 3)
    dearer = np.where(rows.discounted == 1, 2.0, 1.0)
    assert fit_discount(replace(rows, value_minor=rows.value_minor * dearer)) == 0.0


def test_what_is_bought_at_the_full_price_was_not_caused_by_a_discount():
    rows = log(40_000, 9)
    full = rows.discounted == 0
    signs = early_signs(rows, LAG)
    assert (signs[full & (rows.offer == 1)] == 0).all()
    # News moves people to buy at the full price, which is all it has.
    assert signs[full & (rows.offer == 0)].sum() > 400
    told_nothing = early_signs(replace(rows, discounted=None), LAG)
    caused_by_it = [each[rows.offer == 1].sum() for each in (signs, told_nothing)]
    assert caused_by_it[0] == pytest.approx(caused_by_it[1], rel=0.1)
    assert (signs[rows.offer == 1] ** 2).sum() < 0.9 * (told_nothing[rows.offer == 1] ** 2).sum()


def test_where_many_who_were_moved_do_not_use_the_discount_their_purchases_count():
    rows = log(40_000, 5, uses_it=0.5)
    assert np.array_equal(early_signs(rows, LAG), early_signs(replace(rows, discounted=None), LAG))


def test_prices_make_the_lag_of_caused_conversions_clearer():
    off = [
        np.log(fit_lag(replace(rows, discounted=None)).rate / 5)
        for rows in (log(20_000, s) for s in range(8))
    ]
    on = [np.log(fit_lag(rows).rate / 5) for rows in (log(20_000, s) for s in range(8))]
    assert np.square(on).mean() < np.square(off).mean()


def test_a_discount_brings_less_by_what_it_gives_away():
    found = [fit_worth(log(60_000, seed), MARGIN, LAG) for seed in range(6)]
    ignorant = [fit_worth(replace(log(60_000, seed), discounted=None), MARGIN, LAG) for seed in range(6)]
    news, off = np.mean([each.shares for each in found], axis=0)
    former_news, former_off = np.mean([each.shares for each in ignorant], axis=0)
    assert news == pytest.approx(former_news, abs=0.03)
    # A discount causes one conversion in 0.06 contacts, and .3 of .06 give away a quarter of a full price of 4/3 margins each.
    assert former_off - off == pytest.approx(0.3 * CUT * 4 / 3, abs=0.04)
    assert np.mean([each.discount for each in found]) == pytest.approx(CUT, abs=0.03)
    assert ignorant[0].discount == 0.0
