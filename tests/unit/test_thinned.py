"""A click as an open that went on: how far what moves opens moves clicks."""

from __future__ import annotations

import numpy as np
import pytest

from models.response.boosting import Examples, fit_trees, logit, sigmoid
from models.response.thinned import ThinnedChannels, opens_behind, reply_logit, sensitivity

LOGITS = np.linspace(-8.0, 8.0, 81)


@pytest.mark.parametrize("per_reply", [1.0, 1.5, 4.0, 40.0])
def test_a_reply_is_one_in_k_opens(per_reply):
    np.testing.assert_allclose(
        sigmoid(reply_logit(LOGITS, per_reply)), sigmoid(LOGITS) / per_reply, rtol=1e-10
    )


def test_where_the_reply_is_the_open_nothing_changes():
    np.testing.assert_array_equal(reply_logit(LOGITS, 1.0), LOGITS)
    np.testing.assert_array_equal(reply_logit(LOGITS, np.ones(81)), LOGITS)
    np.testing.assert_array_equal(sensitivity(sigmoid(LOGITS), 1.0), 1.0)


def test_channels_of_a_grid_are_thinned_as_each_is_by_itself():
    per_reply = np.array([1.0, 4.0, 1.0, 2.5])
    logits = np.random.default_rng(3).normal(size=(5, 4, 6))
    each = np.stack([reply_logit(logits[:, c], per_reply[c]) for c in range(4)], axis=1)
    ThinnedChannels.of(per_reply).thin(logits)
    np.testing.assert_array_equal(logits, each)


@pytest.mark.parametrize("per_reply", [1.5, 4.0, 40.0])
def test_sensitivity_is_the_slope_of_the_replys_logit(per_reply):
    step = 1e-5
    slope = (reply_logit(LOGITS + step, per_reply) - reply_logit(LOGITS - step, per_reply)) / (2 * step)
    said = sensitivity(sigmoid(LOGITS) / per_reply, per_reply)
    np.testing.assert_allclose(said, slope, rtol=1e-6, atol=1e-8)
    assert (said > 0).all()
    assert (said <= 1).all()


def test_opens_behind_a_click_are_those_of_the_channels_that_tell_of_both():
    assert opens_behind(400, 100, 50, 1_000) == 4.0
    assert opens_behind(0, 0, 50, 1_000) == 1.0
    assert opens_behind(90, 100, 50, 1_000) == 1.0


def test_a_channel_is_not_taken_to_be_opened_more_than_it_is_written_to():
    # Four opens a click would be 1,600 opens of 1,000 messages.
    said = opens_behind(400, 100, 400, 1_000)
    assert said == pytest.approx(0.7 * 1_000 / 400)
    # Nobody clicked: nothing contradicts the others.
    assert opens_behind(400, 100, 0, 1_000) == 4.0


def test_trees_on_clicks_find_what_moves_opens():
    rng = np.random.default_rng(8)
    n = 40_000
    x = rng.integers(0, 2, (n, 1)).astype(np.float32)
    # 27 and 88 % are opened, every fourth open is clicked: clicks differ by a factor of 3.3, their logits by 1.6 instead of 3.
    open_logit = np.where(x[:, 0] == 1, 2.0, -1.0)
    label = (rng.random(n) < sigmoid(open_logit) / 4).astype(float)
    offset = np.zeros(n)
    thinned = fit_trees(Examples(rows=x, label=label, offset=offset, per_reply=np.full(n, 4.0)), seed=1)
    plain = fit_trees(Examples(rows=x, label=label, offset=offset), seed=1)
    ends = np.array([[0], [1]], dtype=np.float32)
    assert thinned is not None
    assert plain is not None
    np.testing.assert_allclose(thinned.logits(ends), [-1.0, 2.0], atol=0.35)
    np.testing.assert_allclose(plain.logits(ends), logit(sigmoid(np.array([-1.0, 2.0])) / 4), atol=0.15)
