"""Files into the history: what arrives, what is refused and why, and that twice is the same as once."""

from __future__ import annotations

import csv
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.sql.schema import Table

from features.history.campaigns import save_campaign
from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from features.history.query import load_customers
from features.history.tables import consents, customers, decisions, identities, interactions
from models.domain.campaign import Campaign, Content, Offer, SendWindow
from models.domain.channel import ContentKind, IdentityKind
from models.domain.customer import ConsentStatus
from models.domain.errors import InvalidInputError, NotFoundError
from models.domain.experiment import Experiment
from tests.benchmarks import import_file as large_import
from training.imports import ImportKind, import_file

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CUSTOMERS = """customer_id,time_zone,created_at,email,phone,consent_email,consent_sms,attr_age,attr_city
c-1,Asia/Taipei,2026-01-01T00:00:00Z,a@example.com,,granted,withdrawn,41,Taipei
c-2,UTC,2026-01-02T00:00:00+00:00,b@example.com,+886900000002,granted,,,
c-3,Mars/Olympus,2026-01-02T00:00:00Z,c@example.com,,granted,,30,
c-4,UTC,2026-01-02,d@example.com,,granted,,30,
c-5,UTC,2026-01-02T00:00:00Z,a@example.com,,granted,,30,
c-6,UTC,2026-01-02T00:00:00Z
c-7,UTC,2026-01-02T00:00:00Z,e@example.com,,maybe,,30,
c-8,UTC,2026-01-02T00:00:00Z,"f@example.com
",,granted,,30,"a
city"
,UTC,2026-01-02T00:00:00Z,g@example.com,,granted,,30,
"""
DECISIONS = """decision_id,customer_id,campaign_id,decided_at,propensity,offer_id,channel,slot
d-1,c-1,spring,2026-02-01T00:00:00Z,0.25,sale,email,1
d-2,c-2,spring,2026-02-01T00:00:00Z,0.5,,,
d-3,c-2,spring,2026-02-01T00:00:00Z,0,sale,email,1
d-4,c-2,spring,2026-02-01T00:00:00Z,,sale,email,1
d-5,c-2,spring,2026-02-01T00:00:00Z,1.01,sale,email,1
d-6,c-2,winter,2026-02-01T00:00:00Z,1,sale,email,1
d-7,c-2,spring,2026-02-01T00:00:00Z,1,sale,pigeon,1
d-8,c-2,spring,2026-02-01T00:00:00Z,1,sale,email,2
d-9,c-2,spring,2026-02-01T00:00:00Z,1,sale,,1
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    with engine.begin() as conn:
        seed_channels(conn, NOW)
        save_campaign(
            conn,
            Campaign(
                campaign_id="spring",
                send_window=SendWindow(starts_at=NOW, ends_at=NOW + timedelta(days=30)),
                slots=(time(9), time(18)),
                offers=(
                    Offer(
                        offer_id="sale", margin_minor=1000.0, content={ContentKind.TEXT: Content(body="Sale")}
                    ),
                ),
                channels=("email", "sms"),
                experiment=Experiment(experiment_id="spring"),
                conversion_value_minor=1000.0,
            ),
            NOW,
        )
    return engine


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def count(engine: Engine, table: Table) -> int:
    with engine.connect() as conn:
        return conn.execute(select(func.count()).select_from(table)).scalar_one()


def reasons(path: Path | None) -> dict[int, str]:
    assert path is not None
    with path.open(encoding="utf-8", newline="") as file:
        return {int(row["line"]): f"{row['column']} {row['reason']}".strip() for row in csv.DictReader(file)}


def test_good_customers_arrive_whole_and_bad_ones_not_at_all(engine: Engine, tmp_path: Path) -> None:
    done = import_file(engine, ImportKind.CUSTOMERS, write(tmp_path, "people.csv", CUSTOMERS), NOW)

    assert (done.n_new, done.n_repeated, done.n_rejected) == (3, 0, 6)
    with engine.connect() as conn:
        people = load_customers(conn, [f"c-{i}" for i in range(1, 9)], NOW)
        attributes = conn.execute(
            select(customers.c.attributes).where(customers.c.customer_id == "c-1")
        ).scalar_one()
    assert sorted(people) == ["c-1", "c-2", "c-8"]
    assert people["c-1"].time_zone == "Asia/Taipei"
    assert people["c-1"].identities == {IdentityKind.EMAIL}
    assert people["c-1"].consents == {
        ("email", "marketing"): ConsentStatus.GRANTED,
        ("sms", "marketing"): ConsentStatus.WITHDRAWN,
    }
    assert people["c-2"].consents == {("email", "marketing"): ConsentStatus.GRANTED}
    assert attributes == {"age": 41, "city": "Taipei"}
    assert count(engine, identities) == 4
    assert count(engine, consents) == 4


def test_every_bad_row_is_named_with_line_column_and_reason(engine: Engine, tmp_path: Path) -> None:
    done = import_file(engine, ImportKind.CUSTOMERS, write(tmp_path, "people.csv", CUSTOMERS), NOW)

    assert done.rejected == tmp_path / "people.csv.rejected.csv"
    assert reasons(done.rejected) == {
        4: "time_zone must be an IANA time zone, for example Asia/Taipei",
        5: "created_at must carry a time zone, for example 2026-01-31T09:00:00Z",
        6: "email must not belong to another customer than c-5",
        7: "has 3 cells, must have 9",
        8: "consent_email must be one of granted, withdrawn, unsubscribed, complained",
        # The row before it spans three lines of the file.
        12: "customer_id must not be empty",
    }


def test_importing_twice_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path, "people.csv", CUSTOMERS)
    import_file(engine, ImportKind.CUSTOMERS, path, NOW)
    sizes = [count(engine, table) for table in (customers, identities, consents)]

    again = import_file(engine, ImportKind.CUSTOMERS, path, NOW + timedelta(days=1))

    assert (again.n_new, again.n_repeated, again.n_rejected) == (0, 3, 6)
    assert [count(engine, table) for table in (customers, identities, consents)] == sizes


def test_a_repaired_file_leaves_no_side_file_behind(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path, "people.csv", CUSTOMERS)
    first = import_file(engine, ImportKind.CUSTOMERS, path, NOW)
    assert first.rejected is not None
    assert first.rejected.exists()
    write(tmp_path, "people.csv", "\n".join(CUSTOMERS.splitlines()[:3]))

    second = import_file(engine, ImportKind.CUSTOMERS, path, NOW)

    assert second.rejected is None
    assert not first.rejected.exists()


def test_decisions_need_a_propensity_and_an_action_of_their_campaign(engine: Engine, tmp_path: Path) -> None:
    done = import_file(engine, ImportKind.DECISIONS, write(tmp_path, "log.csv", DECISIONS), NOW)

    assert (done.n_new, done.n_rejected) == (2, 7)
    assert reasons(done.rejected) == {
        4: "propensity must be in (0, 1]",
        5: "propensity must be a number, for example 12.5",
        6: "propensity must be in (0, 1]",
        7: "campaign_id must be a campaign of the history",
        8: "channel must be one of email, sms, or offer_id, channel and slot all empty for no contact",
        9: "slot must be a whole number in [0, 1]",
        10: "channel must be one of email, sms, or offer_id, channel and slot all empty for no contact",
    }
    with engine.connect() as conn:
        rows = conn.execute(select(decisions).order_by(decisions.c.decision_id)).all()
    assert [(row.channel, row.slot, row.propensity, row.cost_minor) for row in rows] == [
        ("email", 1, 0.25, 0.01),
        (None, None, 0.5, 0.0),
    ]


def test_interactions_come_from_parquet_as_from_csv(engine: Engine, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "event_id": ["e-1", "e-2", "e-3"],
            "customer_id": ["c-1", "c-1", "c-1"],
            "kind": ["opened", "converted", "danced"],
            "occurred_at": [datetime(2026, 2, 1, 12, tzinfo=UTC)] * 3,
            "value_minor": [None, 1250.5, None],
            "machine_made": [True, False, False],
        }
    )
    frame.write_parquet(tmp_path / "events.parquet")
    done = import_file(engine, ImportKind.INTERACTIONS, tmp_path / "events.parquet", NOW)
    frame.with_columns(pl.col("occurred_at").dt.to_string("iso:strict")).write_csv(tmp_path / "events.csv")
    again = import_file(engine, ImportKind.INTERACTIONS, tmp_path / "events.csv", NOW)

    assert (done.n_new, done.n_rejected) == (2, 1)
    assert (again.n_new, again.n_repeated, again.n_rejected) == (0, 2, 1)
    assert set(reasons(done.rejected)) == set(reasons(again.rejected)) == {4}
    with engine.connect() as conn:
        rows = conn.execute(select(interactions).order_by(interactions.c.event_id)).all()
    assert [(row.kind, row.value_minor, row.machine_made) for row in rows] == [
        ("opened", None, True),
        ("converted", 1250.5, False),
    ]


def test_broken_bytes_and_quotes_spoil_only_their_own_row(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(
        b"\xef\xbb\xbfcustomer_id,time_zone,created_at\n"
        b"c-1,UTC,2026-01-01T00:00:00Z\n"
        b"c-\xff2,UTC,2026-01-01T00:00:00Z\n"
        b'"c-3"x,UTC,2026-01-01T00:00:00Z\n'
        b"\n"
        b"c-4,UTC,2026-01-01T00:00:00Z\n"
    )
    done = import_file(engine, ImportKind.CUSTOMERS, path, NOW)

    assert (done.n_new, done.n_rejected) == (2, 2)
    assert set(reasons(done.rejected)) == {3, 4}


def test_a_spreadsheet_runs_nothing_from_the_side_file(engine: Engine, tmp_path: Path) -> None:
    text = 'customer_id,time_zone,created_at\nc-1,"=HYPERLINK(""http://x"")",2026-01-01T00:00:00Z\n'
    done = import_file(engine, ImportKind.CUSTOMERS, write(tmp_path, "people.csv", text), NOW)

    assert done.rejected is not None
    with done.rejected.open(encoding="utf-8", newline="") as file:
        assert [row["value"] for row in csv.DictReader(file)] == ['\'=HYPERLINK("http://x")']


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("people.csv", "customer_id,created_at\n", "time_zone"),
        ("people.csv", "customer_id,time_zone,created_at,emial\n", "emial"),
        ("people.csv", "customer_id,time_zone,created_at,email,email\n", "repeat"),
        ("people.csv", "", "header"),
        ("people.xlsx", "x", ".parquet"),
        ("people.parquet", "x", "Parquet"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_written(
    engine: Engine, tmp_path: Path, name: str, text: str, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        import_file(engine, ImportKind.CUSTOMERS, write(tmp_path, name, text), NOW)
    assert count(engine, customers) == 0


def test_a_missing_file_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.csv"):
        import_file(engine, ImportKind.CUSTOMERS, tmp_path / "nowhere.csv", NOW)


def test_progress_grows_to_one(engine: Engine, tmp_path: Path) -> None:
    lines = [f"c-{i},UTC,2026-01-01T00:00:00Z" for i in range(5_000)]
    path = write(tmp_path, "people.csv", "\n".join(["customer_id,time_zone,created_at", *lines]))
    shares: list[float] = []

    done = import_file(engine, ImportKind.CUSTOMERS, path, NOW, shares.append)

    assert done.n_new == 5_000
    assert len(shares) == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_interactions_name_their_customer_by_id_or_by_one_contact_point(
    engine: Engine, tmp_path: Path
) -> None:
    import_file(engine, ImportKind.CUSTOMERS, write(tmp_path, "people.csv", CUSTOMERS), NOW)
    text = """event_id,customer_id,email,cookie,kind,occurred_at,place,attr_utm_term
