from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from models.domain.campaign import content_for
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.customer import ConsentStatus
from models.domain.errors import InvalidInputError
from models.domain.interaction import InteractionKind as Kind
from training.simulator.market import Market
from training.simulator.presets import PRESETS
from training.simulator.randomised import randomised_log
from training.simulator.state import GRANTED

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 86_400.0


def contact(market: Market, channel: str, slot: int = 2, offer: int = 0) -> np.ndarray:
    grid = market.grid
    return np.full(market.n_customers, grid.index(offer, grid.channels.index(channel), slot))


def at(market: Market, moment: datetime = START) -> np.ndarray:
    return np.full(market.n_customers, moment.timestamp())


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_campaign_says_that_it_is_simulated_and_every_channel_can_carry_it(preset: str) -> None:
    market = Market(preset, 200, 0)
    campaign = market.campaign(START)
    known = {channel.name for channel in DEFAULT_CHANNELS}
    assert campaign.simulated
    assert campaign.grid == market.grid
    assert campaign.attribution_window_seconds == 7 * DAY
    assert set(market.channels()) <= known
    for channel in market.channels().values():
        assert "simulated" in channel.cost_source
        assert all(content_for(offer, channel) for offer in campaign.offers)


def test_a_call_by_the_bank_costs_thirty() -> None:
    assert Market("bank", 200, 0).channels()["call"].cost_minor == 3000


def test_same_seed_same_market_and_same_log() -> None:
    logs = []
    for _ in range(2):
        market = Market("retail", 300, 9)
        prior = market.prior_history(START - timedelta(days=21), 21)
        log = randomised_log(market, market.campaign(START), START, 7, 40, 0.2, np.random.default_rng(3))
        logs.append((prior, log.interactions, log.decisions(), market.customers(START)))
    assert logs[0] == logs[1]
    assert logs[0][0] != Market("retail", 300, 10).prior_history(START - timedelta(days=21), 21)


def test_every_fact_has_its_own_event_id() -> None:
    market = Market("travel", 500, 1)
    facts = market.prior_history(START - timedelta(days=28), 28)
    log = randomised_log(market, market.campaign(START), START, 14, 100, 0.2, np.random.default_rng(3))
    ids = [(fact.source, fact.event_id) for fact in [*facts, *log.interactions]]
    assert len(set(ids)) == len(ids)
    assert {source for source, _ in ids} == {"simulated"}


def test_only_what_a_channel_reports_reaches_the_history() -> None:
    market = Market("retail", 3000, 1)
    log = randomised_log(market, market.campaign(START), START, 7, 1500, 0.1, np.random.default_rng(3))
    reported = {name: channel.receipts for name, channel in market.channels().items()}
    always = {Kind.SENT, Kind.UNSUBSCRIBED, Kind.COMPLAINED}
    seen = {
        (fact.channel, fact.kind) for fact in log.interactions if fact.channel and fact.kind not in always
    }
    assert ("email", Kind.OPENED) in seen
    assert all(kind in reported[channel] for channel, kind in seen)


def test_machine_made_opens_are_flagged_and_do_not_depend_on_the_person() -> None:
    market = Market("retail", 20_000, 1)
    outcomes = market.respond(
        np.arange(20_000), contact(market, "email"), at(market), np.random.default_rng(2)
    )
    ids = [str(i) for i in range(20_000)]
    facts = [f for f in market.interactions(outcomes, ids, "c") if f.kind is Kind.OPENED]
    machine = [f for f in facts if f.machine_made]
    human = [f for f in facts if not f.machine_made]
    assert len(human) == np.isfinite(outcomes.opened_at).sum()
    # 35 % of customers sit behind a proxy, 1 % of messages bounce: 0.3465 * 20,000 = 6,930 +- 3 * 67.
    assert abs(len(machine) - 6930) < 201


def test_a_purchase_names_the_decision_only_after_a_click() -> None:
    market = Market("retail", 20_000, 1)
    outcomes = market.respond(
        np.arange(20_000), contact(market, "line"), at(market), np.random.default_rng(2)
    )
    ids = [str(i) for i in range(20_000)]
    facts = market.interactions(outcomes, ids, "c")
    clicked = {f.decision_id for f in facts if f.kind is Kind.CLICKED}
    bought = [f for f in facts if f.kind is Kind.CONVERTED]
    assert any(f.decision_id for f in bought)
    assert any(f.decision_id is None for f in bought)
    assert {f.decision_id for f in bought if f.decision_id} <= clicked


