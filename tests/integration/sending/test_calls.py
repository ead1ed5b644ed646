"""Calls: from the decision into the queue, to an agent, and what came of it into the history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from features.history.channels import load_channels, save_channel
from features.history.tables import agent_tasks, outbox
from models.domain.errors import ConflictError, InvalidInputError, NotFoundError
from models.domain.interaction import InteractionKind
from serving.app import create_app
from serving.calls import FACTS, HOLD_TIME, CallOutcome, CallQueue, end_task, find_task, open_tasks, take_task
from serving.channels.call import CallAdapter
from serving.channels.contract import AdapterContext
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher

ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def task_id(market, shop) -> str:
    """A call that the dispatcher has put into the queue, as it puts every message onto its channel."""
    market.now = datetime(2026, 3, 2, 12, tzinfo=UTC)  # not in anybody's quiet hours
    shop.add_campaign(channels=("email", "call"))
    with shop.engine.begin() as conn:
        save_channel(conn, replace(load_channels(conn)["call"], cost_minor=90.0), market.now)
    (message,) = shop.add_messages(1, channel="call", send_at=market.now)
    adapter = CallAdapter.build(AdapterContext(links=shop.links, tasks=CallQueue(shop.engine)))
    dispatcher = Dispatcher(shop.engine, {"call": adapter}, shop.links, DispatchSettings(), Random(0))
    report = asyncio.run(dispatcher.run_once(market.now))
    assert report.sent == 1
    return message


def end(shop, task: str, outcome: CallOutcome, now, agent: str = "Mei", **more: object) -> None:
    with shop.engine.begin() as conn:
        end_task(conn, task, agent, outcome, now, **more)


def take(shop, task: str, now, agent: str = "Mei") -> None:
    with shop.engine.begin() as conn:
        take_task(conn, task, agent, now)


def test_a_call_is_in_the_queue_with_its_offer_and_the_number_is_not_stored(market, shop, task_id):
    with shop.engine.connect() as conn:
        (shown,) = open_tasks(conn, market.now)
        row = conn.execute(select(agent_tasks)).one()
        assert conn.execute(select(outbox.c.status)).scalar_one() == "sent"
    assert (shown.task.task_id, shown.contact, shown.held_by) == (task_id, "+15550000", None)
    assert "Ten tulips" in shown.task.body
    assert not any("+1555" in str(cell) for cell in row)


def test_one_agent_holds_a_task_for_half_an_hour(market, shop, task_id):
    take(shop, task_id, market.now)
    take(shop, task_id, market.now)  # again, by the same
    with pytest.raises(ConflictError, match="held by Mei"):
        take(shop, task_id, market.now, "Jun")
    with pytest.raises(ConflictError, match="not held by Jun"):
        end(shop, task_id, CallOutcome.BOUGHT, market.now, "Jun")
    later = market.now + HOLD_TIME
    with pytest.raises(ConflictError, match="not held by Mei"):
        end(shop, task_id, CallOutcome.BOUGHT, later)
    take(shop, task_id, later, "Jun")


@pytest.mark.parametrize("outcome", CallOutcome)
def test_every_outcome_becomes_facts_of_the_decision_once(market, shop, task_id, outcome):
    take(shop, task_id, market.now)
    value = 4_200.0 if outcome is CallOutcome.BOUGHT else None
    end(shop, task_id, outcome, market.now, note="called twice", value_minor=value)
    facts = [fact for fact in shop.facts() if fact["source"] == "call"]
    # Facts of one moment have no order.
    assert sorted(fact["kind"] for fact in facts) == sorted(FACTS[outcome])
    assert {fact["decision_id"] for fact in facts} == {"d0"}
    values = {fact["kind"]: fact["value_minor"] for fact in facts}
    assert values.get(InteractionKind.CONVERTED) == value
    with pytest.raises(ConflictError, match="has ended"):
        take(shop, task_id, market.now)
    with shop.engine.connect() as conn:
        assert open_tasks(conn, market.now) == []
        assert len(find_task(conn, task_id, market.now).history) == len(facts) + 1  # with `sent`


@ONE_SQLITE
def test_wrong_values_are_named_and_change_nothing(market, shop, task_id):
    take(shop, task_id, market.now)
    with pytest.raises(InvalidInputError, match="value_minor"):
        end(shop, task_id, CallOutcome.DECLINED, market.now, value_minor=5.0)
    with pytest.raises(InvalidInputError, match="note"):
        end(shop, task_id, CallOutcome.DECLINED, market.now, note="a" * 2_001)
    with pytest.raises(InvalidInputError, match="agent"):
        take(shop, task_id, market.now, "")
    with pytest.raises(NotFoundError):
        take(shop, "absent", market.now)
    with shop.engine.connect() as conn:
        assert find_task(conn, task_id, market.now).outcome is None


@ONE_SQLITE
def test_a_call_whose_time_is_over_is_not_shown_and_cannot_be_taken(market, shop, task_id):
    late = market.now + timedelta(hours=6)
    with shop.engine.connect() as conn:
        assert open_tasks(conn, late) == []
    with pytest.raises(ConflictError, match="not due"):
        take(shop, task_id, late)


@pytest.fixture
def pages(market) -> Iterator[TestClient]:
    service = market.service(start=False)
    market.opened.remove(service)
    with TestClient(create_app(service), headers={"Sec-Fetch-Site": "same-origin"}) as client:
        yield client


@ONE_SQLITE
def test_an_agent_works_a_call_from_the_list_to_its_outcome(market, shop, task_id, pages):
    listed = pages.get("/calls", params={"agent": "Mei"})
    assert f'href="/calls/{task_id}?agent=Mei"' in listed.text
    assert "+15550000" not in pages.get(f"/calls/{task_id}", params={"agent": "Mei"}).text
    taken = pages.post(f"/calls/{task_id}/take", data={"agent": "Mei"})
    assert taken.status_code == 200
    assert 'href="tel:+15550000"' in taken.text
    assert "Ten tulips" in taken.text
    assert pages.post(f"/calls/{task_id}/take", data={"agent": "Jun"}).status_code == 409
    form = {"agent": "Mei", "outcome": "bought", "value": "42.50", "note": "<b>two bunches</b>"}
    ended = pages.post(f"/calls/{task_id}/outcome", data=form)
    assert ended.status_code == 200
    assert "No calls to make now" in ended.text
    (bought,) = [fact for fact in shop.facts() if fact["kind"] == "converted"]
    assert bought["value_minor"] == 4_250.0
    assert bought["attributes"]["note"] == "<b>two bunches</b>"
    shown = pages.get(f"/calls/{task_id}").text
    assert "Ended: bought" in shown
    assert "$42.50" in shown or "42.50" in shown


@ONE_SQLITE
def test_a_form_of_another_site_is_refused_also_where_no_key_is_needed(market, shop, task_id, pages):
    for said in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        answer = pages.post(f"/calls/{task_id}/take", data={"agent": "Mei"}, headers=said)
        assert answer.status_code == 403
    with shop.engine.connect() as conn:
        assert find_task(conn, task_id, market.now).held_by is None


@ONE_SQLITE
def test_a_wrong_form_is_answered_with_what_is_wrong(market, shop, task_id, pages):
    pages.post(f"/calls/{task_id}/take", data={"agent": "Mei"})
    for form, word in (
        ({"agent": "Mei", "outcome": "danced"}, "outcome"),
        ({"agent": "Mei", "outcome": "bought", "value": "much"}, "value"),
        ({"agent": "Mei", "outcome": "bought", "value": "-1"}, "value"),
        ({"outcome": "bought"}, "agent"),
    ):
        answer = pages.post(f"/calls/{task_id}/outcome", data=form)
        assert answer.status_code == 422
        assert word in answer.text
    assert pages.get("/calls/00000000-0000-0000-0000-000000000000").status_code == 404
    script = pages.get("/calls", params={"agent": "<script>alert(1)</script>"}).text
    assert "<script>alert" not in script
