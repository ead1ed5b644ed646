"""What is decided before the first row: by published rates, costs and margins alone."""

from __future__ import annotations

from datetime import time

import numpy as np
import pytest

from models.domain.action import ActionGrid
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import BundleError
from models.response.prior import (
    EFFECT_OF_AN_OPEN,
    PUBLISHED,
    PriorResponse,
    published_rate,
)
from models.response.stored import read_response
from models.value import net_value

_CHANNELS = {channel.name: channel for channel in DEFAULT_CHANNELS}
_GRID = ActionGrid(("coats",), ("email", "sms", "web_push", "line"), (time(9), time(18)))
_PRIOR = PriorResponse(attention_value_minor=3_000.0)


def _values(margin: float, costs: tuple[float, ...]) -> np.ndarray:
    predictions = _PRIOR.predict(np.zeros((1, 5)), _GRID, _CHANNELS)
    return net_value(predictions, np.array([margin]), np.array(costs))[0]


def test_an_open_adds_half_of_what_the_experiment_of_2008_showed() -> None:
    # (1.253 + 0.884) / 2 - 0.573 = 0.4955 points a mail, of which 22.71 % open: 0.0218; half of it is 0.0109.
    assert pytest.approx(0.0109, abs=5e-5) == EFFECT_OF_AN_OPEN


def test_what_a_contact_is_worth_is_open_rate_times_effect_times_margin_less_its_price() -> None:
    # e-mail: 3000 x 0.2271 x 0.010909 - 1 cost - 0.001 x 3000 attention = 3.43; SMS: 3000 x 0.55 x 0.010909 - 8 - 3 = 7.0.
    values = _values(3_000.0, (1.0, 8.0, 0.0, 3.0)).reshape(-1)
    assert values[[0, 2]] == pytest.approx([3.43, 7.00], abs=0.01)
    assert values[-1] == 0.0


def test_where_no_channel_is_worth_its_price_nobody_is_contacted() -> None:
    values = _values(300.0, (5.0, 8.0, 4.0, 5.0))
    assert values.argmax() == _GRID.no_contact
    assert (values[:-1] < 0).all()


def test_every_slot_looks_alike() -> None:
    values = _values(3_000.0, (1.0, 8.0, 0.0, 3.0))[:-1].reshape(_GRID.shape)
    assert np.ptp(values, axis=2).max() == 0.0


def test_a_channel_without_a_published_rate_is_believed_to_be_like_email_and_web_push_like_push() -> None:
    assert published_rate("line") is PUBLISHED["email"]
    assert published_rate("web_push") is PUBLISHED["push"]
    assert all(0 < rate.p_open < 1 and "20" in rate.source for rate in PUBLISHED.values())


def test_a_bundle_gives_the_prior_back() -> None:
    assert read_response(_PRIOR.to_files()) == _PRIOR
    with pytest.raises(BundleError, match=r"prior\.json"):
        PriorResponse.from_files({"prior.json": b"{}"})