e-1,c-2,,,visited,2026-02-01T00:00:00Z,,007
e-2,,a@example.com,,purchased,2026-02-01T00:00:00Z,shop,
e-3,,,7f9c,viewed,2026-02-01T00:00:00Z,,
e-4,,,7f9c,viewed,2026-02-02T00:00:00Z,,
e-5,,nobody@example.com,,viewed,2026-02-01T00:00:00Z,,
e-6,c-1,a@example.com,,viewed,2026-02-01T00:00:00Z,,
e-7,,,,viewed,2026-02-01T00:00:00Z,,
e-8,c-1,,,viewed,0001-01-01T00:00:00+14:00,,
e-9,c-1,,,viewed,2026-02-01T00:00:00Z,moon,
"""
    done = import_file(engine, ImportKind.INTERACTIONS, write(tmp_path, "events.csv", text), NOW)

    assert (done.n_new, done.n_rejected) == (4, 5)
    assert reasons(done.rejected) == {
        6: "email must be a contact point of a customer",
        7: "customer_id must be empty beside a contact point",
        8: "customer_id must be given, or exactly one contact point instead",
        9: "occurred_at must be in [1970-01-01, 2200-01-01)",
        10: "place must be one of online, shop, phone, chat",
    }
    with engine.connect() as conn:
        rows = conn.execute(select(interactions).order_by(interactions.c.event_id)).all()
    assert [row.customer_id for row in rows[:2]] == ["c-2", "c-1"]
    assert (rows[0].attributes, rows[1].place) == ({"utm_term": "007"}, "shop")
    assert rows[2].customer_id == rows[3].customer_id
    assert rows[2].customer_id.startswith("visitor-")


def test_interrupted_and_killed_an_import_is_finished_without_double_rows(tmp_path: Path) -> None:
    with large_import.database() as history:
        found = large_import.measure(history, tmp_path, 24_000)
    assert found["right"], found
    assert (found["exit_code_after_sigint"], found["exit_code_after_sigkill"]) == (130, -9)
    assert 0 < found["held_after_sigint"] < found["held_after_sigkill"] < 24_000


def test_a_terminal_sees_a_progress_bar(tmp_path: Path) -> None:
    lines = [f"c-{i},UTC,2026-01-01T00:00:00Z" for i in range(6_000)]
    path = write(tmp_path, "people.csv", "\n".join(["customer_id,time_zone,created_at", *lines]))
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "nextchannel", "import", "customers", str(path)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"NEXTCHANNEL_HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
    )
    os.close(theirs)
    seen = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "importing customers" in seen
    assert "%" in seen
    assert done.stdout == "customers: 6,000 new, 0 already there, 0 rejected\n"
