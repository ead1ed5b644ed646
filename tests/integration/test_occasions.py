"""Occasions: who is due is decided for once, whoever looks and whatever breaks; the preview says so before."""
# ruff: noqa: RUF001 - full-width punctuation is the languages' own

from __future__ import annotations

import html
import json
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, inspect, select
from typer.testing import CliRunner

from features.history.append import CustomerRecord, append_customers, append_interactions
from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from features.history.members import merge
from features.history.tables import decisions, interactions, occasion_passes, occurrences, outbox
from models.domain.campaign import SendWindow
from models.domain.errors import NextchannelError, StoreUnavailableError
from models.domain.experiment import Experiment
from models.domain.interaction import Interaction, InteractionKind
from nextchannel.main import app, cli
from serving.app import create_app
from serving.occasions import due, runner
from serving.occasions.occasion import AfterFact, Fact, Occasion, occurrence_id
from serving.occasions.runner import OccasionRunner
from serving.occasions.store import HELD_FOR, Stored, hold, load_occasion
from tests.fresh_database import go_back
from tests.integration.conftest import NOW, Market
from tests.integration.test_api import problem

HOW_TO = (Path(__file__).parents[2] / "docs" / "how-to" / "occasions.md").read_text()
BIRTHDAY = {"campaign_id": "spring", "date": {"attribute": "birth_date"}}
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def api(market: Market):
    market.campaign(send_window=SendWindow(starts_at=NOW - DAY, ends_at=NOW + 900 * DAY))
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        yield client


def people(market: Market, attributes: Mapping[str, Mapping[str, str | float]], zone: str = "UTC") -> None:
    """Customers who may be contacted, with these attributes."""
    market.customers(*attributes)
    describe(market, attributes, zone)


def describe(market: Market, attributes: Mapping[str, Mapping[str, str | float]], zone: str = "UTC") -> None:
    with market.engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(customer_id=one, time_zone=zone, created_at=NOW - 100 * DAY, attributes=told)
                for one, told in attributes.items()
            ],
        )


def stores(api: TestClient, occasion: dict[str, Any], name: str = "birthday", status: int = 200) -> Any:
    answer = api.put(f"/v1/occasions/{name}", json={"occasion": occasion})
    assert answer.status_code == status, answer.text
    return answer.json()


def shown(api: TestClient, name: str = "birthday") -> dict[str, Any]:
    return api.get(f"/v1/occasions/{name}").json()  # type: ignore[no-any-return]


def previewed(api: TestClient, days: int = 14, name: str = "birthday") -> dict[str, Any]:
    answer = api.get(f"/v1/occasions/{name}/preview", params={"days": days})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def looks(market: Market, ahead: timedelta = timedelta()) -> OccasionRunner:
    """What a process runs in the background; its machine's clock is ahead."""
    service = market.service()
    return OccasionRunner(
        market.engine, service.snapshots, service.decider, lambda: market.now, lambda: market.now + ahead
    )


def decided(market: Market) -> dict[str, datetime]:
    """When each customer was decided for; nobody twice."""
    with market.engine.connect() as conn:
        rows = conn.execute(select(decisions.c.customer_id, decisions.c.decided_at)).all()
        booked = set(conn.scalars(select(occurrences.c.decision_id)))
        made = set(conn.scalars(select(decisions.c.decision_id)))
    assert booked == made
    assert len({row.customer_id for row in rows}) == len(rows), "somebody was decided for twice"
    return {row.customer_id: row.decided_at for row in rows}


def rows_of(market: Market, table: Any) -> list[Any]:
    with market.engine.connect() as conn:
        return list(conn.execute(select(table)).all())


def test_a_birthday_is_decided_on_the_local_day_of_each_time_zone(api, market):
    people(market, {"taipei": {"birth_date": "1990-03-05"}}, "Asia/Taipei")
    people(market, {"angeles": {"birth_date": "1990-03-05"}}, "America/Los_Angeles")
    people(
        market, {"other": {"birth_date": "1990-03-12"}, "none": {}, "unborn": {"birth_date": "2026-03-05"}}
    )
    stores(api, BIRTHDAY)
    works = looks(market)
    market.now = datetime(2026, 3, 4, 0, 0, tzinfo=UTC)
    while market.now < datetime(2026, 3, 7, tzinfo=UTC):
        works.run_due()
        market.now += timedelta(minutes=30)
    # 09:00 in Taipei is 01:00 UTC, in Los Angeles 17:00 UTC.
    assert decided(market) == {
        "taipei": datetime(2026, 3, 5, 1, tzinfo=UTC),
        "angeles": datetime(2026, 3, 5, 17, tzinfo=UTC),
    }
    (message,) = [row for row in rows_of(market, outbox) if row.customer_id == "taipei"]
    assert message.status == "pending"
    told = shown(api)
    assert (told["n_decided"], told["n_contacted"], told["n_dropped"]) == (2, 2, {})
    assert told["standing"] == "active"
    assert told["passed_at"] == "2026-03-06T23:30:00Z"


