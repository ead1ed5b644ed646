"""How much a contact changes conversion: empirical-Bayes linear effects, pooled across offers and channels.

    uplift(x, o, c, s) = q(x, c, s) * a(x, o, c) + b(x, o, c)

`q` is the predicted open (relative to the mean contact): `a` is the effect *through* the open, `b` the effect without it
(the message read on the lock screen). Realised opens would be confounded, so `q` is predicted. Each of
`a` and `b` is a sum of parts that share strength:

    a = all + channel + offer + pair + x' (all + channel + offer)

Where the log tells *when* conversions came, and caused ones come sooner than others, the effects are learned from that
alone (`models.response.early`), but for one number for what contacts prevent. Else Robinson's residuals take out who
converts anyway and who is contacted:

    converted - E[converted | x] = sum over (o, c) of (contact - E[contact | x]) * effect + noise

so an error in either expectation alone does no harm. How much each part is shrunk is set by the evidence. The effect of a
mean contact starts from what published rates say (`models.response.prior`), which a short log has to outweigh.

References:
    Robinson (1988), Root-N-consistent semiparametric regression; Nie and Wager (2021), Quasi-oracle estimation
    of heterogeneous treatment effects (the R-loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.compiled import compiled, plain
from models.logged import LoggedRows
from models.response.contrast import CHUNK, contrast_moments
from models.response.design import Part, design_parts, n_columns
from models.response.early import early_moments, prevented
from models.response.evidence import UNLIMITED, Posterior, fit_evidence
from models.response.lag import Lag, fit_lag
from models.response.nuisance import Nuisance
from models.response.prior import POOLED, believed_effect
from models.response.standardiser import Standardiser, calendar_share, fit_standardiser, varying_columns

# The design has about 2 * F * (1 + C + O) columns and costs their square: the most telling features only.
MAX_FEATURES = 40
# A short log says nothing of many slopes, and their number is what the fit costs.
_ROWS_PER_FEATURE = 500
# A feature whose level moves with the calendar (contacts of the last week) by more than this share of its variance
# cannot be told from the calendar, and the next decision lies beyond what the log has seen of it.
_MOST_DRIFT = 0.05
# Widths, as a share of the mean conversion rate, that a part keeps when the data say nothing of it; of parts on
# features, the width of their sum over all features.
_WIDTHS = {
    "all": 1.0,
    "channel": 0.25,
    "offer": 0.15,
    "pair": 0.05,
    "features": 0.2,
    "channel features": 0.05,
    "offer features": 0.25,
}
# Most of what a message does it does by being read: the path without an open is believed to be this much narrower.
_WITHOUT_OPEN = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectModel:
    """Posterior of the effects `(a, b)` of every pair (offer, channel); the last of each stands for an unseen one.

    Attributes:
        offers: Offers seen.
        channels: Channels seen.
        standardiser: From features to the inputs (1, x).
        mediator_unit: Open-equivalents of the mean contact: `q = p_open * opens per reply / unit`.
        mean: Coefficients of a, then of b, shape (O + 1, C + 1, 2 * (1 + Z)).
        covariance: Theirs, shape (O + 1, C + 1, 2 * (1 + Z), 2 * (1 + Z)).
    """

    offers: tuple[str, ...]
    channels: tuple[str, ...]
    standardiser: Standardiser
    mediator_unit: float
    mean: FloatArray
    covariance: FloatArray

    def pairs(self, offers: Sequence[str], channels: Sequence[str]) -> PairEffects:
        """The effects of some offers on some channels, ready to predict."""
        mean = self.mean[self._at(offers, channels)].reshape(len(offers), len(channels), 2, -1)
        return PairEffects(mean=np.ascontiguousarray(np.moveaxis(mean, -1, 0)))

    def spread(self, offers: Sequence[str], channels: Sequence[str]) -> PairSpread:
        """How far the effects of these pairs may be off."""
        width = 1 + len(self.standardiser.columns)
        block = self.covariance[self._at(offers, channels)].reshape(
            len(offers), len(channels), 2, width, 2, width
        )
        crossed = block[:, :, 0, :, 1, :]
        quadratic = np.stack(
            [block[:, :, 0, :, 0, :], crossed + crossed.swapaxes(-1, -2), block[:, :, 1, :, 1, :]], axis=2
        )
        return PairSpread(quadratic=np.ascontiguousarray(np.moveaxis(quadratic, -1, 0)))

    def _at(self, offers: Sequence[str], channels: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Where the pairs stand; what was never seen stands last."""
        o = [self.offers.index(name) if name in self.offers else len(self.offers) for name in offers]
        c = [self.channels.index(name) if name in self.channels else len(self.channels) for name in channels]
        return np.ix_(o, c)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEffects:
    """Effects of the pairs (offer, channel) of one grid.

    Attributes:
        mean: Shape (1 + Z, O, C, 2).
    """

    mean: FloatArray

    def uplift(self, inputs: FloatArray, q: FloatArray) -> FloatArray:
        """What a contact changes, shape (n, O, C, S).

        Args:
            inputs: Of `Standardiser.apply`, shape (n, 1 + Z).
            q: Relative open probability, shape (n, C, S).
        """
        changed = np.empty((len(inputs), *self.mean.shape[1:3], q.shape[2]))
        _change(inputs, plain(q), self.mean, changed)
        return changed


