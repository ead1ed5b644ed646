"""Off-policy estimators recover the truth, and their intervals cover it as often as they say."""

from collections.abc import Callable

import numpy as np
import pytest

from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import dr, dr_difference, ips, snips

N = 1_500
REPETITIONS = 1_000
# True mean reward of three actions for two kinds of customer, and what a biased model believes.
MEAN = np.array([[0.0, 1.0, 0.5], [0.0, 0.2, 0.9]])
MODEL = MEAN + np.array([0.3, -0.2, 0.4])
LOG = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]])
POLICY = np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
OTHER = np.array([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5]])
TRUTH = float((POLICY * MEAN).sum(axis=1).mean())
OTHER_TRUTH = float((OTHER * MEAN).sum(axis=1).mean())

Log = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, noise: np.ndarray) -> Log:
    kind = rng.integers(0, 2, N)
    action = (rng.random((N, 1)) > LOG[kind].cumsum(axis=1)).sum(axis=1)
    return kind, action, MEAN[kind, action] + noise


def estimate_dr(kind: np.ndarray, action: np.ndarray, reward: np.ndarray) -> Estimate:
    return dr(
        reward,
        LOG[kind, action],
        POLICY[kind, action],
        MODEL[kind, action],
        (POLICY * MODEL).sum(axis=1)[kind],
    )


def estimate_ips(kind: np.ndarray, action: np.ndarray, reward: np.ndarray) -> Estimate:
    return ips(reward, LOG[kind, action], POLICY[kind, action])


def estimate_snips(kind: np.ndarray, action: np.ndarray, reward: np.ndarray) -> Estimate:
    return snips(reward, LOG[kind, action], POLICY[kind, action])


def estimate_difference(kind: np.ndarray, action: np.ndarray, reward: np.ndarray) -> Estimate:
    return dr_difference(
        reward,
        LOG[kind, action],
        POLICY[kind, action],
        OTHER[kind, action],
        MODEL[kind, action],
        (POLICY * MODEL).sum(axis=1)[kind],
        (OTHER * MODEL).sum(axis=1)[kind],
    )


@pytest.mark.parametrize(
    ("estimator", "truth"),
    [
        (estimate_dr, TRUTH),
        (estimate_ips, TRUTH),
        (estimate_snips, TRUTH),
        (estimate_difference, TRUTH - OTHER_TRUTH),
    ],
    ids=["dr", "ips", "snips", "difference"],
)
def test_the_interval_covers_the_truth_about_95_times_in_100(
    estimator: Callable[..., Estimate], truth: float
) -> None:
    rng = np.random.default_rng(20)
    found = [estimator(*draw(rng, rng.normal(0, 1.5, N))) for _ in range(REPETITIONS)]
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert found[0].ess_share > 0.3
    assert 0.93 <= covered <= 0.97
    # The model is off by 0.2 to 0.4; the mean of the estimates is not.
    spread = np.std([e.value for e in found])
    assert abs(np.mean([e.value for e in found]) - truth) < 4 * spread / np.sqrt(REPETITIONS)
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.08)


def test_clustered_errors_cover_where_independent_ones_do_not() -> None:
    rng = np.random.default_rng(21)
    size = 10
    customer = np.repeat(np.arange(N // size), size)
    clustered, naive = [], []
    for _ in range(REPETITIONS):
        # What a customer spends is mostly the customer's own habit, and so is the action they get.
        kind = np.zeros(N, dtype=np.int64)
        action = np.repeat((rng.random((N // size, 1)) > LOG[0].cumsum()).sum(axis=1), size)
        habit = np.repeat(rng.normal(0, 1.5, N // size), size)
        reward = MEAN[kind, action] + habit + rng.normal(0, 0.5, N)
        arguments = (reward, LOG[0][action], POLICY[0][action])
        truth = float(POLICY[0] @ MEAN[0])
        c, i = ips(*arguments, clusters=customer), ips(*arguments)
        clustered.append(c.low <= truth <= c.high)
        naive.append(i.low <= truth <= i.high)
    assert 0.92 <= np.mean(clustered) <= 0.97
    assert np.mean(naive) < 0.6