def test_a_decision_is_the_one_of_its_occurrence_and_can_be_explained(api, market):
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    assert looks(market).run_due() == 1
    found = api.get(f"/v1/decisions/{occurrence_id('birthday', 'ada', '2026')}").json()
    assert found["action"] is not None
    assert "Send" in found["explanation"]


def explained(api: TestClient, decision_id: str, language: str = "en") -> tuple[dict[str, Any], str]:
    """The occasion of a decision as data, without what does not apply, and in words."""
    found = api.get(f"/v1/decisions/{decision_id}", params={"language": language}).json()
    page = api.get(f"/decisions/{decision_id}", params={"language": language}).text
    said = found["told"]["occasion"]
    assert html.escape(said, quote=False) in html.unescape(page)
    assert f'<a href="/occasions/{found["occasion"]["name"]}">' in page
    return {name: told for name, told in found["occasion"].items() if told is not None}, said


def test_an_explanation_says_which_birthday_asked_in_every_language(api, market):
    people(market, {"ada": {"birth_date": "1990-03-04"}}, "Asia/Taipei")
    stores(api, BIRTHDAY | {"date": {"attribute": "birth_date", "days": -3}})
    market.now += 4 * HOUR
    assert looks(market).run_due() == 1
    decision_id = occurrence_id("birthday", "ada", "2026")
    cause, said = explained(api, decision_id)
    assert cause == {
        "name": "birthday",
        "kind": "anniversary",
        "occurrence": "2026",
        "due_at": "2026-03-01T01:00:00Z",
        "attribute": "birth_date",
        "days": -3,
    }
    assert said == (
        "Asked for by the occasion birthday: 3 days before the 2026 anniversary of birth_date; due Sun 1 Mar 09:00."
    )
    for language, words in (
        (
            "zh-Hant",
            "由時機「birthday」觸發：birth_date 的 2026 年週年日前 3 天，預定時間為 3 月 1 日（週日）09:00。",
        ),
        (
            "ja",
            "オケージョン「birthday」による決定です：birth_dateの2026年の記念日の3日前、予定日時は3月1日（日）09:00です。",
        ),
    ):
        assert explained(api, decision_id, language) == (cause, words)
    # The rule is that of the version which asked.
    market.now += HOUR
    stores(api, {"campaign_id": "spring", "referral": {}})
    assert explained(api, decision_id) == (cause, said)
    person = api.get("/v1/customers/ada").json()
    assert [one["occasion"] for one in person["last_offers"]] == ["birthday"]
    (entry,) = api.get("/v1/customers/ada/history").json()["entries"]
    assert entry["attributes"]["occasion"] == "birthday"
    assert '<a href="/occasions/birthday">birthday</a>' in api.get("/customers/ada").text


