"""What is decided before the first row: by published rates, costs and margins alone."""

from __future__ import annotations

from datetime import time

import numpy as np
import pytest

from models.domain.action import ActionGrid
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.errors import BundleError
from models.response.evidence import Moments, fit_evidence
from models.response.prior import (
    EFFECT_OF_AN_OPEN,
    PUBLISHED,
    PriorResponse,
    believed_effect,
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


def test_the_belief_in_a_contact_is_that_of_the_prior_and_as_doubtful_as_it_is_large() -> None:
    # A quarter of the messages opened: 0.25 x 0.010909 = 0.00273; at a rate of 2 % a tenth of it is less than that.
    effect, doubt = believed_effect(0.25, 0.02)
    assert effect == doubt == pytest.approx(0.00273, abs=1e-5)
    # Where every third person converts anyway, an experiment with one buyer in a hundred says little: 0.1 x 0.3.
    assert believed_effect(0.25, 0.3) == (effect, pytest.approx(0.03))


def test_a_belief_moves_what_the_data_leave_open_and_hardly_what_they_settle() -> None:
    def level(n_rows: int) -> float:
        """Posterior mean of one coefficient of which n rows say 0.10, under a belief of 0.02 +- 0.02."""
        data = Moments(
            gram=np.array([[n_rows]]), moment=np.array([0.10 * n_rows]), total=1.01 * n_rows, n=n_rows
        )
        believing = data.believing(np.ones(1), 0.02, 0.02)
        return float(fit_evidence(believing, np.zeros(1, dtype=np.int64), np.ones(1)).mean[0])

    # Precisions 25 (noise 1) and 2,500: (25 x .10 + 2,500 x .02) / 2,525 = .0208.
    assert level(25) == pytest.approx(0.0208, abs=0.0005)
    # 250,000 and 2,500: (25,000 + 50) / 252,500 = .0992.
    assert level(250_000) == pytest.approx(0.0992, abs=0.0005)
