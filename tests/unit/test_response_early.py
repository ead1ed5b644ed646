"""What the moments of conversions tell of the effect of contact, in a world whose effects are known."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from models.domain.channel import DEFAULT_CHANNELS
from models.logged import LoggedRows
from models.response.early import prevented
from models.response.effect import fit_effect
from models.response.evidence import UNLIMITED, Moments, fit_evidence
from models.response.lag import Lag, early_signs, fit_lag, known_opens
from models.response.nuisance import Nuisance, fit_nuisance
from models.response.open import fit_open

CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
# Shares of a window of seven days: caused conversions come 1.3 days after the open, opens within hours.
MEAN_LAG, MEAN_OPENING = 1.3 / 7, 0.1 / 7
EFFECT = np.array([0.03, 0.05])


def log(
    n: int, seed: int, *, effect: np.ndarray = EFFECT, base: float = 0.03, caused_sooner: bool = True
) -> LoggedRows:
    """Two channels that report opens; the first feature makes people keener to buy and to open, the second persuades."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    channel = rng.integers(-1, 2, n)
    slot = np.where(channel >= 0, rng.integers(0, 3, n), -1)
    contacted = channel >= 0
    p_open = 1 / (1 + np.exp(1.2 - 0.8 * x[:, 0]))
    opened = contacted & (rng.random(n) < p_open)
    own = rng.random(n) < base * np.exp(0.6 * x[:, 0] - 0.18)
    caused = opened & ~own & (rng.random(n) < effect[channel] * (1 + 0.5 * np.clip(x[:, 1], -2, 2)))
    opened_after = np.where(opened, rng.exponential(MEAN_OPENING, n), np.nan)
    lag = rng.exponential(MEAN_LAG, n) if caused_sooner else rng.random(n)
    after = np.where(caused, np.nan_to_num(opened_after) + lag, np.where(own, rng.random(n), np.nan))
    converted = after < 1
    return LoggedRows(
        offers=("news",),
        channels=("email", "push"),
        slots=(time(8), time(12), time(20)),
        feature_names=("keen", "persuadable", "x2", "x3"),
        features=x,
        customer=np.arange(n),
        offer=np.where(contacted, 0, -1),
        channel=channel,
        slot=slot,
        propensity=np.where(contacted, 1 / 9, 1 / 3),
        decided_at=1.7e9 + 60.0 * np.arange(n),
        opened=np.where(contacted, opened, np.nan),
        clicked=np.where(contacted, 0.0, np.nan),
        converted=converted.astype(float),
        value_minor=100.0 * converted,
        cost_minor=contacted.astype(float),
        unsubscribed=np.zeros(n),
        randomised=np.ones(n, dtype=np.bool_),
        opened_after=opened_after,
        converted_after=np.where(converted, after, np.nan),
    )


@pytest.mark.parametrize("since", [0.0, 0.02, 0.4])
def test_the_early_sign_is_zero_on_average_for_even_lags_and_one_for_caused_ones(since):
    lag = Lag(rate=5.0, share=0.3, evidence=100.0)
    t = (np.arange(200_000) + 0.5) / 200_000
    sign = lag.sign(t, np.full(len(t), since))
    assert sign.mean() == pytest.approx(0.0, abs=1e-3)
    caused = np.where(t >= since, np.exp(-5.0 * (t - since)), 0.0)
    assert (sign * caused).sum() / caused.sum() == pytest.approx(1.0, abs=1e-3)


def test_the_mean_lag_of_caused_conversions_is_recovered():
    lags = []
    for seed in range(4):
        found = fit_lag(log(40_000, seed))
        assert found is not None
        lags.append(1 / found.rate)
    assert np.mean(lags) == pytest.approx(MEAN_LAG, rel=0.2)
    # Of the conversions after contacts: .040 * P(open) = .0096 caused, .03 not.
    assert found.share == pytest.approx(0.25, abs=0.06)


def test_lags_that_tell_nothing_are_not_used():
    assert fit_lag(log(20_000, 2, caused_sooner=False)) is None
    assert fit_lag(log(20_000, 2, effect=np.zeros(2))) is None


def test_lags_are_not_used_where_people_also_buy_soon_without_contact():
    """A decision that a visit triggers comes just before the purchase that the visit was for."""
    rows = log(20_000, 3)
    assert rows.converted_after is not None
    hasty = replace(
        rows, converted_after=np.where(rows.contacted, rows.converted_after, rows.converted_after / 4)
    )
    assert fit_lag(hasty) is None


def test_a_conversion_without_a_moment_keeps_lags_from_being_used():
    rows = log(20_000, 3)
    assert rows.converted_after is not None
    first = int(np.flatnonzero(rows.converted)[0])
    lost = np.where(np.arange(len(rows)) == first, np.nan, rows.converted_after)
    assert fit_lag(replace(rows, converted_after=lost)) is None
    assert fit_lag(replace(rows, converted_after=None, opened_after=None)) is None


