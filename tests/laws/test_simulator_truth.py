"""What the simulator plays out agrees with what it calls the truth, and its mask with the domain's."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.candidates import mask_of
from models.domain.campaign import Campaign, Caps, QuietHours
from models.domain.channel import Touch
from models.domain.eligibility import eligible
from training.simulator.market import Market
from training.simulator.randomised import random_distribution, randomised_log

START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = np.arange(300)


@pytest.fixture(scope="module")
def worn_market() -> tuple[Market, Campaign, datetime]:
    """A market after two weeks of many contacts: caps reached, people gone."""
    market = Market("retail", 300, 3)
    campaign = replace(market.campaign(START), caps=Caps(contacts=6, contacts_per_channel=6))
    randomised_log(market, campaign, START, 14, 150, 0.05, np.random.default_rng(1))
    return market, campaign, START + timedelta(days=14)


@given(
    contacts=st.none() | st.integers(0, 6),
    per_channel=st.none() | st.integers(0, 3),
    per_campaign=st.none() | st.integers(0, 8),
    hours=st.integers(1, 14 * 24),
    quiet=st.tuples(st.integers(0, 23), st.integers(0, 23)),
    pinned=st.none() | st.sampled_from(["email", "call"]),
    touch=st.sampled_from([frozenset(Touch), frozenset({Touch.TECH}), frozenset({Touch.HIGH, Touch.LOW})]),
    later=st.integers(0, 48),
)
@settings(max_examples=25, deadline=None)
def test_the_mask_is_that_of_the_domain(
    worn_market: tuple[Market, Campaign, datetime],
    contacts: int | None,
    per_channel: int | None,
    per_campaign: int | None,
    hours: int,
    quiet: tuple[int, int],
    pinned: str | None,
    touch: frozenset[Touch],
    later: int,
) -> None:
    market, campaign, now = worn_market
    now += timedelta(hours=later)
    campaign = replace(
        campaign,
        caps=Caps(
            contacts=contacts,
            contacts_per_channel=per_channel,
            contacts_per_campaign=per_campaign,
            window_seconds=hours * 3600,
        ),
        quiet_hours=QuietHours(start=time(quiet[0]), end=time(quiet[1])),
        pinned_channel=pinned,
        touch_levels=touch,
    )
    rows = np.arange(0, 300, 5)
    verdicts = [
        eligible(campaign, market.channels(), person, now) for person in market.people(rows, campaign)
    ]
    assert (market.mask(rows, campaign, now) == mask_of(campaign.grid, verdicts)).all()
    stamps = [[moment.timestamp() for moment in verdict.send_at] for verdict in verdicts]
    assert (market.send_at(rows, campaign, now) == np.array(stamps)).all()


@pytest.mark.parametrize(("channel", "offer"), [("email", 0), ("line", 1), ("sms", 0), ("call", 1)])
def test_played_out_outcomes_agree_with_the_truth(channel: str, offer: int) -> None:
    market = Market("retail", 30_000, 1)
    rows = np.arange(30_000)
    column, slot = market.grid.channels.index(channel), 2
    action = np.full(len(rows), market.grid.index(offer, column, slot))
    p_open = market.true_p_open(rows, START)[:, column, slot]
    uplift = market.true_uplift(rows, START)[:, offer, column, slot]
    p_buy = market.true_p_convert_no_contact(rows) + uplift
    p_fail = market.response.p_fail[column]
    start_at = np.full(len(rows), START.timestamp())
    outcomes = market.respond(rows, action, start_at, np.random.default_rng(4))
    for happened, p in (
        (~np.isnan(outcomes.opened_at), p_open * (1 - p_fail)),
        (~np.isnan(outcomes.converted_at), p_buy),
    ):
        # Four standard errors of a mean of independent draws.
        assert abs(happened.mean() - p.mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / len(rows)


def test_the_net_value_is_what_customers_bring_in_with_contact_less_without() -> None:
    """Realised margin with contact less without, less cost; what is lost later is valued apart.

    Both branches are drawn from the same seed, so that only the purchases which contact changes differ.
    """
    rows = np.arange(80_000)
    market = Market("retail", len(rows), 2)
    grid = market.grid
    contact = grid.index(1, grid.channels.index("line"), 2)
    start_at = np.full(len(rows), START.timestamp())
    expected = market.expected_net_value(rows, START)[:, contact]

    def margin_less_cost(action: int) -> np.ndarray:
        actions = np.full(len(rows), action)
        outcomes = market.fork().respond(rows, actions, start_at, np.random.default_rng(1))
        return outcomes.value_minor - outcomes.cost_minor

    gains = margin_less_cost(contact) - margin_less_cost(grid.no_contact)
    later = _later_losses(market, rows, list(market.preset.channels).index("line"))
    error = np.sqrt(gains.var() / len(rows))
    assert error < 2
    assert abs(gains.mean() - later.mean() - expected.mean()) < 3 * error


def _later_losses(market: Market, rows: np.ndarray, column: int) -> np.ndarray:
    """By definition: 400 a leaver and 1200 a complaint (one leaver in ten), and the price of fatigue.

    400 * (0.9 + 0.1 * 3) = 480 a leaver of average spend. The price of fatigue, 5 % of the customer's best
    value before it, is about 5 % / 95 % of the best value after it.
    """
    p_leave = market.response.p_unsubscribe(rows, market.state.pressure_of(rows, 0.0))[:, column]
    best = np.maximum(market.expected_net_value(rows, START).max(axis=1), 0)
    return 480 * p_leave * market.population.spend[rows] + 0.05 / 0.95 * best


def test_nothing_ineligible_is_drawn_and_propensities_are_those_of_the_draw() -> None:
    market = Market("bank", 500, 5)
    campaign = market.campaign(START)
    mask = market.mask(np.arange(500), campaign, START)
    p = random_distribution(mask, 0.2)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-12)
    assert (p[~mask] == 0).all()
    log = randomised_log(market, campaign, START, 10, 50, 0.2, np.random.default_rng(6))
    same = Market("bank", 500, 5)
    first = log.row[:50]
    fresh = random_distribution(same.mask(first, campaign, START), 0.2)
    assert np.array_equal(log.propensity[:50], fresh[np.arange(50), log.action[:50]])
