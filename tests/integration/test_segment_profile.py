"""A segment in words and figures: over HTTP, as a page and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from features.feature_list import AttributeSpec, FeatureList
from features.history.append import append_consents, append_identities, append_interactions
from features.history.channels import load_channels
from features.history.query import load_customers
from features.history.report import customer_sums, funnel
from features.segments.reach import reachable
from features.segments.store import TagStatement, append_tags
from models.domain.action import ReasonCode
from models.domain.campaign import PolicyName
from models.domain.channel import DEFAULT_CHANNELS, IdentityKind
from models.domain.customer import EVERY_CHANNEL, Consent, ConsentStatus, Identity
from models.domain.eligibility import unreachable
from models.domain.experiment import Experiment
from models.domain.interaction import Interaction, InteractionKind
from models.evaluation.share import counted_share
from nextchannel.commands.described import lines
from serving.app import create_app
from serving.explain.catalogue import Language
from serving.explain.languages import CATALOGUES
from serving.money import Currency
from serving.profile.segment import Profiler
from serving.request import DecisionRequest

FEATURES = FeatureList(channels=(), attributes=(AttributeSpec(name="tier", values=("gold",)),))
PEOPLE = [f"c{i:03d}" for i in range(200)]
VIPS = PEOPLE[::2]
SPLIT = Experiment(experiment_id="spring", holdout_share=0.3, control_share=0.0)
VIP = {"description": "Our best", "condition": {"tag": "vip"}}
BEFORE_THE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


class Served:
    """An online store: VIPs bought five times or seven, everybody else once or three times."""

    def read(self, customer_ids: list[str], now: datetime) -> Any:  # noqa: ARG002
        values = np.full((len(customer_ids), len(FEATURES.names)), np.nan)
        numbers = np.array([int(one[1:]) for one in customer_ids])
        bought = np.where(numbers % 2 == 0, 5.0, 1.0) + np.where(numbers % 4 < 2, 0.0, 2.0)
        values[:, FEATURES.names.index("purchases_365d")] = bought
        return SimpleNamespace(values=values, missing=np.zeros(len(customer_ids), dtype=np.bool_))


def tag(market: Any, since: datetime, *customer_ids: str) -> None:
    with market.engine.begin() as conn:
        append_tags(
            conn,
            [
                TagStatement(customer_id=one, tag="vip", since=since, source="crm")
                for one in customer_ids
            ],
        )  # fmt: skip


@pytest.fixture
def vips(market: Any) -> Any:
    """200 customers, of whom every other one carries a tag."""
    market.customers(*PEOPLE)
    tag(market, market.now - timedelta(days=9), *VIPS)
    return market


@pytest.fixture
def opened() -> Iterator[Callable[[Any], TestClient]]:
    """Opens the application over a market."""
    with ExitStack() as stack:

        def open_app(market: Any) -> TestClient:
            service = market.service(start=False)
            market.opened.remove(service)  # the application's lifespan stops it
            ready = replace(service, many_features=Served(), feature_list=lambda: FEATURES)
            client = stack.enter_context(TestClient(create_app(ready), raise_server_exceptions=False))
            client.put("/v1/segments/best", json=VIP).raise_for_status()
            return client

        yield open_app


@pytest.fixture
def decided(vips: Any) -> list[Any]:
    """Everybody is decided for; who is contacted opens where their number divides by 3, and every fifth customer converts."""
    vips.campaign(simulated=True, policy=PolicyName.UNIFORM, experiment=SPLIT)
    service = vips.service()
    made = service.decider.decide_many(
        [DecisionRequest(customer_id=person, campaign_id="spring") for person in PEOPLE], vips.now
    )
    facts = []
    for i, decision in enumerate(made):
        about: dict[str, Any] = {"source": "sim", "customer_id": decision.customer_id}
        if decision.action:
            about |= {"decision_id": decision.decision_id, "channel": decision.action.channel}
            after = decision.action.send_at + timedelta(minutes=1)
            facts.append(Interaction(event_id=f"s{i}", kind=InteractionKind.SENT, occurred_at=after, **about))
            if i % 3 == 0:
                opens = after + timedelta(minutes=5)
                facts.append(
                    Interaction(event_id=f"o{i}", kind=InteractionKind.OPENED, occurred_at=opens, **about)
                )
        if i % 5 == 0:
            bought = {"occurred_at": vips.now + timedelta(days=2), "value_minor": 2_000.0}
            facts.append(
                Interaction(
                    event_id=f"b{i}",
                    kind=InteractionKind.CONVERTED,
                    **(about | bought | ({} if decision.action else {"campaign_id": "spring"})),
                )
            )
    vips.now += timedelta(days=3)
    with vips.engine.begin() as conn:
        append_interactions(conn, facts, vips.now)
    return made


def profile_of(client: TestClient, name: str = "best", **asked: str) -> dict[str, Any]:
    answer = client.get(f"/v1/segments/{name}/profile", params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_members_are_told_apart_from_everybody_else(vips, opened):
    found = profile_of(opened(vips))
    assert (found["name"], found["version"], found["description"]) == ("best", 1, "Our best")
    assert (found["n_members"], found["n_customers"], found["campaign"]) == (100, 200, None)
    (bought,) = found["traits"]["told"]
    assert (bought["feature"], bought["inside"], bought["outside"]) == ("purchases_365d", 6.0, 2.0)
    assert (bought["n_inside"], bought["n_outside"], bought["defining"]) == (100, 100, False)
    # Of each side half are one above and half one below the mean: variance 100 / 99.
    assert bought["standardised"] == pytest.approx(4 / (100 / 99) ** 0.5)
    assert bought["sentence"].startswith("purchases in 365 days: 6 on average, against 2")
    assert profile_of(opened(vips), language="zh-Hant")["traits"]["told"][0]["sentence"].startswith(
        "近 365 天"
    )


def test_who_can_be_reached_is_told_as_share_of_members_and_of_everybody(vips, opened):
    said = [
        Consent(
            customer_id=one, channel=channel, purpose="marketing", status=ConsentStatus.UNSUBSCRIBED,
            since=vips.now - timedelta(days=1), source="test",
        )
        for channel, those in (("email", VIPS[:30]), (EVERY_CHANNEL, VIPS[:10]), ("email", PEOPLE[1:21:2]))
        for one in those
    ]  # fmt: skip
    with vips.engine.begin() as conn:
        append_consents(conn, said)
    rows = {row["channel"]: row for row in profile_of(opened(vips))["channels"]}
    # 70 of 100 members, 90 of 100 others; on SMS only those count who refused every channel.
    assert (rows["email"]["n_read"], rows["email"]["n_reachable"]) == (100, 70)
    assert (rows["email"]["share_members"], rows["email"]["share_customers"]) == (0.7, pytest.approx(0.8))
    assert (rows["sms"]["share_members"], rows["sms"]["share_customers"]) == (0.9, pytest.approx(0.95))
    assert rows["line"]["share_members"] == 0.0
    assert rows["email"]["n_customers_read"] == 200


def test_reach_agrees_with_eligibility(engine: Engine, market):
    market.customers(*PEOPLE[:60], consent=False)
    rng = np.random.default_rng(4)
    names = [channel.name for channel in DEFAULT_CHANNELS] + [EVERY_CHANNEL]
    statuses = [ConsentStatus.GRANTED, *ConsentStatus]
    said = [
        Consent(
            customer_id=PEOPLE[rng.integers(60)],
            channel=names[rng.integers(len(names))],
            purpose=("marketing", "service")[rng.integers(2)],
            status=statuses[rng.integers(len(statuses))],
            since=market.now - timedelta(days=int(rng.integers(-3, 20))),
            source="test",
        )
        for _ in range(900)
    ]
    held = [
        Identity(customer_id=one, kind=kind, value=f"{kind}:{one}", linked_at=market.now, source="more")
        for one in PEOPLE[:60]
        for kind in IdentityKind
        if kind not in ("email", "device", "phone") and rng.random() < 0.6
    ]
    with engine.begin() as conn:
        append_consents(conn, said)
        append_identities(conn, held)
        channels = load_channels(conn)
        found = reachable(conn, channels.values(), "marketing", PEOPLE[:60], market.now)
        people = load_customers(conn, PEOPLE[:60], market.now)
    n_reached = 0
    for name, channel in channels.items():
        why = [unreachable(channel, "marketing", people[one], market.now) for one in PEOPLE[:60]]
        expected = [reason in (None, ReasonCode.PROVIDER_WINDOW) for reason in why]
        assert found[name].tolist() == expected, name
        n_reached += sum(expected)
    assert 0 < n_reached < 60 * len(channels)


def test_a_campaign_is_shown_for_members_alone(vips, decided, opened):
    client = opened(vips)
    found = profile_of(client, campaign_id="spring")["campaign"]
    assert found["up_to_date"]
    assert (found["n_members"], found["n_customers"], found["withheld"]) == (100, 100, None)
    members = [(i, one) for i, one in enumerate(decided) if one.customer_id in VIPS]
    for arm in found["arms"]:
        those = [(i, one) for i, one in members if one.arm == arm["arm"]]
        cost = sum(one.expected.cost_minor for _, one in those)
        bought = sum(i % 5 == 0 for i, _ in those)
        assert arm["n_customers"] == len(those)
        assert arm["mean_minor"] == pytest.approx((2_000.0 * bought - cost) / len(those))
    arms = {arm["arm"]: arm["mean_minor"] for arm in found["arms"]}
    (only,) = found["differences"]
    assert (only["arm"], only["other"]) == ("treatment", "holdout")
    assert only["unadjusted"]["value"] == pytest.approx(arms["treatment"] - arms["holdout"])
    assert only["difference"]["always_low"] < only["difference"]["low"]
    rows = {row["channel"]: row for row in found["funnel"]}
    for channel, row in rows.items():
        chosen = [i for i, one in members if one.action and one.action.channel == channel]
        assert (row["planned"], row["sent"]) == (len(chosen), len(chosen))
    assert sum(row["planned"] for row in rows.values()) == sum(one.action is not None for _, one in members)


def test_the_parts_of_a_campaign_add_up_to_the_whole(vips, decided, opened):
    opened(vips).get("/v1/report", params={"campaign_id": "spring"}).raise_for_status()
    others = sorted(set(PEOPLE) - set(VIPS))
    with vips.engine.connect() as conn:
        whole = customer_sums(conn, "spring").arms
        inside, outside = (customer_sums(conn, "spring", those).arms for those in (VIPS, others))
        assert {arm: (inside[arm] + outside[arm]).n_customers for arm in whole} == {
            arm: sums.n_customers for arm, sums in whole.items()
        }
        planned = {row.channel: row.planned for row in funnel(conn, "spring")}
        parts = [row for those in (VIPS, others) for row in funnel(conn, "spring", those)]
        assert {name: sum(row.planned for row in parts if row.channel == name) for name in planned} == planned
        assert customer_sums(conn, "spring", []).arms == {}


def test_hours_are_of_the_customers_own_day_and_of_channels_that_report_opens(vips, decided, opened):
    found = profile_of(opened(vips), campaign_id="spring")["campaign"]["hours"]
    telling = {one.name for one in DEFAULT_CHANNELS if one.reports(InteractionKind.OPENED)}
    sent: dict[int, list[bool]] = {}
    for i, one in enumerate(decided):
        if one.customer_id in VIPS and one.action and one.action.channel in telling:
            hour = (one.action.send_at + timedelta(hours=8)).hour  # everybody lives in Taipei
            sent.setdefault(hour, []).append(i % 3 == 0)
    assert sent
    assert {row["hour"]: (row["opened"]["n"], row["opened"]["n_hits"]) for row in found} == {
        hour: (len(opens), sum(opens)) for hour, opens in sent.items()
    }
    for row in found:
        expected = counted_share(row["opened"]["n_hits"], row["opened"]["n"])
        assert (row["opened"]["low"], row["opened"]["high"]) == (expected.low, expected.high)


def test_members_are_those_from_before_the_campaign(vips, decided, opened):
    # Whoever became a VIP since it began does not count.
    tag(vips, vips.now - timedelta(days=1), *PEOPLE[1:41:2])
    client = opened(vips)
    found = profile_of(client, campaign_id="spring")
    assert (found["n_members"], found["campaign"]["n_members"]) == (120, 100)
    assert found["campaign"]["n_customers"] == 100
    assert found["campaign"]["members_as_of"] < decided[0].decided_at.isoformat()


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ({"not": {"attribute": "tier", "op": "==", "value": "gold"}}, "attribute tier"),
        ({"not": {"feature": "attr_tier_is_gold", "op": "==", "value": 1}}, "feature attr_tier_is_gold"),
    ],
)
def test_what_is_not_known_of_the_past_withholds_the_comparison(vips, decided, opened, condition, named):
    client = opened(vips)
    client.put(
        "/v1/segments/plain", json={"condition": {"all": [{"tag": "vip"}, condition]}}
    ).raise_for_status()
    found = profile_of(client, "plain", campaign_id="spring")["campaign"]
    assert named in found["withheld"]
    assert {found[name] for name in ("arms", "differences", "sample_ratio", "verdict")} == {None}
    assert found["funnel"]
    page = client.get("/segments/plain", params={"campaign": "spring"}).text
    assert "The arms are not compared" in page
    assert "Net value a customer" not in page


def test_a_feature_worked_out_from_facts_is_known_of_the_past(vips, decided, opened):
    client = opened(vips)
    condition = {"all": [{"tag": "vip"}, {"feature": "conversions_90d", "op": "==", "value": 0}]}
    client.put("/v1/segments/unconverted", json={"condition": condition}).raise_for_status()
    found = profile_of(client, "unconverted", campaign_id="spring")
    # Twenty VIPs have converted since; before the campaign nobody had.
    assert (found["n_members"], found["campaign"]["n_members"]) == (80, 100)
    assert found["campaign"]["withheld"] is None


@BEFORE_THE_DATABASE
def test_a_campaign_that_has_decided_for_nobody_and_a_segment_without_members(vips, opened):
    vips.campaign()
    client = opened(vips)
    client.put("/v1/segments/none", json={"condition": {"any": []}}).raise_for_status()
    found = profile_of(client, "none", campaign_id="spring")
    assert (found["n_members"], found["traits"]["told"]) == (0, [])
    assert found["channels"][0]["share_members"] is None
    assert found["campaign"]["members_as_of"] is None
    assert (found["campaign"]["withheld"], found["campaign"]["arms"]) == (
        "Nobody has been decided for yet.",
        None,
    )
    page = client.get("/segments/none", params={"campaign": "spring"})
    assert page.status_code == 200
    assert "sets them apart" in page.text


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/segments/nobody/profile", 404, "segment"),
        ("/v1/segments/best/profile?campaign_id=nothing", 404, "campaign_id"),
        ("/v1/segments/best/profile?language=xx", 422, "language"),
        ("/v1/segments/b%20b/profile", 422, "name"),
    ],
)
def test_what_is_wrong_is_named(vips, opened, path, status, field):
    answer = opened(vips).get(path)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["field"] == field


@BEFORE_THE_DATABASE
def test_without_a_list_of_features_the_rest_is_told(vips):
    service = vips.service(start=False)
    vips.opened.remove(service)
    with TestClient(create_app(service)) as client:
        client.put("/v1/segments/best", json=VIP)
        found = profile_of(client)
        assert found["traits"] is None
        assert found["channels"]
        assert "There are no features yet" in client.get("/segments/best").text


@BEFORE_THE_DATABASE
def test_the_pages_show_what_the_profile_says(vips, decided, opened):
    client = opened(vips)
    listed = client.get("/segments")
    assert listed.status_code == 200
    assert '<a href="/segments/best">best</a>' in listed.text
    assert "Our best" in listed.text
    assert '<a href="/segments">Segments</a>' in client.get("/").text
    page = client.get("/segments/best", params={"campaign": "spring", "language": "ja"})
    assert page.status_code == 200
    assert "default-src" in page.headers["content-security-policy"]
    profile = profile_of(client, campaign_id="spring", language="ja")
    text = page.text.replace("&#39;", "'")
    assert profile["traits"]["told"][0]["sentence"] in text
    assert profile["campaign"]["verdict"] in text
    assert profile["campaign"]["caution"] in text
    assert "100 of 200 customers" in text
    assert "<script" not in text
    assert client.get("/segments/best", params={"campaign": ""}).status_code == 200
    missing = client.get("/segments/nobody")
    assert missing.status_code == 404
    assert "nobody" in missing.text
    assert client.get("/segments/best", params={"campaign": "nothing"}).status_code == 404


@BEFORE_THE_DATABASE
def test_the_terminal_says_the_same(vips, decided, opened):
    opened(vips)
    profiler = Profiler(engine=vips.engine, source=Served(), currency=Currency(), settling_seconds=10.0)
    found = profiler.profile("best", vips.now, CATALOGUES[Language.ENGLISH], FEATURES, "spring")
    assert found.campaign is not None
    assert found.traits is not None
    said = "\n".join(lines(found, Currency()))
    assert said.startswith("best (version 1): 100 of 200 customers\nOur best\n")
    assert f"- {found.traits.told[0].sentence}" in said
    assert "email           100% of 100 members,    100% of all customers (200 looked at)" in said
    assert "Campaign spring: 100 members decided for" in said
    (only,) = found.campaign.differences or ()
    low, high = (Currency().words(end) for end in (only.difference.always_low, only.difference.always_high))
    assert (
        f"treatment - holdout: {Currency().words(only.difference.value)} a customer, always-valid [{low}, {high}]"
        in said
    )
    assert found.campaign.caution in said
    hour = found.campaign.hours[0]
    assert f"{hour.hour:02}:00" in said
    withheld = replace(found.campaign, withheld="Not comparable.", differences=None, verdict=None)
    said = "\n".join(lines(replace(found, campaign=withheld), Currency()))
    assert said.endswith("Not comparable.")
    assert "treatment - holdout" not in said
