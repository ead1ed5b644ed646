"""Why this decision, and what would have turned it: over HTTP, with a model that was really fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import time, timedelta

import numpy as np
import pytest
from fastapi.testclient import TestClient

from features.history.append import CustomerRecord, append_consents, append_customers, append_identities
from features.history.channels import load_channels
from models.domain.campaign import PolicyName
from models.domain.channel import DEFAULT_CHANNELS, Channel, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.experiment import Experiment
from models.domain.interaction import InteractionKind
from models.logged import LoggedRows
from models.policy.bandit import Bandit
from models.policy.exploration import Exploration
from models.response.boosting import sigmoid
from models.response.model import FittedResponse, fit_response
from serving.app import create_app
from serving.service import Service
from serving.snapshot import Model

CHANNELS, OFFERS = ("email", "push", "sms"), ("coats", "boots")
GONE = "/v1/decisions/01a2019c-ff02-74e0-82f9-fc1c4292b790"

# What is computed from a recorded decision does not depend on the database.
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def fitted() -> Model:
    """The young open push messages, and contact works through the open; e-mail does little."""
    rng, n = np.random.default_rng(1), 6_000
    age, visits = rng.uniform(20, 70, n), rng.poisson(3, n).astype(float)
    c, o, s = rng.integers(-1, 3, n), rng.integers(0, 2, n), rng.integers(0, 3, n)
    contacted = c >= 0
    opened = contacted & (rng.random(n) < sigmoid(-0.3 - 0.05 * (age - 45) + 0.3 * (s - 1) + 0.4 * (c == 1)))
    converted = (rng.random(n) < 0.05 + 0.01 * (visits > 3) + 0.15 * opened).astype(float)
    rows = LoggedRows(
        offers=OFFERS,
        channels=CHANNELS,
        slots=(time(9), time(15), time(18)),
        feature_names=("age", "visits"),
        features=np.column_stack([age, visits]),
        customer=np.arange(n, dtype=np.int64),
        offer=np.where(contacted, o, -1),
        channel=c.astype(np.int64),
        slot=np.where(contacted, s, -1),
        propensity=np.where(contacted, 0.75 / 18, 0.25),
        decided_at=1.7e9 + 60.0 * np.arange(n),
        opened=np.where(contacted, opened, np.nan),
        clicked=np.where(contacted, opened & (rng.random(n) < 0.4), np.nan),
        converted=converted,
        value_minor=3_000.0 * converted,
        cost_minor=contacted.astype(float),
        unsubscribed=np.zeros(n),
        randomised=np.ones(n, dtype=np.bool_),
    )
    reports = frozenset({InteractionKind.OPENED, InteractionKind.CLICKED})
    channels = {one.name: replace(one, receipts=reports) for one in DEFAULT_CHANNELS}
    response = fit_response(rows, channels, attention_value_minor=50.0, seed=0)
    return Model(version="fitted-1", response=response, bandit=Bandit.fresh(CHANNELS, rows.slots))


class Shop:
    """The service over a market, asked over HTTP."""

    def __init__(self, market, client: TestClient, service: Service) -> None:
        self.market = market
        self.client = client
        self.service = service

    def campaign(self, **changes: object) -> None:
        """Set the campaign up; the next decision uses it."""
        self.market.campaign(**changes)
        self.service.snapshots.reload()

    def channel(self, channel: Channel) -> None:
        """Configure a channel; the next decision uses it."""
        self.market.channel(channel)
        self.market.now += timedelta(seconds=1)
        self.service.snapshots.reload()

    def champion(self, model: Model) -> None:
        """Promote a model; the next decision uses it."""
        self.market.champion.succeed(model)
        self.service.snapshots.reload()

    def decide(self, customer: str = "ada", **more: object) -> dict:
        body = {"customer_id": customer, "campaign_id": "spring", **more}
        answer = self.client.post("/v1/decisions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def look_up(self, decision: dict, language: str = "en") -> dict:
        address = f"/v1/decisions/{decision['decision_id']}"
        answer = self.client.get(address, params={"language": language})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def shop(market, fitted) -> Iterator[Shop]:
    market.champion.model = fitted
    market.customers("ada")
    service = market.service(start=False)
    with TestClient(create_app(service)) as client:
        market.opened.remove(service)  # the application's lifespan stops it
        yield Shop(market, client, service)


@pytest.mark.parametrize("policy", [PolicyName.GREEDY, PolicyName.BANDIT])
def test_contributions_add_up_to_what_was_recorded(shop, policy):
    shop.campaign(policy=policy)
    found = shop.look_up(shop.decide())
    assert found["missing"] == []
    parts = found["contributions"]
    assert parts["action"] == found["action"]
    for name in ("p_open", "uplift"):
        one = parts[name]
        total = one["base"] + sum(part["amount"] for part in one["parts"]) + one["adjustment"]
        assert total == pytest.approx(one["total"], abs=1e-12)
        assert one["total"] == pytest.approx(found["expected"][name], abs=1e-9)
    assert parts["p_open"]["parts"][0]["feature"] == "age"
    assert parts["p_open"]["parts"][0]["value"] == 40.0
    assert parts["p_open"]["parts"][0]["amount"] > 0  # younger than the average of 45


def test_a_cost_flip_is_true_when_the_channel_is_configured_so(shop):
    shop.campaign(policy=PolicyName.GREEDY)
    first = shop.look_up(shop.decide())
    flip = next(one for one in first["flips"] if one["kind"] in ("cost_above", "cost_below"))
    with shop.market.engine.connect() as conn:
        channel = load_channels(conn)[flip["channel"]]
    direction = 1 if flip["kind"] == "cost_above" else -1
    for step, expected in ((1e-6, flip["winner"]), (-1e-6, first["action"])):
        shop.channel(replace(channel, cost_minor=flip["threshold_minor"] * (1 + direction * step)))
        assert shop.decide(dry_run=True)["action"] == expected


def test_a_margin_flip_is_true_when_the_offer_earns_so(shop):
    shop.campaign(policy=PolicyName.GREEDY)
    first = shop.look_up(shop.decide())
    flip = next(one for one in first["flips"] if one["kind"] == "margin_below")
    stored = shop.service.snapshots.current.campaign("spring")
    for step, expected in ((-1e-6, flip["winner"]), (1e-6, first["action"])):
        margin = flip["threshold_minor"] * (1 + step)
        offers = tuple(
            replace(offer, margin_minor=margin) if offer.offer_id == flip["offer"] else offer
            for offer in stored.offers
        )
        shop.campaign(policy=PolicyName.GREEDY, offers=offers)
        assert shop.decide(dry_run=True)["action"] == expected


def test_a_consent_that_would_open_a_better_channel_is_worth_what_the_flip_says(shop):
    with shop.market.engine.begin() as conn:
        since = shop.market.now - timedelta(days=9)
        append_customers(conn, [CustomerRecord(customer_id="bob", time_zone="Asia/Taipei", created_at=since)])
        kinds = (IdentityKind.EMAIL, IdentityKind.DEVICE)
        append_identities(
            conn,
            [
                Identity(customer_id="bob", kind=kind, value=f"{kind}:bob", linked_at=since, source="test")
                for kind in kinds
            ],
        )

        def agree(channel: str) -> None:
            consent = Consent(
                customer_id="bob",
                channel=channel,
                purpose="marketing",
                status=ConsentStatus.GRANTED,
                since=since,
                source="test",
            )
            append_consents(conn, [consent])

        agree("email")
    shop.campaign(policy=PolicyName.GREEDY)
    before = shop.look_up(shop.decide("bob"))
    flip = next(one for one in before["flips"] if one["kind"] == "opened" and one["channel"] == "push")
    assert flip["without"] == ["no_consent"]
    assert "With consent, push would be worth" in before["told"]["flips"][before["flips"].index(flip)]
    with shop.market.engine.begin() as conn:
        agree("push")
    after = shop.decide("bob")
    assert after["action"] == flip["winner"]
    gain = after["expected"]["net_value_minor"] - before["expected"]["net_value_minor"]
    assert gain == pytest.approx(flip["gain_minor"])


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("Send ", "would win", "an average customer")),
        ("zh-Hant", ("發送", "最佳選擇將改為", "一般顧客", "活動已指定使用其他管道")),
        (
            "ja",
            ("送ります", "最適になります", "平均的なお客様", "キャンペーンは別のチャネルに固定されています"),
        ),
    ],
)
def test_every_sentence_is_in_the_language_that_was_asked_for(shop, language, words):
    shop.campaign(policy=PolicyName.GREEDY, pinned_channel="push")
    found = shop.look_up(shop.decide(), language)
    told = found["told"]
    assert told["language"] == language
    assert len(told["flips"]) == len(found["flips"]) > 0
    assert len(told["exclusions"]) == len(found["exclusions"]) == 2
    assert len(told["alternatives"]) == len(found["alternatives"])
    said = " ".join(
        [told["summary"], *told["flips"], *told["contributions"], *told["exclusions"], *told["alternatives"]]
    )
    for one in words:
        assert one in said
    assert "{" not in said
    if language != "en":
        assert "would" not in said
    else:
        assert told["summary"] == found["explanation"]


def test_a_former_model_still_explains_what_it_decided(shop, fitted):
    shop.campaign(policy=PolicyName.GREEDY)
    decision = shop.decide()
    contributions = shop.look_up(decision)["contributions"]
    shop.champion(replace(fitted, version="fitted-2"))
    assert shop.decide()["policy_version"] == "fitted-2"
    assert shop.look_up(decision)["contributions"] == contributions


def test_a_model_that_is_gone_is_said_to_be_gone_and_thresholds_stay(shop, fitted):
    shop.campaign(policy=PolicyName.GREEDY)
    decision = shop.decide()
    flips = shop.look_up(decision)["flips"]
    shop.champion(replace(fitted, version="fitted-2"))
    shop.market.champion.former.clear()
    found = shop.look_up(decision, "ja")
    assert found["contributions"] is None
    assert found["missing"] == [
        {"part": "contributions", "reason": "model_gone", "version": "fitted-1"},
        {"part": "openings", "reason": "model_gone", "version": "fitted-1"},
    ]
    assert found["told"]["missing"][0] == (
        "この決定を行ったモデルのバージョンfitted-1は、もう読み込めません。"
    )
    assert found["flips"] == [one for one in flips if one["kind"] != "opened"]


def test_a_model_that_gives_other_values_than_were_recorded_explains_nothing(shop, fitted):
    shop.campaign(policy=PolicyName.GREEDY)
    decision = shop.decide()
    response = FittedResponse.from_files(fitted.response.to_files())
    response.effect = replace(response.effect, mean=response.effect.mean * 1.01)
    shop.champion(replace(fitted, response=response))
    found = shop.look_up(decision)
    assert found["contributions"] is None
    assert {one["reason"] for one in found["missing"]} == {"not_reproduced"}


def test_rules_and_holdouts_have_no_flips_and_say_why(shop):
    shop.campaign(policy=PolicyName.CHEAPEST_FIRST)
    rule = shop.look_up(shop.decide())
    assert (rule["contributions"], rule["flips"]) == (None, None)
    assert {one["reason"] for one in rule["missing"]} == {"rule"}
    shop.campaign(experiment=Experiment(experiment_id="x", holdout_share=1.0))
    held = shop.look_up(shop.decide(), "zh-Hant")
    assert held["arm"] == "holdout"
    assert {one["reason"] for one in held["missing"]} == {"holdout"}
    assert held["told"]["summary"].startswith("不聯絡")


def test_a_language_that_is_not_spoken_is_a_problem(shop):
    shop.campaign()
    answer = shop.client.get(GONE, params={"language": "fr"})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["language"]


@pytest.mark.parametrize(
    ("language", "heading"),
    [
        ("en", "What would have turned the decision"),
        ("zh-Hant", "哪些改變會讓決策不同"),
        ("ja", "決定が変わる条件"),
    ],
)
def test_the_page_draws_contributions_and_says_flips_in_every_language(shop, language, heading):
    shop.campaign(policy=PolicyName.GREEDY)
    decision = shop.decide()
    told = shop.look_up(decision, language)["told"]
    answer = shop.client.get(f"/decisions/{decision['decision_id']}", params={"language": language})
    assert answer.status_code == 200
    page = answer.text
    assert f'<html lang="{language}">' in page
    assert heading in page
    assert page.count('<svg class="bars"') == 2
    contributions = shop.look_up(decision, language)["contributions"]
    moved = sum(len(contributions[prediction]["parts"]) for prediction in ("p_open", "uplift"))
    assert moved > 0
    assert page.count('<rect class="up"') + page.count('<rect class="down"') == moved
    for sentence in (told["summary"], *told["flips"], *told["contributions"]):
        assert sentence in page
    assert f'hreflang="{language}" aria-current="true"' in page
    assert page.count("hreflang=") == 3


def test_the_page_of_a_decision_without_contributions_says_why(shop, fitted):
    shop.campaign(policy=PolicyName.CHEAPEST_FIRST)
    decision = shop.decide()
    page = shop.client.get(f"/decisions/{decision['decision_id']}").text
    assert '<svg class="bars"' not in page
    assert page.count("The rule that decided does not weigh values.") == 1


def test_the_page_of_a_choice_that_was_drawn_names_the_best_action_too(shop):
    shop.campaign(policy=PolicyName.BANDIT)
    model = shop.service.snapshots.current.model
    timid = replace(model.bandit, exploration=Exploration(gamma=1e-9, max_loss_share=1e9))
    shop.champion(replace(model, version="exploring", bandit=timid))
    for _ in range(20):
        decision = shop.decide()
        found = shop.look_up(decision)
        page = shop.client.get(f"/decisions/{decision['decision_id']}").text
        drawn = found["best"] != found["action"]
        assert ("The choice was drawn so that we keep learning." in page) == drawn
        if drawn:
            break
    assert drawn