def test_the_discount_lowers_the_margin_of_purchases_that_were_coming_anyway() -> None:
    market = Market("retail", 50_000, 1)
    outcomes = market.respond(
        np.arange(50_000), contact(market, "line", offer=1), at(market), np.random.default_rng(2)
    )
    own = np.isfinite(outcomes.converted_at) & ~outcomes.caused
    opened = np.isfinite(outcomes.opened_at)
    # Six in ten of those who opened the discount take it.
    assert abs(outcomes.discounted[own & opened].mean() - 0.6) < 0.1
    assert not outcomes.discounted[own & ~opened].any()
    assert not (outcomes.in_shop & outcomes.discounted)[own].any()


def test_contact_costs_sleeping_dogs_their_own_purchases() -> None:
    market = Market("retail", 5000, 1)
    uplift = market.true_uplift(np.arange(5000), START)
    dog = market.population.dog
    assert abs(dog.mean() - 0.10) < 0.005
    assert (uplift[dog] < 0).all()
    assert (uplift[~dog] >= 0).all()


def test_a_contact_tires_and_the_tiredness_fades() -> None:
    market = Market("retail", 500, 1)
    rows = np.arange(500)
    rested = market.true_p_open(rows, START)
    market.respond(rows, contact(market, "sms"), at(market), np.random.default_rng(2))
    sms = market.grid.channels.index("sms")
    tired = market.true_p_open(rows, START)
    bought_nothing = market.state.lifecycle == market.population.lifecycle
    assert (tired < rested)[bought_nothing].all()
    assert (rested - tired)[:, sms].mean() > (rested - tired)[:, sms - 1].mean()
    later = market.true_p_open(rows, START + timedelta(days=60))
    # Twelve half-lives: 1.4 * 0.35 / 4096 = 1.2e-4 log-odds is what is left, at most a quarter of it in probability.
    assert np.abs(later - rested)[bought_nothing].max() < 1e-4


def test_those_who_leave_a_channel_are_no_candidates_on_it_and_the_history_hears_of_it() -> None:
    market = Market("retail", 20_000, 1)
    rows = np.arange(20_000)
    outcomes = market.respond(rows, contact(market, "sms"), at(market), np.random.default_rng(2))
    gone = np.isfinite(outcomes.unsubscribed_at)
    facts = market.interactions(outcomes, [str(i) for i in rows], "c")
    told = {int(f.customer_id.split("-")[1]) for f in facts if f.kind in (Kind.UNSUBSCRIBED, Kind.COMPLAINED)}
    assert told == set(rows[gone].tolist())
    assert gone.sum() > 50
    campaign = replace(market.campaign(START), pinned_channel="sms")
    month = START + timedelta(days=30)
    assert not market.mask(rows[gone], campaign, month)[:, :-1].any()
    statuses = {c.customer_id: c.status for c in market.consents(START) if c.channel == "sms"}
    assert all(
        statuses[f"sim-{row:07d}"] in (ConsentStatus.UNSUBSCRIBED, ConsentStatus.COMPLAINED)
        for row in rows[gone]
    )


def test_purchases_of_overlapping_decisions_are_drawn_once() -> None:
    market = Market("retail", 50_000, 1)
    rows = np.arange(50_000)
    silent = np.full(50_000, market.grid.no_contact)
    rng = np.random.default_rng(2)
    first = market.respond(rows, silent, at(market), rng)
    again = market.respond(rows, silent, at(market), rng)
    later = market.respond(rows, silent, at(market, START + timedelta(days=3)), rng)
    assert np.isfinite(first.converted_at).sum() > 1000
    assert not np.isfinite(again.converted_at).any()
    assert later.converted_at[np.isfinite(later.converted_at)].min() >= START.timestamp() + 7 * DAY
    covered = [f for f in market.everyday(START, 7) if f.kind is Kind.PURCHASED]
    assert not covered


def test_visits_reveal_the_hours_of_a_customer() -> None:
    market = Market("travel", 3000, 1)
    tokyo = list(market.preset.time_zones).index("Asia/Tokyo")
    mine = market.population.zone == tokyo
    visits = [f for f in market.everyday(START, 28) if f.kind is Kind.VISITED]
    hours: dict[int, list[float]] = {}
    for fact in visits:
        row = int(fact.customer_id.split("-")[1])
        if mine[row]:
            hours.setdefault(row, []).append((fact.occurred_at.hour + 9) % 24)
    pairs = [(market.population.best_hour[row], np.mean(h)) for row, h in hours.items() if len(h) >= 3]
    best, seen = np.array(pairs).T
    assert np.corrcoef(best, seen)[0, 1] > 0.5


def test_drift_changes_the_truth_of_one_copy_alone() -> None:
    market = Market("retail", 500, 1)
    rows, email = np.arange(500), market.grid.channels.index("email")
    before = market.true_p_open(rows, START)
    other = market.fork()
    other.collapse("email")
    other.boost("line")
    assert (other.true_p_open(rows, START)[:, email] < before[:, email]).all()
    line = market.grid.channels.index("line")
    assert (other.true_p_open(rows, START)[:, line] > before[:, line]).all()
    other.season(2.0)
    base = market.true_p_convert_no_contact(rows)
    assert np.allclose(other.true_p_convert_no_contact(rows), np.minimum(2 * base, 0.4), atol=1e-6)
    assert np.array_equal(market.true_p_open(rows, START), before)


