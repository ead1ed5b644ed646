"""What a contact is worth beyond leaving the customer alone."""

from __future__ import annotations

import math

import numpy as np

from models.choice import FloatArray, Predictions
from models.compiled import compiled, plain


def net_value(
    predictions: Predictions,
    margin_minor: FloatArray,
    cost_minor: FloatArray,
    shadow_price_minor: FloatArray | float = 0.0,
) -> FloatArray:
    """Expected net value of every action, minor units.

    net_value = margin(offer) * worth * (p_convert - p_convert_no_contact)
                - cost(channel) - shadow_price(channel) - attention_price(customer, channel)

    and 0 for no contact. `worth` is what a conversion that contact causes brings, as a share of the margin.

    Args:
        predictions: For n customers.
        margin_minor: Margin of a conversion by offer, shape (O,).
        cost_minor: Cost of a message by channel, shape (C,).
        shadow_price_minor: What a unit of the channel's capacity is worth now, shape (C,).

    Returns:
        Shape (n, A), in the order of `ActionGrid`.
    """
    price = cost_minor + shadow_price_minor + predictions.attention_minor
    n, *axes = predictions.p_convert.shape
    value = np.empty((n, math.prod(axes) + 1))
    _value(
        plain(predictions.p_convert),
        plain(predictions.p_convert_no_contact),
        predictions.worth * margin_minor,
        plain(price),
        value,
    )
    return value


@compiled("void(float64[:, :, :, ::1], float64[::1], float64[::1], float64[:, ::1], float64[:, ::1])")
def _value(
    p_convert: FloatArray, p_alone: FloatArray, margin: FloatArray, price: FloatArray, value: FloatArray
) -> None:
    n, n_offers, n_channels, n_slots = p_convert.shape
    for i in range(n):
        a = 0
        for o in range(n_offers):
            for c in range(n_channels):
                for s in range(n_slots):
                    value[i, a] = margin[o] * (p_convert[i, o, c, s] - p_alone[i]) - price[i, c]
                    a += 1
        value[i, a] = 0.0