def test_an_explanation_says_which_fact_and_which_friend_asked_until_they_are_erased(api, market):
    people(market, {one: {} for one in ("ada", "friend")})
    stores(api, {"campaign_id": "spring", "after": {"fact": {"kind": "purchased"}, "seconds": 3_600}}, "care")
    stores(api, {"campaign_id": "spring", "referral": {}}, "thanks")
    happened(market, "r", "friend", "registered", NOW - HOUR, attributes={"referred_by": "ada"})
    happened(market, "b", "friend", "purchased", NOW)
    market.now += 2 * HOUR
    assert looks(market).run_due() == 2
    numbers = {row.kind: str(row.interaction_id) for row in rows_of(market, interactions)}
    care = occurrence_id("care", "friend", numbers["purchased"])
    thanks = occurrence_id("thanks", "ada", numbers["registered"])
    cause, said = explained(api, care)
    assert cause == {
        "name": "care",
        "kind": "fact",
        "occurrence": numbers["purchased"],
        "due_at": "2026-03-01T07:00:00Z",
        "fact": "purchased",
        "fact_at": "2026-03-01T06:00:00Z",
        "seconds": 3_600,
    }
    assert said == (
        "Asked for by the occasion care: 1 hour after the purchase of Sun 1 Mar 06:00; due Sun 1 Mar 07:00."
    )
    cause, said = explained(api, thanks)
    assert (cause["kind"], cause["friend_id"], cause["fact_at"]) == (
        "referral", "friend", "2026-03-01T06:00:00Z",
    )  # fmt: skip
    assert said == (
        "Asked for by the occasion thanks: right after the first purchase or conversion of friend, whom the customer "
        "referred (Sun 1 Mar 06:00); due Sun 1 Mar 06:00."
    )
    assert api.post("/v1/customers/friend/erase").status_code < 300
    assert explained(api, care) == (
        {"name": "care", "kind": "forgotten"},
        "Asked for by the occasion care. Which occurrence it was is not kept any more.",
    )
    cause, said = explained(api, thanks)
    assert "friend_id" not in cause
    assert "conversion of a friend, whom" in said


def test_what_was_asked_by_nobody_but_the_caller_names_no_occasion(api, market):
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    asked = {"campaign_id": "spring", "customer_id": "ada"}
    found = api.get(f"/v1/decisions/{api.post('/v1/decisions', json=asked).json()['decision_id']}").json()
    assert (found["occasion"], found["told"]["occasion"]) == (None, None)
    assert api.get("/v1/customers/ada").json()["last_offers"][0]["occasion"] is None


def test_before_and_once_and_the_29th_of_february(api, market):
    people(market, {"leap": {"birth_date": "2000-02-29"}, "care": {"warranty_ends": "2026-03-31"}})
    stores(api, BIRTHDAY)
    once = {"attribute": "warranty_ends", "every_year": False, "days": -30, "at": "06:00"}
    stores(api, BIRTHDAY | {"date": once}, "warranty")
    # The 28th of February at 09:00 is 21 hours ago, and 30 days before the 31st of March is today, 06:00.
    assert looks(market).run_due() == 2
    assert set(decided(market)) == {"leap", "care"}
    works = looks(market)
    for year, month, day, n in ((2027, 2, 28, 1), (2028, 2, 28, 0), (2028, 2, 29, 1)):
        market.now = datetime(year, month, day, 9, tzinfo=UTC)
        assert works.run_due() == n
    with market.engine.connect() as conn:
        named = conn.execute(
            select(occurrences.c.name, occurrences.c.occurrence).order_by(occurrences.c.occurrence)
        ).all()
    assert [tuple(row) for row in named] == [
        ("birthday", "2026"),
        ("warranty", "2026-03-31"),
        ("birthday", "2027"),
        ("birthday", "2028"),
    ]


def test_what_was_missed_is_caught_up_for_so_many_days_and_not_longer(api, market):
    days = {f"d{n}": {"birth_date": f"1990-{(NOW - n * DAY):%m-%d}"} for n in range(6)}
    people(market, days)
    stores(api, BIRTHDAY | {"catch_up_days": 3})
    market.now += 4 * HOUR  # 10:00: d3 was due 73 hours ago
    looks(market).run_due()
    assert set(decided(market)) == {"d0", "d1", "d2"}


def test_who_is_told_late_is_caught_up_and_a_corrected_date_gives_no_second_birthday(api, market):
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    works = looks(market)
    assert works.run_due() == 1
    people(market, {"bob": {"birth_date": "1990-02-28"}})
    describe(market, {"ada": {"birth_date": "1990-03-02"}})
    market.now += DAY
    assert works.run_due() == 1
    assert set(decided(market)) == {"ada", "bob"}


def test_nobody_looks_more_often_than_a_local_time_can_come_round(api, market, monkeypatch):
    stores(api, BIRTHDAY)
    looked = []
    monkeypatch.setattr(
        runner, "due_between", lambda _engine, _stored, _after, until: looked.append(until) or []
    )
    works = looks(market)
    began = market.now = NOW + timedelta(minutes=1)
    for _ in range(240):
        works.run_due()
        market.now += timedelta(minutes=1)
    # Of four hours the first look, and one at each quarter.
    assert looked == [began] + [NOW + n * timedelta(minutes=15) for n in range(1, 17)]


