"""Linear regression whose shrinkage is set by the evidence: empirical Bayes with variance components.

    y = X theta + noise,   noise ~ N(0, s2),   theta_j ~ N(0, v[group of j])

`s2` and the variances `v` maximise the probability of the data with theta integrated out; given them theta has
a Gaussian posterior in closed form.

References:
    MacKay (1992), Bayesian Interpolation: the evidence and its slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky
from scipy.linalg.lapack import dtrtri

from models.choice import FloatArray
from models.logged import IntArray

_STEPS = 40
_TOLERANCE = 1e-9
# Logs of how far the variances may move from their prior, and the noise from 1: keeps the algebra sound on logs
# without any contrast.
_LEAST_VARIANCE, UNLIMITED = -12.0, 12.0
_NOISE = (-3.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """All that the regression needs of its data.

    Attributes:
        gram: X'X, shape (P, P).
        moment: X'y, shape (P,).
        total: y'y.
        n: Number of rows.
    """

    gram: FloatArray
    moment: FloatArray
    total: float
    n: int

    def believing(self, weights: FloatArray, value: float, sd: float) -> Moments:
        """The same with the belief `weights' theta ~ N(value, sd^2)`, as one row of noise 1.

        Args:
            weights: Shape (P,).
            value: Mean of the belief.
            sd: Its standard deviation, > 0.
        """
        row, y = weights / sd, value / sd
        return Moments(
            gram=self.gram + np.outer(row, row),
            moment=self.moment + row * y,
            total=self.total + y**2,
            n=self.n + 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """What the data say of theta.

    Attributes:
        mean: Shape (P,).
        whitener: W with `covariance = W'W`, lower triangular, shape (P, P).
        variances: Prior variance of every group, shape (K,).
        effective: How many of its coefficients each group's data determine, in [0, size], shape (K,).
        noise: s2.
        log_evidence: Log probability of the data, up to a constant.
    """

    mean: FloatArray
    whitener: FloatArray
    variances: FloatArray
    effective: FloatArray
    noise: float
    log_evidence: float

    @property
    def covariance(self) -> FloatArray:
        """Of theta, shape (P, P); multiplied out each time, for the search has no use for it."""
        return np.asarray(self.whitener.T @ self.whitener)


def fit_evidence(
    moments: Moments, group: IntArray, prior_variance: FloatArray, most_growth: float = UNLIMITED
) -> Posterior:
    """Maximise the evidence and give the posterior.

    Every group's variance has a weak prior of its own, worth one coefficient of variance `prior_variance`: a
    group about which the data say nothing keeps about that width instead of collapsing to certainty.

    Args:
        moments: Of the data, scaled so that s2 is about 1.
        group: Group of every coefficient, shape (P,).
        prior_variance: Of a coefficient of each group, shape (K,), > 0.
        most_growth: Logarithm of how far a variance may grow beyond its prior, >= 0. The outcomes are rarer and more
            skewed than Gaussian noise, so that a few lucky rows look like evidence for wide effects: 0 lets the
            evidence narrow a group and never widen it.
    """
    from scipy.optimize import minimize  # a process that decides does without

    size = np.bincount(group, minlength=len(prior_variance))

    def objective(logs: FloatArray) -> tuple[float, FloatArray]:
        posterior = _posterior(moments, group, size, np.exp(logs[:-1]), float(np.exp(logs[-1])))
        variances, noise = posterior.variances, posterior.noise
        squares = np.bincount(group, weights=posterior.mean**2, minlength=len(size))
        theta = posterior.mean
        residual = moments.total - 2 * theta @ moments.moment + theta @ moments.gram @ theta
        # The noise has a prior too, worth one row of variance 1: it matters only in the smallest logs.
        penalty = 0.5 * float((logs[:-1] + prior_variance / variances).sum() + logs[-1] + 1 / noise)
        slope = 0.5 * np.append(
            posterior.effective + 1.0 - (squares + prior_variance) / variances,
            moments.n + 1.0 - posterior.effective.sum() - (residual + 1.0) / noise,
        )
        return penalty - posterior.log_evidence, slope

    start = np.append(np.log(prior_variance), 0.0)
    limits = [(low + _LEAST_VARIANCE, low + most_growth) for low in start[:-1]] + [_NOISE]
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": _STEPS, "ftol": _TOLERANCE},
    )
    return _posterior(moments, group, size, np.exp(found.x[:-1]), float(np.exp(found.x[-1])))


def _posterior(
    moments: Moments, group: IntArray, size: IntArray, variances: FloatArray, noise: float
) -> Posterior:
    """The posterior under given variances, and the evidence for them."""
    # With theta = sqrt(v) u the matrix is I + S G S / s2: well conditioned whatever the variances.
    root = np.sqrt(variances)[group]
    scaled = moments.gram * root[:, None] * root[None, :] / noise
    scaled[np.diag_indices_from(scaled)] += 1.0
    factor = cholesky(scaled, lower=True, overwrite_a=True, check_finite=False)
    # The inverse of the factor is all that is needed, at a third of what the inverse of the matrix costs.
    inverse, _ = dtrtri(factor, lower=True)
    whitener = inverse * root
    mean = whitener.T @ (whitener @ moments.moment) / noise
    log_determinant = 2.0 * np.log(np.diag(factor)).sum()
    misfit = (moments.total - mean @ moments.moment) / noise
    left = np.bincount(group, weights=np.einsum("ij,ij->j", inverse, inverse), minlength=len(size))
    return Posterior(
        mean=mean,
        whitener=whitener,
        variances=variances,
        effective=np.clip(size - left, 0.0, size),
        noise=noise,
        log_evidence=float(-0.5 * (misfit + log_determinant + moments.n * np.log(noise))),
    )
