from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.exc import IntegrityError

from features.history.engine import connect
from features.history.query import load_customers
from features.history.tables import decisions, outbox, reservations, resource_usage
from models.domain.action import ReasonCode
from models.domain.campaign import Caps, PolicyName
from models.domain.channel import DEFAULT_CHANNELS
from models.domain.decision import Decision
from models.domain.errors import StoreUnavailableError
from models.domain.message import message_id
from serving.request import DecisionRequest
from serving.store.ledger import Ledger
from serving.store.record import RECORDED, DecisionRefused, RecordDecision, RecordOutcome
from serving.store.writer import DecisionWriter

TABLES = (decisions, outbox, reservations, resource_usage)


def ask(customer_id: str = "ada", **more: object) -> DecisionRequest:
    return DecisionRequest(**{"customer_id": customer_id, "campaign_id": "spring", **more})


def command(market, customer_id: str = "ada") -> RecordDecision:
    """What the decider would record, without recording it."""
    service = market.opened[0] if market.opened else market.service()
    decision = service.decider.decide(ask(customer_id, dry_run=True), market.now)
    with market.engine.connect() as conn:
        customer = load_customers(conn, [customer_id], market.now)[customer_id]
    snapshot = service.snapshots.current
    return RecordDecision(
        decision=replace(decision, dry_run=False),
        campaign=snapshot.campaigns["spring"],
        channels=snapshot.channels,
        customer=customer,
    )


def record(conn: Connection, commands: Sequence[RecordDecision]) -> list[RecordOutcome]:
    """What the decider does with decisions that it has chosen."""
    ledger = Ledger(conn, {one.decision.customer_id for one in commands}, commands[0].decision.decided_at)
    outcomes = ledger.take(commands)
    ledger.write()
    return outcomes


class Recording:
    """A desk that records decisions which were chosen before."""

    def prepare(self, works: Sequence[RecordDecision]) -> None:
        pass

    def settle(self, conn: Connection, works: Sequence[RecordDecision]) -> list[RecordOutcome]:
        return record(conn, works)


def n_rows(market) -> list[int]:
    with market.engine.connect() as conn:
        return [conn.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES]


def limited(market, **changes: object) -> None:
    market.customers("ada")
    sms = next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
    market.channel(replace(sms, capacity_per_day=100))
    market.campaign(policy=PolicyName.GREEDY, budget_minor=1_000.0, **changes)


def test_decision_reservations_and_message_are_written_together(market):
    limited(market)
    decision = market.service().decider.decide(ask(), market.now)
    assert n_rows(market) == [1, 1, 2, 2]
    with market.engine.connect() as conn:
        message = conn.execute(select(outbox)).one()
        used = dict(conn.execute(select(resource_usage.c.resource, resource_usage.c.used)).all())
    assert message.message_id == message_id(decision.decision_id, 0, "sms")
    assert (message.channel, message.content_kind, message.status) == ("sms", "text", "pending")
    assert message.due_at == message.send_at == decision.action.send_at
    assert message.expires_at == decision.action.expires_at
    assert (message.attempts, message.fencing_token) == (0, 0)
    assert used == {"budget:spring": 1.45, "capacity:sms:2026-03-01": 1.0}


def test_no_contact_is_recorded_without_message_or_reservation(market):
    limited(market, caps=Caps(contacts=0))
    assert market.service().decider.decide(ask(), market.now).action is None
    assert n_rows(market) == [1, 0, 0, 0]


@pytest.mark.parametrize("table", ["decisions", "resource_usage", "reservations", "outbox"])
def test_a_crash_in_the_middle_of_the_transaction_leaves_nothing(market, table):
    limited(market)
    service = market.service()
    crashes, dying = [], True

    @event.listens_for(market.engine, "before_cursor_execute")
    def crash(conn, cursor, statement, parameters, context, executemany):
        if dying and statement.startswith((f"INSERT INTO {table}", f"UPDATE {table}")):
            crashes.append(statement)
            raise MemoryError("the process dies here")

    with pytest.raises(MemoryError):
        service.decider.decide(ask(), market.now)
    assert crashes
    assert n_rows(market) == [0, 0, 0, 0]
    dying = False
    service.decider.decide(ask(), market.now)
    assert n_rows(market)[:3] == [1, 1, 2]


def test_concurrent_requests_share_commits_and_each_is_acknowledged_after_its_own(market):
    people = [f"c{i}" for i in range(60)]
    market.customers(*people)
    market.campaign()
    service = market.service()
    commits = []
    gate = threading.Event()

    @event.listens_for(market.engine, "commit")
    def count(conn):
        if threading.current_thread().name == "decision-writer":
            commits.append(1)
            gate.wait(5)

    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(service.decider.decide, ask(person), market.now) for person in people]
        while not commits:
            pass
        assert not any(one.done() for one in asked), "nothing is acknowledged before its commit"
        while service.writer._waiting.qsize() < 40:
            pass
        gate.set()
        ids = {one.result().decision_id for one in asked}
    assert len(ids) == n_rows(market)[0] == 60
    assert len(commits) < 20


def test_an_error_goes_to_the_request_that_caused_it(market):
    market.customers("ada", "bob", "eve")
    market.campaign()
    first, bad, last = (command(market, person) for person in ("ada", "bob", "eve"))
    bad = replace(bad, decision=replace(bad.decision, campaign_version=None))
    writer = DecisionWriter(market.engine)
    with market.engine.begin():  # on SQLite nobody else can write: the three queue up behind it
        writer.start()
        desk = Recording()
        submitted = [writer.submit(desk, one) for one in (first, bad, last)]
    assert submitted[0].result() == submitted[2].result() == RECORDED
    with pytest.raises(IntegrityError):
        submitted[1].result()
    writer.stop()
    assert n_rows(market)[0] == 2


