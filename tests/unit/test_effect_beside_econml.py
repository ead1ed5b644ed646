"""Our learner of effects beside econml's double machine learning, on the same frame."""

from __future__ import annotations

from datetime import time

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from models.domain.action import ActionGrid
from models.domain.channel import DEFAULT_CHANNELS
from models.logged import LoggedRows
from models.response.boosting import sigmoid
from models.response.model import fit_response

# Neither reports opens or clicks here, so that both learners estimate the plain effect of a contact.
CHANNELS = {c.name: c for c in DEFAULT_CHANNELS}
NAMES = ("direct_mail", "call")
N, N_FEATURES = 40_000, 4
LEVEL = np.array([0.03, 0.08])
SLOPE = np.array([[0.02, 0.0, 0.0, 0.0], [0.02, 0.015, 0.0, 0.0]])


def effect(x: np.ndarray) -> np.ndarray:
    """True effect of each channel, shape (n, 2)."""
    return LEVEL + np.clip(x, -2, 2) @ SLOPE.T


def alone(x: np.ndarray) -> np.ndarray:
    return 0.12 + 0.1 * sigmoid(x[:, 2])


@pytest.fixture(scope="module")
def log() -> LoggedRows:
    """Contact depends on the features, as in a log of decisions: naive means are confounded."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, N_FEATURES))
    logits = np.stack([np.zeros(N), 0.8 * x[:, 2], 0.5 * x[:, 0]], axis=1)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    channel = (rng.random(N)[:, None] > np.cumsum(p, axis=1)).sum(axis=1) - 1
    rows, contacted = np.arange(N), channel >= 0
    p_convert = alone(x) + np.where(contacted, effect(x)[rows, channel], 0.0)
    converted = (rng.random(N) < p_convert).astype(float)
    unknown = np.full(N, np.nan)
    return LoggedRows(
        offers=("news",),
        channels=NAMES,
        slots=(time(9),),
        feature_names=tuple(f"x{j}" for j in range(N_FEATURES)),
        features=x,
        customer=rows.astype(np.int64),
        offer=np.where(contacted, 0, -1),
        channel=channel.astype(np.int64),
        slot=np.where(contacted, 0, -1),
        propensity=p[rows, channel + 1],
        decided_at=1.7e9 + 60.0 * rows,
        opened=unknown,
        clicked=unknown,
        converted=converted,
        value_minor=converted,
        cost_minor=np.zeros(N),
        unsubscribed=np.zeros(N),
        randomised=np.zeros(N, dtype=np.bool_),
    )


@pytest.fixture(scope="module")
def estimates(log: LoggedRows) -> dict[str, np.ndarray]:
    """Effects of both channels on customers that neither learner has seen, shape (n, 2) each."""
    from econml.dml import LinearDML

    x = np.random.default_rng(4).normal(size=(4_000, N_FEATURES))
    ours = fit_response(log, CHANNELS, attention_value_minor=0.0, seed=0)
    said = ours.predict(x, ActionGrid(("news",), NAMES, (time(9),)), CHANNELS)
    reference = LinearDML(
        model_y=LinearRegression(),
        model_t=LogisticRegression(),
        discrete_treatment=True,
        categories=[-1, 0, 1],
        random_state=0,
    )
    reference.fit(log.converted, log.channel, X=log.features)
    return {
        "true": effect(x),
        "ours": (said.p_convert - said.p_convert_no_contact[:, None, None, None])[:, 0, :, 0],
        "econml": np.column_stack([reference.effect(x, T0=-1, T1=c) for c in range(len(NAMES))]),
    }


def test_the_mean_effects_agree_with_econmls_and_with_the_truth(estimates) -> None:
    ours, theirs, true = (estimates[name].mean(axis=0) for name in ("ours", "econml", "true"))
    # The standard error of either is about sqrt(.15 * 2 / (40,000 / 3)) = .005.
    assert ours == pytest.approx(theirs, abs=0.010)
    assert ours == pytest.approx(true, abs=0.012)


def test_it_is_not_misled_as_the_difference_of_means_is(estimates, log: LoggedRows) -> None:
    rate = [log.converted[log.channel == c].mean() for c in (-1, 0, 1)]
    naive, true = np.array(rate[1:]) - rate[0], estimates["true"].mean(axis=0)
    ours = estimates["ours"].mean(axis=0)
    assert np.abs(ours - true).sum() < 0.8 * np.abs(naive - true).sum()


def test_personal_effects_are_no_further_from_the_truth_than_econmls(estimates) -> None:
    def miss(name: str) -> float:
        return float(np.sqrt(np.mean((estimates[name] - estimates["true"]) ** 2)))

    assert miss("ours") <= 1.15 * miss("econml")
    for c in range(len(NAMES)):
        assert np.corrcoef(estimates["ours"][:, c], estimates["econml"][:, c])[0, 1] > 0.7
