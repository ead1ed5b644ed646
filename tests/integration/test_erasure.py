"""Erasing a person: nothing of them is left in any file, and every total stays as it was."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, String, cast, func, insert, select

from features.history.append import (
    Appended,
    CustomerRecord,
    append_consents,
    append_customers,
    append_identities,
    append_interactions,
)
from features.history.channels import load_channels, seed_channels
from features.history.engine import connect
from features.history.erase import ANSWERS, KEPT_NAMELESS, OF_NOBODY, REMOVED, SAID, load_unfinished, readmit
from features.history.query import find_customer_id, load_customers
from features.history.report import customer_sums, funnel
from features.history.rewards import settle_in_parts
from features.history.tables import (
    customers,
    decisions,
    erasures,
    identities,
    interactions,
    metadata,
    outbox,
    reservations,
    resource_usage,
    suppressions,
)
from features.identity.link import Link, link, merge
from features.identity.vault import vault_of
from features.offline import materialize
from features.online import FeatureReader, FeatureWriter
from features.workspace import FeatureWorkspace
from models.domain.channel import DEFAULT_CHANNELS, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.errors import ConflictError, NotFoundError
from models.domain.interaction import Interaction, InteractionKind
from models.domain.message import Receipt, ReceiptStatus
from serving.erasure import Eraser
from serving.request import DecisionRequest
from serving.store.endings import OutboxStatus, sent
from serving.store.outbox import claim, settle
from tests.chaos import erase as erase_under_fire
from training.imports import ImportKind, import_file

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
DAY = timedelta(days=1)
PERSON, VISITOR = "person-who-leaves-93c1", "visitor-who-leaves-55aa"
ADDRESS, NUMBER, LINE = "leaving.person@example.com", "+886955123987", "Uleaving93c1"
TRACES = (PERSON, VISITOR, ADDRESS, NUMBER, LINE, "order-of-leaver", "said by the leaver")
CHANNELS = [channel for channel in DEFAULT_CHANNELS if channel.name in ("email", "sms", "push")]


def fill(engine: Engine, market_on: Callable[..., Any]) -> None:
    """Twenty people with contacts, one of them with everything that a person can leave behind."""
    market = on(market_on, engine)
    market.campaign(budget_minor=10_000.0)
    others = [f"c-{number}" for number in range(20)]
    market.customers(*others, PERSON)
    service = market.service()
    requests = [DecisionRequest(customer_id=one, campaign_id="spring") for one in (*others, PERSON)]
    made = service.decider.decide_many(requests, NOW)
    service.stop()
    with engine.begin() as conn:
        append_customers(
            conn, [CustomerRecord(customer_id=VISITOR, time_zone="UTC", created_at=NOW, anonymous=True)]
        )
        append_identities(
            conn,
            [
                Identity(customer_id=PERSON, kind=kind, value=value, linked_at=NOW - DAY, source="shop")
                for kind, value in (
                    (IdentityKind.EMAIL, ADDRESS),
                    (IdentityKind.WHATSAPP, NUMBER),
                    (IdentityKind.LINE, LINE),
                )
            ],
        )
        for claimed in claim(conn, NOW + DAY, 60, 100):
            receipt = Receipt(
                status=ReceiptStatus.ACCEPTED,
                provider="test",
                provider_message_id=f"to-{claimed.customer_id}",
            )
            settle(conn, [sent(claimed, NOW + DAY, receipt)])
        decision = {one.customer_id: one for one in made}
        facts = [
            Interaction(
                source="shop",
                event_id=f"order-of-leaver-{number}" if one == PERSON else f"order-{one}-{number}",
                customer_id=one,
                kind=InteractionKind.CONVERTED if number else InteractionKind.CLICKED,
                occurred_at=NOW + DAY + number * timedelta(minutes=1),
                campaign_id="spring",
                decision_id=decision[one].decision_id if number == 0 else None,
                value_minor=1_000.0 + 7 * number,
                attributes={"note": "said by the leaver"} if one == PERSON else {},
            )
            for one in (*others[:10], PERSON)
            for number in range(3)
        ]
        append_interactions(conn, facts, NOW + DAY)
        append_interactions(
            conn,
            [
                Interaction(
                    source="web",
                    event_id="order-of-leaver-visit",
                    customer_id=VISITOR,
                    kind=InteractionKind.VISITED,
                    occurred_at=NOW,
                )
            ],
            NOW,
        )
        merge(conn, PERSON, VISITOR, NOW, "ada", "same browser")
        link(
            conn,
            Link(
                contact_points=[(IdentityKind.DEVICE, "device:c-1")],
                customer_id=PERSON,
                linked_at=NOW,
                source="app",
            ),
            "test",
        )  # a conflict with c-1


class KilledError(RuntimeError):
    """The process ends here."""


def on(market_on: Callable[..., Any], engine: Engine) -> Any:
    with engine.begin() as conn:
        seed_channels(conn, NOW - DAY)
    return market_on(engine, NOW)


def totals(engine: Engine) -> tuple[object, ...]:
    """Every figure of the reports."""
    settle_in_parts(engine, NOW + 2 * DAY)
    with engine.connect() as conn:
        # Sums of other orders differ in their last digits.
        by_arm = [
            tuple(round(figure, 6) if isinstance(figure, float) else figure for figure in astuple(sums))
            for sums in customer_sums(conn, "spring").arms.values()
        ]
        people = conn.scalar(select(func.count(func.distinct(decisions.c.customer_id))))
        used = conn.execute(select(resource_usage).order_by(resource_usage.c.resource)).all()
        return funnel(conn), by_arm, people, used, conn.scalar(select(func.sum(interactions.c.value_minor)))


def left_in_files(folder: Path) -> set[tuple[str, str]]:
    """Which traces of the person are where."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found |= {(trace, path.name) for trace in TRACES if trace.encode() in content}
    return found