def test_a_decision_that_a_cap_forbids_by_now_is_refused_as_a_whole(market):
    limited(market, caps=Caps(contacts=1))
    first, second = command(market), command(market)
    with market.engine.begin() as conn:
        outcomes = record(conn, [first, second])
    assert outcomes == [RECORDED, DecisionRefused(ReasonCode.FREQUENCY_CAP, "sms")]
    assert n_rows(market) == [1, 1, 2, 2]


def test_withdrawn_consent_is_seen_inside_the_transaction(market):
    limited(market)
    made = command(market)
    with market.engine.begin() as conn:
        conn.execute(
            text("UPDATE consents SET status = 'unsubscribed' WHERE customer_id = 'ada' AND channel = 'sms'")
        )
    with market.engine.begin() as conn:
        assert record(conn, [made]) == [DecisionRefused(ReasonCode.UNSUBSCRIBED, "sms")]
    assert n_rows(market) == [0, 0, 0, 2]


def test_what_was_spent_before_there_was_a_budget_counts(market):
    people = [f"c{i}" for i in range(4)]
    market.customers(*people)
    market.campaign(policy=PolicyName.GREEDY)
    service = market.service()
    for person in people[:2]:
        service.decider.decide(ask(person), market.now)  # 2 x 1.45 by SMS
    market.now += timedelta(seconds=10)
    market.campaign(policy=PolicyName.GREEDY, budget_minor=4.40)
    service.snapshots.reload()
    channels = [service.decider.decide(ask(person), market.now).action.channel for person in people[2:]]
    # 2.90 + 1.45 = 4.35; the next SMS would make 5.80, push is free
    assert channels == ["sms", "push"]


def test_64_clients_never_overspend_a_budget_nor_a_capacity(market):
    people = [f"c{i}" for i in range(64)]
    market.customers(*people)
    sms, push = (next(c for c in DEFAULT_CHANNELS if c.name == name) for name in ("sms", "push"))
    market.channel(replace(sms, capacity_per_day=11))
    market.channel(replace(push, cost_minor=0.5, capacity_per_day=1_000))
    market.campaign(policy=PolicyName.GREEDY, budget_minor=20.0)
    services = [market.service(), market.service()]  # two writers: two replicas on one database

    def one(i: int) -> Decision:
        return services[i % 2].decider.decide(ask(people[i]), market.now)

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(one, range(64)))
    spent = sum(answer.expected.cost_minor for answer in answers)
    by_sms = sum(answer.action is not None and answer.action.channel == "sms" for answer in answers)
    assert by_sms == 11  # 15.95
    assert spent <= 20.0 + 1e-9
    # 4.05 are left: 8 by push for 4.00, and then 5 by e-mail for 0.01 each
    by_channel = [answer.action.channel for answer in answers if answer.action]
    assert (by_channel.count("push"), by_channel.count("email")) == (8, 5)
    with market.engine.connect() as conn:
        used = dict(conn.execute(select(resource_usage.c.resource, resource_usage.c.used)).all())
        reserved = conn.execute(
            select(func.sum(reservations.c.amount)).where(reservations.c.resource == "budget:spring")
        ).scalar_one()
    assert used["budget:spring"] == pytest.approx(spent)
    assert reserved == pytest.approx(spent)
    silent = [answer for answer in answers if answer.action is None]
    assert len(silent) == 64 - 24
    assert ReasonCode.BUDGET_EXHAUSTED in {e.reason for answer in silent for e in answer.exclusions}


def test_one_customer_hammered_by_64_clients_gets_no_more_than_the_cap(market):
    market.customers("ada")
    market.campaign(caps=Caps(contacts=3))
    services = [market.service(), market.service()]
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda i: services[i % 2].decider.decide(ask(), market.now), range(64)))
    assert sum(answer.action is not None for answer in answers) == 3


def test_concurrent_requests_with_one_decision_id_get_one_decision(market):
    market.customers("ada")
    market.campaign()
    service = market.service()
    given = "01a2019c-ff02-74e0-82f9-fc1c4292b790"
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda i: service.decider.decide(
                    ask(decision_id=given), market.now + timedelta(milliseconds=i)
                ),
                range(16),
            )
        )
    assert len({(answer.decision_id, answer.decided_at) for answer in answers}) == 1
    assert n_rows(market)[0] == 1


def test_a_lost_database_is_told_to_the_caller_and_the_writer_lives_on(market, tmp_path):
    market.customers("ada")
    market.campaign()
    made = command(market)
    away = connect(f"sqlite:///{tmp_path / 'empty.db'}")  # no tables: every statement is an OperationalError
    writer = DecisionWriter(away)
    writer.start()
    with pytest.raises(StoreUnavailableError):
        writer.submit(Recording(), made).result()
    writer._engine = market.engine
    assert writer.submit(Recording(), made).result() == RECORDED
    writer.stop()
    with pytest.raises(StoreUnavailableError):
        writer.submit(Recording(), made).result()


def test_stopping_writes_what_was_submitted(market):
    people = [f"c{i}" for i in range(20)]
    market.customers(*people)
    market.campaign()
    commands = [command(market, person) for person in people]
    writer = DecisionWriter(market.engine)
    writer.start()
    submitted = [writer.submit(Recording(), one) for one in commands]
    writer.stop()
    assert [one.result(0) for one in submitted] == [RECORDED] * 20
