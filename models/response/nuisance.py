"""What has to be taken out before the effect of contact can be seen: who converts, who is contacted, who opens.

All of it is cross-fitted: a customer's rows are predicted by models that never saw that customer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.logged import LoggedRows
from models.response.boosting import Examples, fit_trees, logit, shrunk_rate, sigmoid
from models.response.open import OpenFit, OpenModel

_FOLDS = 2
_OUTCOME_TREES = 80
_ASSIGNMENT_TREES = 40
_CHUNK = 20_000
_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nuisance:
    """Expectations of a row given its features, whatever was done.

    Attributes:
        outcome: E[converted | x], shape (n,).
        contact: Probability of a contact with every offer on every channel, shape (n, O, C).
        mediator: Open-equivalents that the row's contact was expected to earn; 0 without contact, shape (n,).
        expected_mediator: The same expected of a contact on every channel, over the slots that the log
            would have used, shape (n, C).
    """

    outcome: FloatArray
    contact: FloatArray
    mediator: FloatArray
    expected_mediator: FloatArray


def fit_nuisance(
    rows: LoggedRows, opens: OpenFit, seed: int, progress: Callable[[str], None] | None = None
) -> Nuisance:
    """Cross-fit the nuisance models.

    The logging policy changes with time, so time and `randomised` are inputs beside the features. The
    logged propensity belongs to the exact action under rules that are not in the log; what is needed here is the
    probability of *every* channel given the features, so it is learned, and the logged one is not used.
    Within a channel the offer is taken to depend on the features as it does over all channels.
    """
    n, n_offers, n_channels = len(rows), len(rows.offers), len(rows.channels)
    days = (rows.decided_at - rows.decided_at.min()) / _SECONDS_PER_DAY if n else rows.decided_at
    context = np.column_stack([rows.features, days, rows.randomised]).astype(np.float32)
    person, number = np.unique(rows.customer, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(person))[number] % _FOLDS

    outcome = np.empty(n)
    channel = np.empty((n, n_channels + 1))
    offer = np.empty((n, n_offers))
    own, mean, best = np.zeros(n), np.zeros((n, n_channels)), np.zeros((n, n_channels))
    for k in range(_FOLDS):
        if progress is not None:
            progress(f"effect of contact: cross-fitting, part {k + 1} of {_FOLDS}")
        inside, held_out = fold != k, fold == k

        def predict(
            label: FloatArray, chosen: np.ndarray, trees: int, out: np.ndarray = held_out
        ) -> FloatArray:
            return _predict(context[chosen], label[chosen], context[out], trees, seed)

        outcome[held_out] = predict(rows.converted, inside, _OUTCOME_TREES)
        for c in range(-1, n_channels):
            channel[held_out, c] = predict((rows.channel == c).astype(float), inside, _ASSIGNMENT_TREES)
        for o in range(n_offers):
            offer[held_out, o] = (
                predict((rows.offer == o).astype(float), inside & rows.contacted, _ASSIGNMENT_TREES)
                if n_offers > 1
                else 1.0
            )
        _mediators(rows, opens.without(held_out, seed), np.flatnonzero(held_out), own, mean, best)

    channel /= channel.sum(axis=1, keepdims=True)
    offer /= offer.sum(axis=1, keepdims=True)
    return Nuisance(
        outcome=outcome,
        contact=offer[:, :, None] * channel[:, None, :n_channels],
        mediator=own,
        expected_mediator=mean + _slot_skill(rows, own, mean, best) * (best - mean),
    )


def _predict(
    train: np.ndarray, label: FloatArray, held_out: np.ndarray, n_trees: int, seed: int
) -> FloatArray:
    """Boosted probability on top of the shrunk rate."""
    base = float(logit(shrunk_rate(label.sum(), len(label), 0.5, 1.0)))
    examples = Examples(rows=train, label=label, offset=np.full(len(label), base))
    trees = fit_trees(examples, seed=seed, n_trees=n_trees)
    adds = 0.0 if trees is None else trees.logits(held_out)
    return sigmoid(np.full(len(held_out), base) + adds)


def _mediators(
    rows: LoggedRows,
    opens: OpenModel,
    index: np.ndarray,
    own: FloatArray,
    mean: FloatArray,
    best: FloatArray,
) -> None:
    """Fill in the open-equivalents of some rows: of the contact made, and mean and best over the slots."""
    scale = np.array([opens.scale(name) for name in rows.channels])
    for start in range(0, len(index), _CHUNK):
        part = index[start : start + _CHUNK]
        p_open = opens.predict(rows.features[part].astype(np.float32), rows.channels, rows.slots)
        p_open *= scale[:, None]
        mean[part], best[part] = p_open.mean(axis=2), p_open.max(axis=2)
        made = rows.contacted[part]
        own[part[made]] = p_open[made, rows.channel[part[made]], rows.slot[part[made]]]


def _slot_skill(rows: LoggedRows, own: FloatArray, mean: FloatArray, best: FloatArray) -> FloatArray:
    """How far from a random slot to the best one the log's choices went, shape (n, C).

    One number by channel and by `randomised`: least squares of (own - mean) on (best - mean).
    """
    skill = np.zeros(mean.shape)
    for c in range(mean.shape[1]):
        for drawn in (True, False):
            group = rows.randomised == drawn
            sent = group & (rows.channel == c)
            reach = best[sent, c] - mean[sent, c]
            if (reach > 0).any():
                skill[group, c] = reach @ (own[sent] - mean[sent, c]) / (reach @ reach)
    return skill
