"""The fast forms of the hot path hold to the plain ones, and what is too much is turned away."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import orjson
import pytest
from sqlalchemy import event, func, select, text

from features.history.documents import from_document, to_document, to_json
from features.history.engine import migrate
from features.history.evidence import FeatureOrders
from features.history.tables import decisions, feature_orders, outbox
from models.choice import Predictions
from models.domain.decision import Decision
from models.domain.errors import OverloadedError, StoreUnavailableError
from serving.admission import Admission
from serving.request import DecisionRequest
from serving.routes.replies import batch_reply, decision_reply, outcome_document
from serving.routes.schemas import BatchOut, DecisionOut
from serving.store.writer import LARGEST_GROUP
from tests.fresh_database import go_back


def ask(customer_id: str = "ada", **more: object) -> DecisionRequest:
    return DecisionRequest(**{"customer_id": customer_id, "campaign_id": "spring", **more})


@pytest.fixture
def decided(market) -> list[Decision]:
    """Contacts, silence with exclusions, and a decision without features."""
    market.customers("ada", "bob")
    market.customers("eve", consent=False)
    market.features.without.add("bob")
    market.campaign()
    return market.service().decider.decide_many([ask("ada"), ask("bob"), ask("eve")], market.now)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_the_stored_document_is_the_same_as_by_the_description_of_the_decision(decided):
    assert len(decided) == 3
    for decision in decided:
        written = orjson.loads(to_json(decision, with_numbers=True))
        again = from_document(Decision, written)
        assert again == decision
        assert written == orjson.loads(orjson.dumps(to_document(again), option=orjson.OPT_NON_STR_KEYS))
        for numbers in ("features", "distribution", "net_value_minor"):
            del written["evidence"][numbers]
        assert orjson.loads(to_json(decision)) == written


def test_evidence_in_numbers_reads_as_it_was_before_and_after_its_names_are_known(market):
    market.customers("ada", "bob", "cid")
    market.features.without.add("bob")
    market.campaign()
    decider = market.service().decider
    # The first transaction writes the names beside the numbers; the next ones find them in the database.
    made = [decider.decide(ask(name), market.now) for name in ("ada", "cid", "bob", "cid")]
    for decision in made:
        assert decider.recorded(decision.decision_id) == decision
    assert made[0].evidence.features == {"age": 40.0}
    assert made[2].evidence.features == {"age": None, "visits": None}
    with market.engine.connect() as conn:
        rows = conn.execute(select(decisions.c.decision_id, decisions.c.evidence)).all()
        packed = {row.decision_id: row.evidence for row in rows}
        forms = [packed[decision.decision_id][0] for decision in made]
        held = [tuple(names) for names in conn.scalars(select(feature_orders.c.names))]
    assert forms == [0, 1, 0, 1]
    assert sorted(held) == [("age",), ("age", "visits")]


def test_going_back_a_migration_puts_the_numbers_into_the_document_where_older_decisions_have_them(market):
    market.customers("ada", "bob")
    market.campaign()
    decider = market.service().decider
    made = [decider.decide(ask(name), market.now) for name in ("ada", "bob")]
    with market.engine.begin() as conn:
        go_back(conn, "0012")
        documents = dict(conn.execute(text("SELECT decision_id, document FROM decisions")).all())
    before = {
        key: orjson.loads(value) if isinstance(value, str) else value for key, value in documents.items()
    }
    for decision in made:
        assert before[decision.decision_id]["evidence"]["features"] == {"age": 40.0}
    migrate(market.engine)
    for decision in made:
        assert decider.recorded(decision.decision_id) == decision


def test_names_of_features_that_were_rolled_back_are_not_relied_on(market):
    names, orders = ("age", "visits"), FeatureOrders()
    with market.engine.connect() as conn:
        assert orders.digest_of(names) is None
        orders.keep(conn)
        conn.rollback()
    orders.confirm(market.engine.connect)
    assert orders.digest_of(names) is None
    with market.engine.begin() as conn:
        orders.keep(conn)
        orders.keep(conn)  # another replica may have been first
    orders.confirm(market.engine.connect)
    assert orders.digest_of(names) is not None


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_the_reply_is_the_same_as_by_its_description(decided):
    for decision in decided:
        assert orjson.loads(decision_reply(decision)) == DecisionOut.of(decision).model_dump(mode="json")
    document = batch_reply([outcome_document(one, "/v1/decisions/batch") for one in decided])
    again = BatchOut.model_validate_json(document)
    assert [one.decision for one in again.outcomes] == [DecisionOut.of(one) for one in decided]
    assert again.outcomes[0].problem is None


def test_a_call_of_more_than_one_group_is_answered_in_order_and_shares_few_transactions(market):
    people = [f"c{i}" for i in range(2 * LARGEST_GROUP + 7)]
    market.customers(*people)
    market.campaign()
    service = market.service()
    commits: list[str] = []

    @event.listens_for(market.engine, "commit")
    def count(_conn):
        commits.append(threading.current_thread().name)

    answers = service.decider.decide_many([ask(person) for person in people], market.now)
    assert [answer.customer_id for answer in answers] == people
    assert commits.count("decision-writer") == 3
    with market.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(decisions)) == len(people)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_beyond_what_may_be_under_way_a_request_is_turned_away_and_nothing_is_written(market):
    market.customers(*(f"c{i}" for i in range(6)))
    market.campaign()
    service = replace(market.service(), admission=Admission(4))

    async def storm() -> list[Decision | BaseException]:
        asked = (service.decide(ask(f"c{i}")) for i in range(6))
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(storm())
    turned_away = [answer for answer in answers if isinstance(answer, OverloadedError)]
    assert (len(turned_away), service.admission.n_under_way) == (2, 0)
    with market.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(decisions)) == 4


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_who_waits_too_long_is_told_and_what_was_not_begun_is_never_written(market):
    market.customers("ada", "bob")
    market.campaign()
    service = replace(market.service(), answer_within_seconds=0.2)

    async def both() -> list[Decision | BaseException]:
        first = asyncio.create_task(service.decide(ask("ada")))
        await asyncio.sleep(0)
        while service.writer.n_waiting:
            await asyncio.sleep(0.001)
        return await asyncio.gather(first, service.decide(ask("bob")), return_exceptions=True)

    with (
        market.engine.begin()
    ):  # nobody else can write: the first waits for the lock, the second for the first
        answers = asyncio.run(both())
    assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
    service.writer.stop()
    with market.engine.connect() as conn:
        written = set(conn.scalars(select(decisions.c.customer_id)))
    assert written <= {"ada"}, "bob's was cancelled before it was begun"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_full_disk_is_told_leaves_nothing_and_the_writer_goes_on_when_there_is_room(market):
    market.customers("ada")
    market.campaign()
    service = market.service()
    pages = 0

    @event.listens_for(market.engine, "begin")
    def bound(conn):
        if threading.current_thread().name == "decision-writer":
            most = pages or 2**30
            conn.exec_driver_sql(f"PRAGMA max_page_count={most}")

    with market.engine.connect() as conn:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
    refused = 0
    for _ in range(200):
        try:
            service.decider.decide(ask(), market.now)
        except StoreUnavailableError:
            refused += 1
            break
    assert refused == 1
    with market.engine.connect() as conn:
        n_decisions = conn.scalar(select(func.count()).select_from(decisions))
        n_messages = conn.scalar(select(func.count()).select_from(outbox))
    pages = 0
    later = [service.decider.decide(ask(), market.now) for _ in range(3)]
    with market.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(decisions)) == n_decisions + 3
        n_contacts = sum(one.action is not None for one in later)
        assert conn.scalar(select(func.count()).select_from(outbox)) == n_messages + n_contacts


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_connection_lost_between_two_decisions_is_replaced_without_the_caller_hearing_of_it(market):
    market.customers("ada", "bob")
    market.campaign()
    service = market.service()
    service.decider.decide(ask("ada"), market.now)
    with market.engine.connect() as conn:
        conn.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert service.decider.decide(ask("bob"), market.now).customer_id == "bob"


def test_a_store_of_features_that_hangs_costs_one_wait_and_not_one_for_each(market):
    market.customers("ada", "bob")
    market.campaign()
    release, reads = threading.Event(), []

    def hang() -> None:
        reads.append(1)
        release.wait(20)

    service = market.service(deadline_seconds=0.05)
    reads.clear()
    market.features.delay = hang
    answers = [service.decider.decide(ask(person), market.now) for person in ("ada", "bob", "ada")]
    release.set()
    assert all(answer.degraded == ("features_late",) for answer in answers)
    assert len(reads) == 1


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_request_with_a_deadline_of_its_own_does_without_what_is_late_and_costs_nobody_else_anything(
    market,
):
    market.customers("ada", "bob")
    market.campaign()
    service = market.service(deadline_seconds=20.0)
    market.features.delay = lambda: time.sleep(0.3)
    hurried, patient, generous = (
        service.decider.submit([ask(person, deadline_seconds=seconds)], market.now)
        for person, seconds in (("ada", 0.01), ("bob", None), ("ada", 10.0))
    )
    (first,), (second,), (third,) = (one.result(30) for one in (hurried, patient, generous))
    assert first.degraded == ("features_late",)
    assert first.policy == "cheapest_first"
    # They were decided while the first one's read was still under way.
    assert second.degraded == third.degraded == ()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_callers_in_a_hurry_wait_no_longer_than_they_say_however_long_the_store_hangs(market):
    market.customers("ada")
    market.campaign()
    release = threading.Event()
    service = market.service(deadline_seconds=20.0)
    market.features.delay = lambda: release.wait(60)
    answers = [service.decider.decide(ask(deadline_seconds=0.01), market.now) for _ in range(12)]
    waiting = service.decider.submit([ask(deadline_seconds=0.01)] * 3, market.now)
    assert not release.is_set()
    assert {one.degraded for one in [*answers, *waiting.result(10)]} == {("features_late",)}
    release.set()
    market.features.delay = lambda: None
    assert service.decider.decide(ask(), market.now).degraded == ()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_model_that_fails_costs_its_predictions_and_not_the_decision(market):
    class Broken:
        feature_names = ("age",)

        def predict(self, features, grid, channels) -> Predictions:  # noqa: ARG002
            raise RuntimeError("a tree is missing")

    market.customers("ada")
    market.campaign()
    market.champion.model = replace(market.champion.model, response=Broken())
    decision = market.service().decider.decide(ask(), market.now)
    assert decision.degraded == ("model_failed",)
    assert decision.policy == "cheapest_first"
