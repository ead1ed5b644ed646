"""The breakdown of a fitted response model's prediction.

Trees are broken down by LightGBM's `pred_contrib` (exact Shapley values of the trees), linear parts by coefficient
times standardised value, habits by integrating along the visits. What the columns for channel and hour add belongs to the base: it is the same for
everybody on this channel at this time.

References:
    Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.choice import Float32Array, FloatArray
from models.domain.action import ActionGrid
from models.explanation.contributions import (
    Breakdown,
    ResponseContributions,
    linear,
    of_product,
    of_sum,
    scaled,
    through_curve,
)
from models.response.boosting import Trees, sigmoid
from models.response.open import OpenModel, _hours
from models.response.thinned import reply_logit

if TYPE_CHECKING:
    from models.response.effect import EffectModel


def break_down(
    opens: OpenModel,
    effect: EffectModel,
    features: FloatArray,
    grid: ActionGrid,
    contact: tuple[int, int, int],
) -> ResponseContributions:
    """What each feature adds to the open probability and to the uplift of one contact.

    Args:
        opens: `p_open`.
        effect: What a contact changes.
        features: Of one customer, shape (F,); NaN where missing.
        grid: Axes of the decision.
        contact: Indices of offer, channel and slot.
    """
    offer, channel, slot = contact
    p_open = _open(opens, features, grid, channel, slot)
    pair = effect.pairs(grid.offers[offer : offer + 1], grid.channels[channel : channel + 1])
    inputs = effect.standardiser.apply(features[None])[0, 1:]
    columns = effect.standardiser.columns
    through, direct = (
        _onto(linear(pair.mean[:, 0, 0, path], inputs), columns, len(features)) for path in (0, 1)
    )
    q = scaled(p_open, opens.scale(grid.channels[channel]) / effect.mediator_unit)
    return ResponseContributions(p_open=p_open, uplift=of_sum(of_product(q, through), direct))


def _open(opens: OpenModel, features: FloatArray, grid: ActionGrid, channel: int, slot: int) -> Breakdown:
    n_features = len(features)
    single = features.astype(np.float32)
    if not opens.learned:
        prior = float(opens.predict(single[None], grid.channels, grid.slots)[0, channel, slot])
        return Breakdown(base=prior, amounts=np.zeros(n_features), total=prior)
    shares = _shares(opens, grid.channels[channel])
    base = float(shares @ opens._cells(grid.slots)[:, slot])
    logits = np.zeros(n_features)
    weights = shares @ opens.linear.by_channel + opens._slot_weights(grid.slots[slot : slot + 1])[0]
    logits[opens.linear.standardiser.columns] = weights * opens.linear.inputs(single[None])[0]
    lift = opens.linear.habit * opens.days.habits(grid.slots[slot : slot + 1])[:, 0]
    usual, amounts = opens.days.contributions(single[None], lift)
    base += usual
    logits[opens.days.columns] += amounts
    if opens.by_channel is not None:
        codes = np.arange(len(opens.channels), dtype=np.float32)[:, None]
        added = tree_contributions(opens.by_channel, _beside(single, codes))
        logits += shares @ added[:, :n_features]
        base += float(shares @ added[:, n_features:].sum(axis=1))
    if opens.by_slot is not None:
        added = tree_contributions(opens.by_slot, _beside(single, _hours([grid.slots[slot]])))
        logits += added[0, :n_features]
        base += float(added[0, n_features:].sum())
    per_reply = opens.scale(grid.channels[channel])
    return through_curve(
        base, logits, lambda raw: opens.calibration.apply(sigmoid(reply_logit(raw, per_reply)))
    )


def tree_contributions(trees: Trees, rows: Float32Array) -> FloatArray:
    """What every column adds to the logit of every row, and last what the average row has.

    Returns:
        Shape (n, F + 1); each row sums to the trees' logit.
    """
    import lightgbm

    booster = lightgbm.Booster(model_str=trees.text)
    added = booster.predict(rows, pred_contrib=True, num_threads=1, validate_features=False)
    return np.asarray(added, dtype=np.float64)


def _shares(opens: OpenModel, channel: str) -> FloatArray:
    """How much each learned channel counts for this one: all of its own, or the mean of the typical ones."""
    if channel in opens.channels:
        return np.array([float(name == channel) for name in opens.channels])
    typical = np.array(opens.typical, dtype=np.float64)
    return np.asarray(typical / typical.sum())


def _beside(features: Float32Array, columns: Float32Array) -> Float32Array:
    """The customer's features beside each row of further columns."""
    return np.hstack([np.tile(features, (len(columns), 1)), columns]).astype(np.float32)


def _onto(one: Breakdown, columns: np.ndarray, n_features: int) -> Breakdown:
    """From the chosen features to all of them."""
    amounts = np.zeros(n_features)
    amounts[columns] = one.amounts
    return Breakdown(base=one.base, amounts=amounts, total=one.total)
