"""What a contact is worth beyond leaving the customer alone."""

from __future__ import annotations

import math

import numpy as np

from models.choice import FloatArray, Predictions


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
    uplift = predictions.p_convert - predictions.p_convert_no_contact[:, None, None, None]
    price = cost_minor + shadow_price_minor + predictions.attention_minor
    contacts = (predictions.worth * margin_minor)[:, None, None] * uplift - price[:, None, :, None]
    n, *axes = contacts.shape
    return np.concatenate([contacts.reshape(n, math.prod(axes)), np.zeros((n, 1))], axis=1)
