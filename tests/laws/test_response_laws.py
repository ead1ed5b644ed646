"""What holds of calibration, shrinkage and the evidence, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.response.boosting import later_rows, log_loss, logit, shrunk_rate, sigmoid
from models.response.calibration import Calibration, fit_calibration
from models.response.evidence import Moments, fit_evidence

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, slope=st.floats(0.2, 3.0), shift=st.floats(-2.0, 2.0))
@settings(max_examples=25, deadline=None)
def test_a_calibration_keeps_the_order_and_stays_a_probability(seed, slope, shift):
    rng = np.random.default_rng(seed)
    raw = rng.random(3_000)
    label = (rng.random(3_000) < sigmoid(shift + slope * logit(raw))).astype(float)
    calibrated = fit_calibration(label, raw, 0).apply(np.linspace(0, 1, 101))
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated) >= -1e-12).all()


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        Calibration(method="platt", parameters=(-0.3, 1.2)),
        Calibration(method="beta", parameters=(0.4, 0.7, 1.6)),
        Calibration(method="isotonic", knots=((0.1, 0.5, 0.9), (0.2, 0.3, 0.8))),
    ],
    ids=lambda calibration: calibration.method,
)
def test_calibrating_a_logit_is_calibrating_its_probability(calibration):
    raw = np.concatenate([np.linspace(-12, 12, 301), [-30.0, 30.0]])
    np.testing.assert_allclose(
        calibration.of_logit(raw), calibration.apply(sigmoid(raw)), rtol=1e-6, atol=1e-7
    )


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_an_over_confident_model_is_calibrated_and_a_true_one_hardly_touched(seed):
    rng = np.random.default_rng(seed)
    true = sigmoid(rng.normal(-1, 1, 20_000))
    label = (rng.random(20_000) < true).astype(float)
    over = sigmoid(2.5 * logit(true))
    repaired = fit_calibration(label, over, 0)
    assert repaired.method in {"platt", "beta"}
    assert np.abs(repaired.apply(over) - true).mean() < 0.02
    assert np.abs(fit_calibration(label, true, 0).apply(true) - true).mean() < 0.02


def test_isotonic_is_tried_only_above_ten_thousand_positives():
    rng = np.random.default_rng(11)
    raw = rng.random(60_000)
    true = np.where(raw < 0.5, 0.1, 0.6)  # a step, which neither Platt nor beta can draw
    label = (rng.random(60_000) < true).astype(float)
    many = fit_calibration(label, raw, 0)
    assert many.method == "isotonic"
    assert np.abs(many.apply(raw) - true).mean() < 0.02
    assert "isotonic" not in fit_calibration(label[:10_000], raw[:10_000], 0).log_losses


@given(events=st.integers(0, 1_000), extra=st.integers(0, 1_000), prior=st.floats(0.001, 0.999))
def test_a_shrunk_rate_lies_between_the_prior_and_the_observed_rate(events, extra, prior):
    n = events + extra
    rate = float(shrunk_rate(events, n, prior, 20.0))
    observed = events / n if n else prior
    assert min(prior, observed) - 1e-12 <= rate <= max(prior, observed) + 1e-12


@given(n=st.integers(1, 200), seed=seeds, ties=st.booleans())
def test_later_rows_are_never_earlier_than_the_others(n, seed, ties):
    decided_at = np.random.default_rng(seed).integers(0, 3 if ties else 10**9, n).astype(float)
    late = later_rows(decided_at, 0.2, 0)
    assert late.sum() == int(n * 0.2)
    if late.any():
        assert decided_at[late].min() >= decided_at[~late].max()


@pytest.mark.parametrize("sd", [0.0, 0.03, 0.1, 0.5])
def test_evidence_errs_less_than_least_squares_on_average_and_counts_what_it_learned(sd):
    n, p = 400, 40
    ours = plain = 0.0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, theta = rng.normal(size=(n, p)), rng.normal(0, sd, p)
        y = x @ theta + rng.normal(size=n)
        moments = Moments(gram=x.T @ x, moment=x.T @ y, total=float(y @ y), n=n)
        posterior = fit_evidence(moments, np.zeros(p, dtype=np.int64), np.array([0.1**2]))
        ours += float(((posterior.mean - theta) ** 2).sum())
        plain += float(((np.linalg.solve(moments.gram, moments.moment) - theta) ** 2).sum())
        assert 0 <= posterior.effective[0] <= p
        assert 0.7 < posterior.noise < 1.4
        assert (np.linalg.eigvalsh(posterior.covariance) > 0).all()
    assert ours < plain


def test_evidence_recovers_the_variances_of_two_groups():
    rng = np.random.default_rng(1)
    n, half = 20_000, 200
    x = rng.normal(size=(n, 2 * half))
    theta = np.concatenate([rng.normal(0, 0.3, half), rng.normal(0, 0.02, half)])
    y = x @ theta + rng.normal(size=n)
    posterior = fit_evidence(
        Moments(gram=x.T @ x, moment=x.T @ y, total=float(y @ y), n=n),
        np.repeat([0, 1], half),
        np.array([0.1**2, 0.1**2]),
    )
    # A standard deviation estimated from 200 draws has a relative error of 1 / sqrt(2 * 200) = 5 %.
    assert np.sqrt(posterior.variances[0]) == np.clip(np.sqrt(posterior.variances[0]), 0.255, 0.345)
    assert np.sqrt(posterior.variances[1]) == np.clip(np.sqrt(posterior.variances[1]), 0.016, 0.024)
    covered = np.abs(posterior.mean - theta) <= 1.96 * np.sqrt(np.diag(posterior.covariance))
    assert 0.91 <= covered.mean() <= 0.98


def test_log_loss_of_a_worked_example():
    # -(ln 0.8 + ln 0.6) / 2 = (0.2231 + 0.5108) / 2
    assert abs(log_loss(np.array([1.0, 0.0]), np.array([0.8, 0.4])) - 0.36698) < 1e-5