@pytest.fixture
def home(
    tmp_path: Path, sqlite_template: Path, market_on: Callable[..., Any]
) -> Iterator[tuple[Path, Engine, FeatureWorkspace]]:
    """A whole installation on SQLite; the person is in its database, its features and their files."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(sqlite_template, folder / "history.db")
    engine = connect(f"sqlite:///{folder / 'history.db'}")
    fill(engine, market_on)
    workspace = FeatureWorkspace(folder, engine)
    workspace.define(CHANNELS)
    materialize(workspace, NOW + 2 * DAY)
    workspace.define(CHANNELS[:2])  # rows of a former list stay in the store
    materialize(workspace, NOW + 2 * DAY)
    FeatureWriter(workspace).refresh([PERSON, "c-1"], NOW + 2 * DAY)
    yield folder, engine, workspace
    engine.dispose()


def test_no_file_of_an_installation_holds_anything_of_an_erased_person(
    home: tuple[Path, Engine, FeatureWorkspace],
) -> None:
    folder, engine, workspace = home
    held = {trace for trace, _ in left_in_files(folder)}
    assert held == {*TRACES} - {ADDRESS, NUMBER, LINE}, "contact points are never in the clear"
    files = {name for trace, name in left_in_files(folder) if trace == PERSON}
    for beginning in ("history.db", "online.db", "vectors-", "served-"):
        assert any(name.startswith(beginning) for name in files)
    before = totals(engine)

    done = Eraser(engine, workspace, lambda: NOW + 3 * DAY).erase(VISITOR)  # any of their ids

    assert done.finished_at == NOW + 3 * DAY
    assert left_in_files(folder) == set()
    assert totals(engine) == before
    assert done.rows["interactions"] == 5  # sent, three of the shop, the visit
    with engine.connect() as conn:
        rows = conn.execute(select(interactions).where(interactions.c.customer_id == done.tombstone_id)).all()
        assert {row.kind for row in rows} == {"sent", "clicked", "converted", "visited"}
        assert conn.scalar(select(func.count()).select_from(customers)) == 20
        assert conn.scalar(select(func.count()).select_from(identities)) == 60
        assert load_unfinished(conn) == []
    vectors = FeatureReader(workspace).read([PERSON, "c-1"], NOW + 2 * DAY)
    assert vectors.missing.tolist() == [True, False]


def test_an_erasure_that_was_cut_short_is_finished_by_the_next_start(
    home: tuple[Path, Engine, FeatureWorkspace],
) -> None:
    folder, engine, workspace = home
    before = totals(engine)
    eraser = Eraser(engine, workspace, lambda: NOW + 3 * DAY)
    eraser.begin(PERSON)
    with engine.connect() as conn:
        assert load_customers(conn, [PERSON], NOW) == {}, "unknown from the first commit on"

    def die(step: str) -> None:
        if step == "subject":
            raise KilledError

    with pytest.raises(KilledError):
        eraser.resume(after=die)
    with engine.connect() as conn:
        assert len(load_unfinished(conn)) == 1
    next_start = Eraser(engine, workspace, lambda: NOW + 3 * DAY)
    assert next_start.resume() == 1
    assert next_start.resume() == 0
    assert left_in_files(folder) == set()
    assert totals(engine) == before


def test_an_erasure_that_is_killed_is_finished_by_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert erase_under_fire.main(["--customers", "20", "--steps", "rows"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"chaos": "erase", "customers": 20, "finished": {"rows": True}}


def test_no_table_holds_anything_of_an_erased_person(engine: Engine, market_on: Callable[..., Any]) -> None:
    fill(engine, market_on)
    before = totals(engine)
    with engine.connect() as conn:
        assert held_in_tables(conn) >= {("decisions", PERSON), ("interactions", "said by the leaver")}
    Eraser(engine, None, lambda: NOW + 3 * DAY).erase(PERSON)
    with engine.connect() as conn:
        assert held_in_tables(conn) == set()
    assert totals(engine) == before


def held_in_tables(conn: Connection) -> set[tuple[str, str]]:
    found = set()
    for table in metadata.sorted_tables:
        for column in table.c:
            for trace in TRACES:
                like = cast(column, String).contains(trace)
                if conn.execute(select(column).where(like).limit(1)).first():
                    found.add((table.name, trace))
    return found


def test_every_table_is_known_to_the_erasure() -> None:
    named = {table.name for table in (*KEPT_NAMELESS, *REMOVED, *ANSWERS, *SAID)} | set(OF_NOBODY)
    assert named == set(metadata.tables), (
        "say in features.history.erase what becomes of the rows of a new table"
    )
    for name in OF_NOBODY:
        assert "customer_id" not in metadata.tables[name].c


def test_no_import_brings_an_erased_person_back(
    engine: Engine, market_on: Callable[..., Any], tmp_path: Path
) -> None:
    fill(engine, market_on)
    Eraser(engine, None, lambda: NOW + 3 * DAY).erase(PERSON)
    people = tmp_path / "people.csv"
    people.write_text(
        "customer_id,time_zone,created_at,email\n"
        f"{PERSON},UTC,2026-01-01T00:00:00Z,other@example.com\n"
        f"c-new,UTC,2026-01-01T00:00:00Z, {ADDRESS.upper()} \n"
        "c-free,UTC,2026-01-01T00:00:00Z,free@example.com\n"
    )
    done = import_file(engine, ImportKind.CUSTOMERS, people, NOW)
    assert (done.n_new, done.n_erased, done.n_rejected) == (1, 2, 0)
    facts = tmp_path / "facts.csv"
    facts.write_text(
        "event_id,customer_id,kind,occurred_at\n"
        f"late-1,{PERSON},visited,2026-03-02T00:00:00Z\n"
        f"late-2,{VISITOR},unsubscribed,2026-03-02T00:00:00Z\n"
        "late-3,c-free,visited,2026-03-02T00:00:00Z\n"
    )
    done = import_file(engine, ImportKind.INTERACTIONS, facts, NOW)
    assert (done.n_new, done.n_erased) == (1, 2)
    with engine.begin() as conn:
        assert load_customers(conn, [PERSON, VISITOR, "c-new"], NOW) == {}
        said = Consent(
            customer_id=PERSON,
            channel="email",
            purpose="marketing",
            status=ConsentStatus.GRANTED,
            since=NOW,
            source="form",
        )
        assert append_consents(conn, [said]) == Appended(0, 0, 1)
        with pytest.raises(ConflictError, match="email was erased"):
            link(
                conn,
                Link(
                    contact_points=[(IdentityKind.EMAIL, ADDRESS)],
                    customer_id=None,
                    linked_at=NOW,
                    source="s",
                ),
                "test",
            )
        # The person asks to be known again.
        assert readmit(conn, [vault_of(conn).lookup(IdentityKind.EMAIL, ADDRESS)]) == 1
        again = link(
            conn,
            Link(contact_points=[(IdentityKind.EMAIL, ADDRESS)], customer_id=None, linked_at=NOW, source="s"),
            "test",
        )
        assert again.created
        assert find_customer_id(conn, IdentityKind.EMAIL, ADDRESS) == again.customer_id


def test_messages_in_flight_are_cancelled_and_a_sender_cannot_settle_them(
    engine: Engine, market_on: Callable[..., Any]
) -> None:
    market = on(market_on, engine)
    market.campaign(budget_minor=10_000.0)
    market.customers("c-1", "c-2")
    service = market.service()
    for one in ("c-1", "c-2"):
        assert service.decider.decide(DecisionRequest(customer_id=one, campaign_id="spring"), NOW).action
    with engine.begin() as conn:
        claimed = {one.customer_id: one for one in claim(conn, NOW + DAY, 600, 10)}
    service.eraser.erase("c-1")
    with engine.begin() as conn:
        receipt = Receipt(status=ReceiptStatus.ACCEPTED, provider="test")
        endings = [sent(claimed[one], NOW + DAY, receipt) for one in ("c-1", "c-2")]
        assert settle(conn, endings) == endings[:1], "the claim of the erased person's message is stale"
        by_status = {
            row.status: row.customer_id for row in conn.execute(select(outbox.c.status, outbox.c.customer_id))
        }
        assert by_status[OutboxStatus.SENT] == "c-2"
        assert by_status[OutboxStatus.SUPPRESSED].startswith("erased-")
        released = conn.execute(select(reservations.c.released_at.is_not(None))).scalars().all()
        assert sorted(released) == [False, True]
        channels = load_channels(conn)
        assert conn.scalar(select(func.sum(resource_usage.c.used))) <= max(
            channel.cost_minor or 0 for channel in channels.values()
        )
    with pytest.raises(NotFoundError, match="customer_id"):
        service.decider.decide(DecisionRequest(customer_id="c-1", campaign_id="spring"), NOW)
    with pytest.raises(ConflictError, match="erased already"):
        service.eraser.erase("c-1")
    with pytest.raises(NotFoundError):
        service.eraser.erase("nobody")


def test_rows_written_while_an_erasure_began_are_made_nameless_too(engine: Engine) -> None:
    with engine.begin() as conn:
        append_customers(conn, [CustomerRecord(customer_id="c-1", time_zone="UTC", created_at=NOW)])
    eraser = Eraser(engine, None, lambda: NOW)
    eraser.begin("c-1")
    row = {"source": "web", "kind": "visited", "occurred_at": NOW, "received_at": NOW, "attributes": {}}
    with engine.begin() as conn:  # its transaction looked for suppressions before the erasure's commit
        conn.execute(insert(interactions), {**row, "event_id": "1", "customer_id": "c-1"})
    eraser.resume()
    with engine.connect() as conn:
        tombstone = conn.execute(select(erasures.c.tombstone_id)).scalar_one()
        assert conn.execute(select(interactions.c.customer_id)).scalar_one() == tombstone
        assert conn.execute(select(erasures.c.subject)).scalar_one() is None


def test_two_people_erased_stay_two_people_in_every_count(
    engine: Engine, market_on: Callable[..., Any]
) -> None:
    fill(engine, market_on)
    before = totals(engine)
    eraser = Eraser(engine, None, lambda: NOW + 3 * DAY)
    for one in ("c-0", "c-1", "c-2"):
        eraser.erase(one)
    assert totals(engine) == before
    with engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(suppressions)) == 3 * 4


def test_a_running_replica_forgets_within_two_seconds_and_no_refresh_brings_rows_back(
    sqlite_engine: Engine, tmp_path: Path, market_on: Callable[..., Any]
) -> None:
    fill(sqlite_engine, market_on)
    mine, other = (FeatureWorkspace(tmp_path / "home", sqlite_engine) for _ in range(2))
    mine.define(CHANNELS)
    materialize(mine, NOW)
    assert not FeatureReader(other).read([PERSON], NOW).missing[0]  # in the replica's cache now
    Eraser(sqlite_engine, mine, lambda: NOW).erase(PERSON)
    ends_at = time.monotonic() + 2.0
    while not FeatureReader(other).read([PERSON], NOW).missing[0]:
        assert time.monotonic() < ends_at
        time.sleep(0.05)
    assert FeatureWriter(other).refresh([PERSON, "c-1"], NOW + DAY) == 1
    with sqlite_engine.begin() as conn:
        merge(conn, "c-1", "c-2", NOW, "ada", "same voice")
    assert FeatureWriter(other).refresh(["c-1", "c-2"], NOW + DAY) == 1, "one person by two ids"
    assert materialize(other, NOW + DAY) == 19
    assert FeatureReader(other).read([PERSON], NOW + DAY).missing[0]


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_shared_online_stores_lose_the_rows_of_every_list(
    kind: str, sqlite_engine: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "redis":
        store = {"type": "redis", "connection_string": request.getfixturevalue("redis_address")}
    else:
        url = request.getfixturevalue("postgresql_engine").url
        store = {
            "type": "postgres", "host": url.host, "port": url.port or 5432, "database": url.database,
            "user": url.username, "password": url.password or "", "db_schema": "public", "sslmode": "disable",
        }  # fmt: skip
    with sqlite_engine.begin() as conn:
        append_customers(
            conn,
            [CustomerRecord(customer_id=one, time_zone="UTC", created_at=NOW) for one in (PERSON, "c-1")],
        )
    shared = FeatureWorkspace(tmp_path, sqlite_engine, store, project=f"test_{uuid4().hex[:12]}")
    for channels in (CHANNELS, CHANNELS[:2]):
        shared.define(channels)
        materialize(shared, NOW)
    Eraser(sqlite_engine, shared, lambda: NOW).erase(PERSON)
    rows = shared.read_online([PERSON, "c-1"])
    assert rows[PERSON] is None
    assert rows["c-1"] is not None
    shared.define(CHANNELS)  # the former list
    rows = shared.read_online([PERSON, "c-1"])
    assert rows[PERSON] is None
    assert rows["c-1"] is not None
    assert left_in_files(tmp_path / "features") == set()
    shared.store.teardown()
