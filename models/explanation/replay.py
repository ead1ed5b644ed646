"""A recorded decision's values computed again, for every action - also for those that were excluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.choice import ChoiceProblem, FloatArray, Policy, ResponseModel
from models.domain.channel import Channel
from models.explanation.flips import Ranking
from models.value import net_value

# The recorded values and the recomputed ones may differ by rounding only.
_RELATIVE, _ABSOLUTE_MINOR = 1e-6, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What the model and the policy say of one customer.

    Attributes:
        ranking: With net values for every action; only the candidates are marked.
        p_open: Open probabilities that the policy ranked by, shape (C, S).
        reproduced: Whether the candidates have the values that were recorded.
    """

    ranking: Ranking
    p_open: FloatArray
    reproduced: bool


def replay(
    recorded: Ranking,
    response: ResponseModel,
    policy: Policy,
    channels: Mapping[str, Channel],
    features: FloatArray,
) -> Replayed:
    """Predict and value again, at the prices that were recorded.

    Args:
        recorded: What was looked at when it was decided.
        response: The response model that decided.
        policy: The policy that decided.
        channels: Every channel of the grid, by name.
        features: As they were, shape (F,); NaN where missing.
    """
    predictions = response.predict(features[None], recorded.grid, channels)
    # Prices as they were: attention comes with the predictions, so the rest is what is left of the price.
    rest = recorded.price_minor - predictions.attention_minor[0]
    values = net_value(predictions, recorded.margin_minor, rest)
    answer = policy.distribution(
        ChoiceProblem(
            grid=recorded.grid,
            mask=recorded.mask[None],
            send_at=recorded.send_at[None],
            cost_minor=recorded.cost_minor,
            shadow_price_minor=rest - recorded.cost_minor,
            features=features[None],
            predictions=predictions,
            net_value_minor=values,
        )
    )
    again = (values if answer.net_value_minor is None else answer.net_value_minor)[0]
    p_open = (predictions.p_open if answer.p_open is None else answer.p_open)[0]
    same = np.isclose(
        again[recorded.mask], recorded.net_value_minor[recorded.mask], rtol=_RELATIVE, atol=_ABSOLUTE_MINOR
    )
    return Replayed(
        ranking=replace(recorded, net_value_minor=again), p_open=p_open, reproduced=bool(same.all())
    )