def test_shifted_hours_move_the_best_slot() -> None:
    market = Market("travel", 2000, 1)
    rows, email = np.arange(2000), market.grid.channels.index("email")
    before = market.true_p_open(rows, START)[:, email].argmax(axis=1)
    market.shift_hours(-4.0)
    after = market.true_p_open(rows, START)[:, email].argmax(axis=1)
    assert after.mean() < before.mean() - 1


def test_a_withheld_channel_comes_last_on_the_grid_once_it_opens() -> None:
    market = Market("retail", 500, 1, withheld=("whatsapp",))
    assert "whatsapp" not in market.channels()
    assert all(consent.channel != "whatsapp" for consent in market.consents(START))
    size = market.expected_net_value(np.arange(10), START).shape[1]
    market.new_channel("whatsapp")
    campaign = market.campaign(START)
    assert campaign.channels[-1] == "whatsapp"
    # Two offers and six slots more.
    assert market.expected_net_value(np.arange(10), START).shape[1] == size + 12
    contacts = market.mask(np.arange(500), campaign, START)[:, :-1].reshape(500, 2, 8, 6)
    column = list(market.preset.channels).index("whatsapp")
    agreed = market.reachable[:, column] & (market.state.consent[:, column] == GRANTED)
    assert np.array_equal(contacts[:, 0, -1, 0], agreed)


def test_a_withheld_offer_comes_last_once_it_opens_and_is_worth_what_it_is_elsewhere() -> None:
    rows, whole = np.arange(2_000), Market("retail", 2_000, 1)
    market = Market("retail", 2_000, 1, withheld_offers=("new_season",))
    assert market.grid.offers == ("ten_off",)
    assert [offer.offer_id for offer in market.campaign(START).offers] == ["ten_off"]
    size = market.expected_net_value(rows, START).shape[1]
    market.new_offer("new_season")
    campaign = market.campaign(START)
    assert market.grid.offers == ("ten_off", "new_season")
    assert [offer.margin_minor for offer in campaign.offers] == [2_250.0, 3_000.0]
    turned = [1, 0]
    values = market.expected_net_value(rows, START)
    assert values.shape[1] == 2 * size - 1
    expected = whole.expected_net_value(rows, START)[:, :-1].reshape(-1, *whole.grid.shape)[:, turned]
    assert np.array_equal(values[:, :-1].reshape(-1, *market.grid.shape), expected)
    assert np.array_equal(market.true_uplift(rows, START), whole.true_uplift(rows, START)[:, turned])
    # Purchases by the full-price offer are never discounted, whichever place it has on the grid.
    email = market.grid.channels.index("email")
    for offer, discounted in ((0, True), (1, False)):
        fork = market.fork()
        actions = np.full(len(rows), market.grid.index(offer, email, 0))
        at = fork.start_at(rows, actions, campaign, START)
        outcomes = fork.respond(rows, actions, at, np.random.default_rng(0))
        assert outcomes.discounted.any() == discounted
        told = fork.interactions(outcomes, [f"d-{row}" for row in rows], campaign.campaign_id)
        assert {fact.offer_id for fact in told} <= {market.grid.offers[offer], None}


def test_offers_that_are_none_are_named() -> None:
    with pytest.raises(
        InvalidInputError, match="withheld_offers == 'free', must be one of new_season, ten_off"
    ):
        Market("retail", 200, 0, withheld_offers=("free",))
    with pytest.raises(InvalidInputError, match="must leave an offer"):
        Market("bank", 200, 0, withheld_offers=("savings_plan",))
    with pytest.raises(InvalidInputError, match="must be one that was withheld"):
        Market("retail", 200, 0).new_offer("ten_off")


def test_customers_lapse_without_purchases() -> None:
    market = Market("retail", 5000, 1)
    before = market.true_p_convert_no_contact(np.arange(5000)).mean()
    market.advance(90)
    assert market.true_p_convert_no_contact(np.arange(5000)).mean() < before


def test_bad_input_names_the_field_and_the_bound() -> None:
    with pytest.raises(InvalidInputError, match="preset == 'moon', must be one of retail, bank, travel"):
        Market("moon", 200, 0)
    market = Market("retail", 200, 0)
    with pytest.raises(InvalidInputError, match="must hold each customer at most once"):
        market.respond(np.array([1, 1]), np.array([0, 0]), np.zeros(2), np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="channel == 'fax'"):
        market.collapse("fax")