def test_opens_known_only_through_clicks_are_not_taken_for_opens():
    rows = log(2_000, 4)
    clicks_only = np.where(rows.opened == 1, 1.0, np.nan)
    assert np.isnan(known_opens(replace(rows, opened=clicks_only))).all()
    np.testing.assert_array_equal(known_opens(rows), rows.opened)


def test_the_mean_sign_of_contacts_is_the_effect_without_looking_at_anybody_else():
    rows = log(200_000, 5)
    signs = early_signs(rows, Lag(rate=1 / MEAN_LAG, share=0.25, evidence=100.0))
    for c in range(2):
        opened = (rows.channel == c) & (rows.opened == 1)
        se = signs[opened].std() / np.sqrt(opened.sum())
        # The few caused ones after the window are not seen: exp(-1 / MEAN_LAG) of them, and those of own buyers.
        assert signs[opened].mean() == pytest.approx(EFFECT[c], abs=3 * se + 0.003)
    assert abs(signs[~rows.contacted].mean()) < 3 * signs[~rows.contacted].std() / np.sqrt(
        (~rows.contacted).sum()
    )


def test_effects_from_moments_are_more_precise_than_those_from_conversions_alone():
    """Mean squared error over five logs of 8,000 rows; the truth is a contact's p_open * effect."""
    errors = np.zeros((2, 5))
    test = np.random.default_rng(0).normal(size=(500, 4))
    for seed in range(5):
        rows = log(8_000, 10 + seed)
        nuisance = fit_nuisance(rows, fit_open(rows, CHANNELS, seed), seed)
        for k, known in enumerate((rows, replace(rows, converted_after=None))):
            fitted = fit_effect(known, nuisance, np.ones(4), mediated=True)
            assert (fitted.lag is None) == (k == 1)
            pairs = fitted.model.pairs(rows.offers, rows.channels)
            q = np.broadcast_to(0.25 / fitted.model.mediator_unit, (len(test), 2, 1))
            # What contacts prevent, which is nothing here, is learned from conversions in both.
            uplift = pairs.uplift(fitted.model.standardiser.apply(test), q)[:, 0, :, 0] - fitted.prevented
            true = 0.25 * EFFECT * (1 + 0.5 * np.clip(test[:, 1], -2, 2))[:, None]
            errors[k, seed] = ((uplift - true) ** 2).mean()
    early, contrast = errors.mean(axis=1)
    assert early < 0.7 * contrast


def test_evidence_that_may_not_widen_a_prior_keeps_its_width():
    moments = Moments(gram=np.eye(2) * 100.0, moment=np.array([300.0, 250.0]), total=2_000.0, n=1_000)
    group, prior = np.array([0, 0]), np.array([0.01])
    assert fit_evidence(moments, group, prior, UNLIMITED).variances[0] > 0.1
    assert fit_evidence(moments, group, prior, 0.0).variances[0] == pytest.approx(0.01)


RATE, PRIOR = 0.03, 0.003


def prevention(rate_contacted: float, n: int = 40_000) -> tuple[float, float, float, float]:
    """What is said of a log in which contacts have no early effect: level and variance, likelihood's mean and spread."""
    contacted = np.arange(n) % 2 == 0
    converted = np.zeros(n)
    for at, rate in ((np.flatnonzero(contacted), rate_contacted), (np.flatnonzero(~contacted), RATE)):
        converted[at[: round(rate * len(at))]] = 1.0
    # Everybody's outcome is expected to be the same, as without knowing who was contacted.
    nuisance = Nuisance(
        outcome=np.full(n, converted.mean()),
        contact=np.full((n, 1, 1), 0.5),
        mediator=np.zeros(n),
        expected_mediator=np.zeros((n, 1)),
    )
    rows = replace(
        log(n, 0), channel=np.where(contacted, 0, -1), converted=converted, offer=np.where(contacted, 0, -1)
    )
    level, variance = prevented(rows, nuisance, np.zeros(n), np.zeros(n), RATE)
    p = (RATE + converted.mean()) / 2
    return level, variance, rate_contacted - RATE, float(np.sqrt(4 * p * (1 - p) / n))


@pytest.mark.parametrize("contacted", [0.024, 0.028, 0.03, 0.033])
def test_what_contacts_prevent_is_the_mean_of_what_the_log_leaves_possible(contacted):
    level, variance, seen, spread = prevention(contacted)

    def density(x: float) -> float:
        return float(norm.pdf(x, 0, PRIOR) * norm.pdf(seen, x, spread))

    low = -10 * PRIOR
    mass = quad(density, low, 0)[0]
    mean = quad(lambda x: x * density(x), low, 0)[0] / mass
    assert level == pytest.approx(mean, rel=0.03)
    assert variance == pytest.approx(quad(lambda x: (x - mean) ** 2 * density(x), low, 0)[0] / mass, rel=0.06)


def test_what_contacts_prevent_stays_finite_where_the_log_speaks_against_any():
    level, variance, *_ = prevention(0.2)
    assert -0.001 < level < 0.0
    assert 0.0 < variance < PRIOR**2
