"""What caused conversions bring, in logs in which it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.choice import Predictions
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import InvalidInputError
from models.logged import LoggedRows
from models.response.lag import Lag, fit_lag
from models.response.model import FittedResponse, fit_response
from models.response.worth import Worth, fit_worth
from models.value import net_value
from tests.mailed import mailed

LAG = Lag(rate=5.0, share=0.4, evidence=100.0)
MARGIN = np.array([3_000.0, 2_000.0])
CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}


def log(n: int, seed: int, caused_spend: tuple[float, float], own_spend: float = 1.0) -> LoggedRows:
    """Two offers by mail at random; of contacts 6 % are followed by a conversion they caused, 6 % by one of its own."""
    rng = np.random.default_rng(seed)
    offer = rng.integers(-1, 2, n)
    contacted = offer >= 0
    draw = rng.random(n)
    own, caused = draw < 0.06, contacted & (draw >= 0.06) & (draw < 0.12)
    after = np.where(caused, rng.exponential(0.2, n), rng.random(n))
    converted = (own | caused) & (after < 1)
    spend = np.where(caused, np.array(caused_spend)[offer], own_spend) * rng.lognormal(-0.18, 0.6, n)
    return mailed(
        features={"x": rng.normal(size=n)},
        offer=offer,
        converted=converted,
        after=after,
        value_minor=MARGIN[offer] * spend,
    )


@pytest.mark.parametrize(("caused", "own_spend"), [((1.0, 1.0), 1.0), ((1.1, 0.8), 1.3), ((0.8, 0.8), 0.7)])
def test_the_value_of_caused_conversions_is_recovered_whatever_the_others_are_worth(caused, own_spend):
    found = np.mean(
        [fit_worth(log(40_000, seed, caused, own_spend), MARGIN, LAG).shares for seed in range(6)], axis=0
    )
    assert found == pytest.approx(caused, abs=0.05)


def test_shares_are_shrunk_to_the_margin_and_to_each_other_by_how_well_they_are_known():
    rows = log(2_000, 1, (1.0, 1.0))
    at = np.flatnonzero((rows.converted > 0) & (rows.offer == 0))[:50]
    only = np.zeros(len(rows))
    only[at] = 1.0
    exact = replace(
        rows,
        converted=only,
        value_minor=1.2 * MARGIN[0] * only,
        converted_after=np.where(only > 0, 0.1, np.nan),
    )
    # 50 conversions at one moment, all 1.2 margins: one of a whole margin more makes their variance s^2 / (50 s)^2 = .0004.
    # Belief: .15^2 shared, as much again of its own. news: .2 * .045 / (.045 + .0004), the others: .2 * .0225 / .0454.
    found = fit_worth(exact, MARGIN, LAG)
    assert found.shares == pytest.approx([1.19824, 1.09912], abs=1e-5)
    assert found.unseen == pytest.approx(1.09912, abs=1e-5)
    assert found.n_conversions == 50
    assert found.of(("off", "later", "news")) == pytest.approx([1.09912, 1.09912, 1.19824], abs=1e-5)


def test_where_the_log_cannot_tell_the_margin_is_believed():
    rows = log(4_000, 2, (0.5, 0.5))
    assert fit_worth(rows, MARGIN, None) == Worth()
    assert fit_worth(replace(rows, value_minor=np.zeros(len(rows))), MARGIN, LAG) == Worth()
    assert fit_worth(rows, np.zeros(2), LAG) == Worth()
    assert fit_worth(rows.take(~rows.contacted), MARGIN, LAG) == Worth()
    assert Worth().of(("news", "off")).tolist() == [1.0, 1.0]
    assert Worth().n_conversions == 0


def test_conversions_without_a_value_are_left_out():
    rows = log(20_000, 3, (1.0, 0.8))
    lost = np.random.default_rng(0).random(len(rows)) < 0.5
    some = replace(rows, value_minor=np.where(lost, 0.0, rows.value_minor))
    assert fit_worth(some, MARGIN, LAG).shares == pytest.approx(fit_worth(rows, MARGIN, LAG).shares, abs=0.1)


def test_values_in_another_unit_than_the_margins_change_no_share_beyond_a_factor_of_two():
    rows = log(20_000, 4, (1.0, 1.0))
    for factor in (0.01, 5.0, 100.0):
        found = fit_worth(replace(rows, value_minor=factor * rows.value_minor), MARGIN, LAG)
        assert 0.5 <= min(found.shares) <= max(found.shares) <= 2.0
        assert 0.5 <= found.unseen <= 2.0


def test_the_gross_value_is_scaled_and_the_costs_are_not():
    said = Predictions(
        p_open=np.full((1, 1, 1), 0.5),
        p_convert=np.array([0.05, 0.06]).reshape(1, 2, 1, 1),
        p_convert_no_contact=np.array([0.04]),
        attention_minor=np.array([[2.0]]),
        worth=np.array([1.1, 0.8]),
    )
    # 3,000 * 1.1 * .01 - 5 - 2 and 2,000 * .8 * .02 - 5 - 2
    assert net_value(said, MARGIN, np.array([5.0]))[0] == pytest.approx([26.0, 25.0, 0.0])
    assert net_value(said.take(slice(0, 1)), MARGIN, np.array([5.0]))[0] == pytest.approx([26.0, 25.0, 0.0])


def test_a_fitted_model_predicts_stores_and_reports_it():
    rows = log(20_000, 5, (1.1, 0.8))
    assert fit_lag(rows) is not None
    fitted = fit_response(rows, CHANNELS, attention_value_minor=0.0, seed=0, margin_minor=MARGIN)
    said = fitted.predict(rows.features[:3], rows.grid, CHANNELS).worth
    assert said == pytest.approx([1.1, 0.8], abs=0.15)
    again = FittedResponse.from_files(fitted.to_files())
    assert again.worth == fitted.worth
    assert again.with_attention(np.array([5.0]), 1.0).worth == fitted.worth
    assert fitted.metrics is not None
    assert fitted.metrics.as_numbers()["worth.news"] == fitted.worth.shares[0]
    unseen = replace(rows.grid, offers=("later",))
    assert fitted.predict(rows.features[:1], unseen, CHANNELS).worth == pytest.approx([fitted.worth.unseen])


def test_margins_that_are_not_one_an_offer_are_refused():
    with pytest.raises(InvalidInputError, match="margin_minor"):
        fit_response(
            log(100, 0, (1.0, 1.0)), CHANNELS, attention_value_minor=0.0, seed=0, margin_minor=np.ones(3)
        )
