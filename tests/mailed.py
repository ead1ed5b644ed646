"""Logs in which two offers go out by e-mail at random, and what followed is given."""

from __future__ import annotations

from datetime import time

import numpy as np

from models.choice import BoolArray, FloatArray
from models.logged import IntArray, LoggedRows

LEFT_ALONE = -1


def mailed(
    *,
    features: dict[str, FloatArray],
    offer: IntArray,
    converted: BoolArray,
    after: FloatArray,
    value_minor: FloatArray,
    discounted: BoolArray | None = None,
) -> LoggedRows:
    """A row a customer and minute; no channel tells of opens or clicks that did happen.

    Args:
        features: By name, each of shape (n,).
        offer: 0 for `news`, 1 for `off`, `LEFT_ALONE` for no contact, shape (n,).
        converted: Shape (n,).
        after: Moment of the conversion where there was one, as a share of the window, shape (n,).
        value_minor: The same of its value, minor units.
        discounted: Whether it was made at a discount; None where the log tells no prices.
    """
    n = len(offer)
    contacted = offer != LEFT_ALONE
    nothing = np.zeros(n)
    silent = np.where(contacted, 0.0, np.nan)
    on_email = np.where(contacted, 0, -1)
    return LoggedRows(
        offers=("news", "off"),
        channels=("email",),
        slots=(time(8),),
        feature_names=tuple(features),
        features=np.column_stack(list(features.values())),
        customer=np.arange(n),
        offer=offer,
        channel=on_email,
        slot=on_email,
        propensity=np.full(n, 1 / 3),
        decided_at=1.7e9 + 60.0 * np.arange(n),
        opened=silent,
        clicked=silent,
        converted=converted.astype(float),
        value_minor=np.where(converted, value_minor, 0.0),
        cost_minor=nothing,
        unsubscribed=nothing,
        randomised=np.ones(n, dtype=np.bool_),
        opened_after=np.full(n, np.nan),
        converted_after=np.where(converted, after, np.nan),
        discounted=None if discounted is None else np.where(converted, discounted, np.nan),
    )