@compiled("void(float64[:, ::1], float64[:, :, ::1], float64[:, :, :, ::1], float64[:, :, :, ::1])")
def _change(inputs: FloatArray, q: FloatArray, mean: FloatArray, changed: FloatArray) -> None:
    """Write what `PairEffects.uplift` returns into `changed`."""
    n, n_offers, n_channels, n_slots = changed.shape
    effect = np.empty((n_offers, n_channels, 2))
    for i in range(n):
        effect[:] = 0.0
        for z in range(inputs.shape[1]):
            for o in range(n_offers):
                for c in range(n_channels):
                    effect[o, c, 0] += inputs[i, z] * mean[z, o, c, 0]
                    effect[o, c, 1] += inputs[i, z] * mean[z, o, c, 1]
        for o in range(n_offers):
            for c in range(n_channels):
                for s in range(n_slots):
                    changed[i, o, c, s] = q[i, c, s] * effect[o, c, 0] + effect[o, c, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSpread:
    """The doubt in `PairEffects`.

    Attributes:
        quadratic: Var(uplift) = q^2 x'Q0 x + q x'Q1 x + x'Q2 x, shape (1 + Z, O, C, 3, 1 + Z).
    """

    quadratic: FloatArray

    def standard_error(self, inputs: FloatArray, q: FloatArray) -> FloatArray:
        """Posterior standard error of `PairEffects.uplift`, given q: same arguments, same shape."""
        width, n_offers, n_channels, *_ = self.quadratic.shape
        shape = (len(inputs), n_offers, n_channels)
        half = (inputs @ self.quadratic.reshape(width, -1)).reshape(
            len(inputs), n_offers * n_channels * 3, width
        )
        spread = (half @ inputs[:, :, None]).reshape(*shape, 3)
        through = q[:, None]
        variance = (through * spread[..., 0, None] + spread[..., 1, None]) * through + spread[..., 2, None]
        return np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectFit:
    """A fitted `EffectModel` and the figures behind its shrinkage.

    Attributes:
        parts: Groups of coefficients.
        posterior: Of all coefficients, and the variance of every group.
        lag: How soon caused conversions came; None where that was not known or told nothing.
        prevented: Conversions that every contact prevents, <= 0; 0 without `lag`.
    """

    model: EffectModel
    parts: tuple[Part, ...]
    posterior: Posterior
    lag: Lag | None = None
    prevented: float = 0.0


def fit_effect(rows: LoggedRows, nuisance: Nuisance, importance: FloatArray, *, mediated: bool) -> EffectFit:
    """Fit the effects.

    All rows count. They are not weighted by inverse propensity: the residuals already make treated and untreated
    comparable, and such weights would add far more variance than they remove bias. They are weighted by the inverse
    of the noise of a binary outcome, `p (1 - p)`.

    Args:
        rows: The log.
        nuisance: Cross-fitted expectations.
        importance: Of every feature; where there are too many, the most important are used, shape (F,).
        mediated: Whether any channel tells of opens or clicks; without, only the direct path exists.
    """
    n_offers, n_channels = len(rows.offers), len(rows.channels)
    standardiser = fit_standardiser(rows.features, _telling_columns(rows, importance))
    width = 1 + len(standardiser.columns)
    parts = design_parts(n_offers, n_channels, (0, 1) if mediated else (1,))
    contacted = rows.contacted
    unit = float(nuisance.mediator[contacted].mean()) if mediated and contacted.any() else 1.0
    rate = float((rows.converted.sum() + 0.5) / (len(rows) + 1.0))
    group = np.concatenate([np.full(n_columns(part, width), g) for g, part in enumerate(parts)])
    # Spread over the features, so that a longer list of them does not promise more.
    spread = np.sqrt([max(1, width - 1) if part.on_features else 1.0 for part in parts])
    path = np.array([_WITHOUT_OPEN if mediated and part.path == 1 else 1.0 for part in parts])
    widths = np.array([_WIDTHS[part.name] * rate for part in parts]) * path / spread
    lag = fit_lag(rows)
    moments = (
        contrast_moments(rows, nuisance, standardiser, parts, unit, rate)
        if lag is None
        else early_moments(rows, nuisance, lag, standardiser, parts, unit, rate)
    )
    # What is believed of a mean contact before the log, through both paths together.
    believed, doubt = believed_effect(unit if mediated else POOLED.p_open, rate)
    of_all = np.array([part.name == "all" for part in parts])[group].astype(np.float64)
    moments = moments.believing(of_all, believed, doubt)
    # Where moments are known and tell nothing, the log is short, and a few lucky rows look like wide effects.
    growth = UNLIMITED if rows.converted_after is None else 0.0
    posterior = fit_evidence(moments, group, widths**2, growth)
    shape = (n_offers + 1, n_channels + 1)
    mean = np.empty((*shape, 2 * width))
    covariance = np.empty((*shape, 2 * width, 2 * width))
    for o, c in np.ndindex(shape):
        mixing, unknown = _mixing(parts, posterior.variances, (o, c), width)
        mean[o, c] = mixing @ posterior.mean
        covariance[o, c] = mixing @ posterior.covariance @ mixing.T + np.diag(unknown)
    model = EffectModel(
        offers=rows.offers,
        channels=rows.channels,
        standardiser=standardiser,
        mediator_unit=unit,
        mean=mean,
        covariance=covariance,
    )
    level = 0.0
    if lag is not None:
        level, variance = prevented(rows, nuisance, *_made_and_usual(rows, nuisance, model), rate)
        mean[..., width] += level
        covariance[..., width, width] += variance
    return EffectFit(model=model, parts=parts, posterior=posterior, lag=lag, prevented=level)


def _made_and_usual(
    rows: LoggedRows, nuisance: Nuisance, model: EffectModel
) -> tuple[FloatArray, FloatArray]:
    """Effect of the contact of every row, and the same expected under the log's choices, each of shape (n,)."""
    pairs = model.pairs(rows.offers, rows.channels)
    made, usual = np.zeros(len(rows)), np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        at = slice(start, start + CHUNK)
        inputs = model.standardiser.apply(rows.features[at])
        through, direct = np.moveaxis(np.tensordot(inputs, pairs.mean, axes=1), -1, 0)
        q = nuisance.expected_mediator[at] / model.mediator_unit
        usual[at] = (nuisance.contact[at] * (q[:, None, :] * through + direct)).sum(axis=(1, 2))
        sent = np.flatnonzero(rows.contacted[at])
        pair = (sent, rows.offer[at][sent], rows.channel[at][sent])
        made[at][sent] = nuisance.mediator[at][sent] / model.mediator_unit * through[pair] + direct[pair]
    return made, usual


def _telling_columns(rows: LoggedRows, importance: FloatArray) -> np.ndarray:
    """The most important features that vary between customers more than with the calendar."""
    steady = calendar_share(rows.features, rows.decided_at) <= _MOST_DRIFT
    columns = [c for c in varying_columns(rows.features).tolist() if steady[c]]
    n_most = min(MAX_FEATURES, max(1, len(rows) // _ROWS_PER_FEATURE))
    return np.sort(sorted(columns, key=lambda c: -importance[c])[:n_most]).astype(np.intp)


def _mixing(
    parts: Sequence[Part], variances: FloatArray, pair: tuple[int, int], width: int
) -> tuple[FloatArray, FloatArray]:
    """From all coefficients to those of one pair, and the prior variance of what the pair has no level for."""
    n_all = sum(n_columns(part, width) for part in parts)
    mixing, unknown = np.zeros((2 * width, n_all)), np.zeros(2 * width)
    first = 0
    for part, variance in zip(parts, variances, strict=True):
        size = width - 1 if part.on_features else 1
        target = part.path * width + int(part.on_features) + np.arange(size)
        level = int(part.levels[pair])
        if level < 0:
            unknown[target] += variance
        else:
            mixing[target, first + level * size + np.arange(size)] = 1.0
        first += n_columns(part, width)
    return mixing, unknown