def test_two_processes_at_once_decide_each_once(api, market):
    everybody = {f"p{n:03}": {"birth_date": "1990-03-01"} for n in range(300)}
    people(market, everybody)
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    # The clock of the second is so far ahead that it takes the first one for dead and looks beside it.
    works = [looks(market), looks(market, ahead=2 * HELD_FOR)]
    threads = [threading.Thread(target=each.run_due) for each in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    works[1].run_due()
    assert set(decided(market)) == set(everybody)
    assert shown(api)["n_decided"] == 300
    assert len(rows_of(market, outbox)) == 300


def test_one_process_at_a_time_looks_and_a_dead_one_is_followed(api, market):
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    with market.engine.begin() as conn:
        assert hold(conn, load_occasion(conn, "birthday"), "somebody", market.now)
    assert looks(market).run_due() == 0
    assert looks(market, ahead=HELD_FOR + timedelta(seconds=1)).run_due() == 1


def test_who_dies_between_decision_and_book_decides_nobody_twice(api, market, monkeypatch):
    people(market, {f"p{n}": {"birth_date": "1990-03-01"} for n in range(10)})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR

    class KilledError(BaseException):
        pass

    def dies(*_: object) -> None:
        raise KilledError

    works = looks(market)
    with monkeypatch.context() as broken:
        broken.setattr(runner, "settle", dies)
        broken.setattr(runner, "let_go", lambda *_: None)
        with pytest.raises(KilledError):
            works.run_due()
    assert len(rows_of(market, decisions)) == 10
    assert rows_of(market, occurrences) == []
    first = {row.decision_id: row.decided_at for row in rows_of(market, decisions)}
    market.now += DAY
    looks(market, ahead=HELD_FOR).run_due()
    assert {row.decision_id: row.decided_at for row in rows_of(market, decisions)} == first
    assert len(rows_of(market, outbox)) == 10
    assert shown(api)["n_decided"] == shown(api)["n_contacted"] == 10


def test_a_lost_database_leaves_what_is_due_due(api, market, monkeypatch):
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    works = looks(market)
    with monkeypatch.context() as lost:
        error = StoreUnavailableError("gone")
        lost.setattr(works._decider, "decide_in_parts", lambda requests, _: iter([[error] * len(requests)]))
        assert works.run_due() == 0
    assert rows_of(market, occurrences) == []
    assert [row.passed_at for row in rows_of(market, occasion_passes)] == [None]
    assert works.run_due() == 1


def test_the_holdout_gets_no_message_and_is_decided_for(api, market):
    market.campaign(experiment=Experiment(experiment_id="spring", holdout_share=1.0))
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    assert looks(market).run_due() == 1
    assert rows_of(market, outbox) == []
    assert (shown(api)["n_decided"], shown(api)["n_contacted"]) == (1, 0)


def test_who_agreed_to_nothing_is_decided_for_without_a_message(api, market):
    market.customers("ada", consent=False)
    describe(market, {"ada": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    assert looks(market).run_due() == 1
    assert rows_of(market, outbox) == []


def test_a_campaign_that_is_closed_or_not_open_yet_is_not_decided_for(api, market):
    people(market, {"ada": {"birth_date": "1990-03-01"}, "bob": {"birth_date": "1990-03-02"}})
    market.now = NOW + 4 * HOUR
    market.campaign(send_window=SendWindow(starts_at=NOW + DAY, ends_at=NOW + 2 * DAY))
    stores(api, BIRTHDAY)
    assert looks(market).run_due() == 0
    assert shown(api)["standing"] == "campaign_not_open_yet"
    ahead = previewed(api, 7)
    assert (ahead["standing"], ahead["n_at_once"], sum(day["n_due"] for day in ahead["days"])) == (
        "campaign_not_open_yet", 1, 1,
    )  # fmt: skip
    market.now = NOW + 2 * DAY
    assert looks(market).run_due() == 0
    assert shown(api)["standing"] == "campaign_closed"
    assert previewed(api)["n_at_once"] == 0
    assert decided(market) == {}


@ONE_SQLITE
def test_the_preview_is_what_is_then_decided(api, market):
    """Of 200 people with dates and zones at random, each day of the preview is what that day decides."""
    draw = Random(7)
    zones = ("UTC", "Asia/Taipei", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu")
    for zone in zones:
        told = {
            f"{zone}{n}": {
                "birth_date": f"19{draw.randrange(100):02}-{draw.randrange(2, 4):02}-{draw.randrange(1, 29):02}"
            }
            for n in range(40)
        }
        people(market, told, zone)
    people(market, {"x": {"birth_date": "5 March"}, "y": {"birth_date": 19_900_305.0}, "z": {}})
    stores(
        api, BIRTHDAY | {"date": {"attribute": "birth_date", "days": -2, "at": "18:45"}, "catch_up_days": 2}
    )
    ahead = previewed(api)
    assert (ahead["n_dates"], ahead["n_no_date"]) == (200, 2)
    assert ahead["example"] in ("5 March", "19900305.0")
    works = looks(market)
    assert works.run_due() == ahead["n_at_once"] > 0
    found = dict.fromkeys((one["day"] for one in ahead["days"]), 0)
    while market.now < NOW + 14 * DAY:
        market.now += timedelta(minutes=15)
        found[market.now.date().isoformat()] += works.run_due()
    assert found == {one["day"]: one["n_due"] for one in ahead["days"]}
    assert sum(found.values()) > 30
    assert len(decided(market)) == sum(found.values()) + ahead["n_at_once"]


def test_a_merged_person_is_decided_for_once(api, market):
    people(market, {"ada": {"birth_date": "1990-03-01"}, "ada-2": {"birth_date": "1990-03-01"}})
    stores(api, BIRTHDAY)
    market.now += 4 * HOUR
    works = looks(market)
    assert works.run_due() == 2
    with market.engine.begin() as conn:
        merge(conn, "ada", "ada-2", market.now)
    market.now += HOUR
    assert works.run_due() == 0
    assert {row.customer_id for row in rows_of(market, occurrences)} == {"ada"}
    assert len(api.get("/v1/customers/ada/export").json()["occurrences"]) == 2


def test_an_erasure_leaves_nothing_that_names_the_person_and_no_total_changed(api, market):
    people(market, {"ada": {"warranty_ends": "2026-03-01"}, "bob": {"warranty_ends": "2026-03-01"}})
    stores(api, BIRTHDAY | {"date": {"attribute": "warranty_ends", "every_year": False}})
    market.now += 4 * HOUR
    works = looks(market)
    works.run_due()
    before = shown(api)
    (kept,) = api.get("/v1/customers/ada/export").json()["occurrences"]
    assert (kept["name"], kept["occurrence"], kept["contacted"]) == ("birthday", "2026-03-01", True)
    assert api.post("/v1/customers/ada/erase").status_code < 300
    assert shown(api) == before
    everything = repr(rows_of(market, occurrences))
    assert "'ada'" not in everything
    (gone,) = [row for row in rows_of(market, occurrences) if row.customer_id != "bob"]
    assert (gone.occurrence, gone.due_at) == ("", None)
    market.now += HOUR
    assert works.run_due() == 0


def test_occasions_are_stored_in_versions_listed_changed_and_deleted(api, market):
    first = stores(api, BIRTHDAY)
    assert (first["version"], first["occasion"]["catch_up_days"], first["occasion"]["date"]["at"]) == (
        1, 3, "09:00:00",
    )  # fmt: skip
    assert stores(api, BIRTHDAY)["version"] == 1
    assert stores(api, BIRTHDAY | {"catch_up_days": 4})["version"] == 2
    stores(api, BIRTHDAY, "another")
    page = api.get("/v1/occasions", params={"limit": 1}).json()
    assert [one["name"] for one in page["occasions"]] == ["another"]
    page = api.get("/v1/occasions", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [one["name"] for one in page["occasions"]] == ["birthday"]
    assert page["next_cursor"] is None
    assert api.delete("/v1/occasions/birthday").status_code == 204
    problem(api.delete("/v1/occasions/birthday"), 404, "name")
    problem(api.get("/v1/occasions/birthday"), 404, "name")
    problem(api.get("/v1/occasions/birthday/preview"), 404, "name")
    people(market, {"ada": {"birth_date": "1990-03-01"}})
    market.now += 4 * HOUR
    assert looks(market).run_due() == 1  # by the other one
    assert stores(api, BIRTHDAY)["version"] == 4


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("campaign_id", {"campaign_id": "nowhere"}),
        ("occasion.catch_up_days", {"catch_up_days": 0}),
        ("occasion.catch_up_days", {"catch_up_days": 31}),
        ("occasion.date.days", {"date": {"attribute": "birth_date", "days": 400}}),
        ("occasion.date.attribute", {"date": {"attribute": 'a"]'}}),
        ("occasion.date.attribute", {"date": {"attribute": "\0"}}),
        ("occasion.date.at", {"date": {"attribute": "birth_date", "at": "25:00"}}),
        ("occasion.date.at", {"date": {"attribute": "birth_date", "at": "09:00Z"}}),
        ("occasion.date.every_years", {"date": {"attribute": "birth_date", "every_years": True}}),
        ("occasion.facts", {"facts": {}}),
        ("occasion", {"date": None}),
        ("occasion.after.fact.kind", {"date": None, "after": {"fact": {"kind": "opened"}}}),
        ("occasion.after.fact.kind", {"date": None, "after": {"fact": {"kind": "bought"}}}),
        ("occasion", {"after": {"fact": {"kind": "purchased"}}}),
        ("occasion.date.days", {"date": {"attribute": "birth_date", "days": 10**30}}),
    ],
)
@ONE_SQLITE
def test_a_wrong_document_is_refused_by_field_value_and_bound(api, field, change):
    status = 404 if field == "campaign_id" else 422
    answer = api.put("/v1/occasions/birthday", json={"occasion": BIRTHDAY | change})
    problem(answer, status, field)
    assert api.get("/v1/occasions").json()["occasions"] == []


@ONE_SQLITE
@pytest.mark.parametrize(
    "path", ["/v1/occasions/a%20b", "/v1/occasions/birthday/preview?days=0", "/v1/occasions?cursor=x"]
)
def test_a_wrong_request_is_refused(api, path):
    problem(api.get(path), 422, None)


@pytest.mark.parametrize("attribute", ["生日", "it's", "$.x", "a.b", "a[0]", "%s", ":x", "{a}", "-> b"])
def test_any_name_of_an_attribute_is_only_a_name(api, market, attribute):
    people(market, {"ada": {attribute: "1990-03-01"}, "bob": {"x": "1990-03-01"}})
    stores(api, BIRTHDAY | {"date": {"attribute": attribute}})
    market.now += 4 * HOUR
    assert previewed(api)["n_at_once"] == 1
    assert looks(market).run_due() == 1
    assert set(decided(market)) == {"ada"}


CARE = {
    "campaign_id": "spring",
    "after": {
        "fact": {"kind": "purchased"},
        "seconds": 14 * 86_400,
        "unless": [{"kind": "issue_raised", "attributes": {"about": "return"}}, {"kind": "unsubscribed"}],
    },
}


def happened(market: Market, event_id: str, customer_id: str, kind: str, at: datetime, **more: Any) -> None:
    fact = Interaction(
        source="shop",
        event_id=event_id,
        customer_id=customer_id,
        kind=InteractionKind(kind),
        occurred_at=at,
        **more,
    )
    with market.engine.begin() as conn:
        append_interactions(conn, [fact], market.now)


def test_care_follows_each_purchase_unless_it_was_taken_back_or_a_machine_made_it(api, market):
    people(market, {one: {} for one in ("ada", "bob", "cleo", "dan")})
    stores(api, CARE, "care")
    for number, one in enumerate(("ada", "bob", "cleo", "stranger")):
        happened(market, f"p{number}", one, "purchased", NOW)
    happened(market, "m", "dan", "purchased", NOW, machine_made=True)
    happened(market, "p9", "ada", "registered", NOW)
    happened(market, "r", "bob", "issue_raised", NOW + DAY, attributes={"about": "return"})
    happened(market, "q", "cleo", "issue_raised", NOW + DAY, attributes={"about": "colour"})
    happened(market, "e", "cleo", "issue_raised", NOW - DAY, attributes={"about": "return"})
    ahead = previewed(api, 20, "care")
    assert (ahead["n_at_once"], ahead["n_dates"], ahead["example"]) == (0, 0, None)
    assert {one["day"]: one["n_due"] for one in ahead["days"] if one["n_due"]} == {"2026-03-15": 2}
    works = looks(market)
    market.now = NOW + 14 * DAY - timedelta(seconds=1)
    assert works.run_due() == 0
    market.now += timedelta(seconds=1)
    assert works.run_due() == 0, "nobody looks again so soon"
    market.now += timedelta(minutes=5)
    assert works.run_due() == 2
    assert set(decided(market)) == {"ada", "cleo"}
    happened(market, "p8", "ada", "purchased", NOW + DAY)
    market.now = NOW + 15 * DAY
    assert works.run_due() == 1
    assert shown(api, "care")["n_decided"] == 3


def test_a_fact_that_is_told_late_is_caught_up_and_not_beyond(api, market):
    people(market, {"ada": {}, "bob": {}})
    welcome = {"fact": {"kind": "registered", "attributes": {"via": "app"}}}
    stores(api, {"campaign_id": "spring", "after": welcome, "catch_up_days": 2}, "welcome")
    happened(market, "1", "ada", "registered", NOW - 47 * HOUR, attributes={"via": "app", "x": "y"})
    happened(market, "2", "ada", "registered", NOW - HOUR, attributes={"via": "web"})
    happened(market, "3", "bob", "registered", NOW - 49 * HOUR, attributes={"via": "app"})
    assert looks(market).run_due() == 1
    assert set(decided(market)) == {"ada"}


def test_facts_of_one_moment_go_over_pages_and_each_is_decided_once(api, market, monkeypatch):
    people(market, {f"p{n:02}": {} for n in range(25)})
    stores(api, CARE, "care")
    for n in range(25):
        happened(market, f"{n}", f"p{n:02}", "purchased", NOW + timedelta(seconds=n // 10))
    monkeypatch.setattr(due, "_A_PAGE", 4)
    market.now = NOW + 15 * DAY
    works = [looks(market), looks(market, ahead=2 * HELD_FOR)]
    threads = [threading.Thread(target=each.run_due) for each in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    works[1].run_due()
    assert len(decided(market)) == 25


def test_an_erasure_ends_what_was_still_to_follow_a_fact(api, market):
    people(market, {"ada": {}, "bob": {}})
    stores(api, CARE, "care")
    for one in ("ada", "bob"):
        happened(market, one, one, "purchased", NOW)
    assert api.post("/v1/customers/ada/erase").status_code < 300
    market.now = NOW + 15 * DAY
    assert looks(market).run_due() == 1
    assert {row.customer_id for row in rows_of(market, occurrences)} == {"bob"}


def test_a_referrer_is_decided_for_once_a_friend_when_that_friend_has_bought_first(api, market):
    people(market, {one: {} for one in ("ada", "friend", "late", "old", "liar", "ghost", "twice", "other")})
    stores(api, {"campaign_id": "spring", "referral": {}}, "thanks")

    def joins(event_id: str, friend: str, referrer: str, at: datetime = NOW) -> None:
        happened(market, event_id, friend, "registered", at, attributes={"referred_by": referrer})

    for friend in ("friend", "late", "twice"):
        joins(f"r-{friend}", friend, "ada")
    joins("again", "friend", "other")  # the first registration counts
    joins("r-old", "old", "ada")
    joins("r-liar", "liar", "liar")
    joins("r-ghost", "ghost", "nobody")
    happened(market, "b-old", "old", "purchased", NOW - DAY)  # a customer before
    works = looks(market)
    for n, friend in enumerate(("friend", "old", "liar", "ghost", "twice")):
        happened(market, f"b{n}", friend, "purchased", NOW + HOUR)
    happened(market, "c", "twice", "converted", NOW + HOUR)
    happened(market, "m", "late", "converted", NOW + HOUR, machine_made=True)
    market.now = NOW + 2 * HOUR
    assert previewed(api, 1, "thanks")["n_at_once"] == 2
    assert works.run_due() == 2
    happened(market, "d", "late", "converted", NOW + 3 * HOUR)
    happened(market, "e", "friend", "purchased", NOW + 3 * HOUR)
    happened(
        market, "f", "friend", "purchased", NOW + timedelta(minutes=30)
    )  # told late: still the same friend
    market.now = NOW + 4 * HOUR
    assert works.run_due() == 1
    assert {row.customer_id for row in rows_of(market, occurrences)} == {"ada"}
    assert shown(api, "thanks")["n_decided"] == 3


def test_an_erased_referrer_is_named_by_nobodys_registration_and_not_decided_for(api, market):
    people(market, {"ada": {}, "friend": {}, "bob": {}})
    stores(api, {"campaign_id": "spring", "referral": {}}, "thanks")
    for friend, referrer in (("friend", "ada"), ("bob", "friend")):
        said = {"referred_by": referrer, "via": "app"}
        happened(market, friend, friend, "registered", NOW, attributes=said)
    assert api.post("/v1/customers/ada/erase").status_code < 300
    kept = {row.customer_id: row.attributes for row in rows_of(market, interactions)}
    assert kept == {"friend": {"via": "app"}, "bob": {"referred_by": "friend", "via": "app"}}
    for one in ("friend", "bob"):
        happened(market, f"{one}-b", one, "purchased", NOW)
    assert looks(market).run_due() == 1
    assert {row.customer_id for row in rows_of(market, occurrences)} == {"friend"}


def test_facts_are_found_by_their_index(api, market):
    """A look must not read every fact of a history."""
    statements = []
    event.listen(
        market.engine,
        "before_cursor_execute",
        lambda _c, _u, text, values, *_: statements.append((text, values)),
    )
    rule = AfterFact(fact=Fact(kind=InteractionKind.PURCHASED), seconds=60)
    stored = Stored(
        name="care",
        version=1,
        created_at=NOW,
        occasion=Occasion(campaign_id="spring", after=rule),
        passed_at=None,
    )
    assert list(due.due_between(market.engine, stored, NOW - DAY, NOW)) == []
    text, values = next(one for one in statements if "FROM interactions" in one[0])
    explain = "EXPLAIN" if market.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with market.engine.connect() as conn:
        if explain == "EXPLAIN":
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = conn.exec_driver_sql(f"{explain} {text}", values).all()
    assert "ix_interactions_seldom" in repr(plan)


def test_the_migration_goes_back_and_forth(engine):
    with engine.begin() as conn:
        go_back(conn, "0022")
        assert not {"occasions", "occurrences"} & set(inspect(conn).get_table_names())
    migrate(engine)
    with engine.connect() as conn:
        assert {"occasions", "occasion_passes", "occurrences"} <= set(inspect(conn).get_table_names())


@pytest.fixture
def installation(market_on, tmp_path, monkeypatch) -> Market:
    """A folder as the command line finds it."""
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.delenv("NEXTCHANNEL_DATABASE", raising=False)
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    now = datetime.now(UTC)
    with engine.begin() as conn:
        seed_channels(conn, now - DAY)
    made: Market = market_on(engine, now)
    made.campaign()
    return made


def test_the_command_loads_lists_and_previews_the_occasions_of_a_file(installation, tmp_path, monkeypatch):
    day = (installation.now + 3 * DAY).date()
    people(installation, {"ada": {"birth_date": f"1990-{day:%m-%d}"}, "bob": {"birth_date": "soon"}})
    file = tmp_path / "occasions.json"
    file.write_text(json.dumps({"birthday": BIRTHDAY}))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["occasions", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert run("load", str(file)) == "occasion birthday: version 1\n"
    assert "birthday                 version 1  spring  last look: never" in run("list")
    told = run("preview", "birthday", "--days", "7")
    assert told.startswith("birthday: active; 0 are due at once\n")
    assert f"{day}          1\n" in told
    assert "1 customers have a date, 1 something else, for example 'soon'" in told
    for document, field in (
        ({"birthday": BIRTHDAY | {"catch_up_days": 0}}, "occasion.catch_up_days == 0, must be in [1, 30]"),
        ({"birthday": BIRTHDAY | {"of": 1}}, "birthday.of == '1', Unexpected keyword argument"),
        ({"birth day": BIRTHDAY}, "birth day.[key] == 'birth day'"),
        ({"birthday": {"campaign_id": "x", "date": BIRTHDAY["date"]}}, "campaign_id == 'x'"),
    ):
        file.write_text(json.dumps(document))
        done = CliRunner().invoke(cli, ["occasions", "load", str(file)])
        assert isinstance(done.exception, NextchannelError)
        assert str(done.exception).startswith(field)
    monkeypatch.setattr(sys, "argv", ["nextchannel", "occasions", "load", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit) as ended:
        app()
    assert ended.value.code == 2


def test_the_documents_of_the_page_are_what_it_says(api, market):
    documents = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", HOW_TO, re.DOTALL)]
    assert documents
    for campaign_id in ("birthday", "care", "welcome", "thanks"):
        market.campaign(campaign_id)
    for number, document in enumerate(documents):
        stores(api, document["occasion"], f"page-{number}")
