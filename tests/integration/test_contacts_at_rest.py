"""Contact points at rest: sealed, bound to their customer, found by a keyed hash, resealed under a new key."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, func, make_url, select, text, update

from features.history.append import CustomerRecord, append_customers, append_identities
from features.history.engine import connect, migrate
from features.history.query import find_customer_id, load_customers, load_recipients
from features.history.tables import identities, identity_conflicts
from features.identity.rotate import check_keys, keys_in_use, reseal
from features.identity.vault import KEY_FILE, ContactKeyError, ContactVault, make_keys, vault_of
from models.domain.channel import IdentityKind
from models.domain.customer import Identity
from models.domain.errors import InvalidInputError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EMAIL = IdentityKind.EMAIL


def fill(engine: Engine, n: int = 5) -> None:
    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(customer_id=f"c-{number}", time_zone="UTC", created_at=NOW)
                for number in range(n)
            ],
        )
        append_identities(
            conn,
            [
                Identity(
                    customer_id=f"c-{number}",
                    kind=EMAIL,
                    value=f"Person{number}@Example.com",
                    linked_at=NOW,
                    source="t",
                )
                for number in range(n)
            ],
        )


def recipients(engine: Engine, n: int = 5) -> list[str]:
    with engine.connect() as conn:
        found = load_recipients(conn, [f"c-{number}" for number in range(n)], NOW)
    return [found[f"c-{number}", EMAIL]() for number in range(n)]


@given(st.sampled_from(list(IdentityKind)), st.text(min_size=1, max_size=200).filter(str.strip))
def test_what_is_sealed_opens_for_its_kind_and_customer_alone(kind: IdentityKind, value: str) -> None:
    vault = ContactVault(text=_KEYS)
    value = value.encode("utf-8", "replace").decode()
    made = vault.seal(kind, "c-1", value)
    opened = vault.open(kind, "c-1", made.key_id, made.sealed)
    assert vault.lookup(kind, opened) == made.lookup
    assert vault.seal(kind, "c-1", value).sealed != made.sealed, "equal contact points do not look equal"
    other = IdentityKind.COOKIE if kind is not IdentityKind.COOKIE else EMAIL
    for wrong in ((kind, "c-2"), (other, "c-1")):
        with pytest.raises(ContactKeyError):
            vault.open(*wrong, made.key_id, made.sealed)


_KEYS = make_keys()


def test_no_row_holds_a_contact_point_and_any_spelling_finds_it(engine: Engine) -> None:
    fill(engine)
    with engine.connect() as conn:
        for row in conn.execute(select(identities)):
            assert "person" not in str(tuple(row)).lower()
        assert find_customer_id(conn, EMAIL, " PERSON3@example.COM") == "c-3"
        assert find_customer_id(conn, IdentityKind.LINE, "person3@example.com") is None
        assert load_customers(conn, ["c-3"], NOW)["c-3"].identities == {EMAIL}
    assert recipients(engine)[3] == "Person3@example.com"


def test_a_row_that_was_moved_to_another_customer_does_not_open(engine: Engine) -> None:
    fill(engine, 2)
    with engine.begin() as conn:
        conn.execute(delete(identities).where(identities.c.customer_id == "c-1"))
        conn.execute(update(identities).values(customer_id="c-1"))
        assert load_customers(conn, ["c-1"], NOW)["c-1"].identities == {EMAIL}, "decisions open nothing"
        (address,) = load_recipients(conn, ["c-1"], NOW).values()
        with pytest.raises(ContactKeyError, match="not what was sealed"):
            address()


def test_the_key_file_is_its_owners_alone_and_followed_while_it_changes(tmp_path: Path) -> None:
    first, second = (ContactVault(tmp_path / KEY_FILE) for _ in range(2))
    made = first.seal(EMAIL, "c-1", "a@example.com")
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert second.open(EMAIL, "c-1", made.key_id, made.sealed) == "a@example.com"
    new = first.add_key()
    assert second.current_key == new
    assert second.open(EMAIL, "c-1", made.key_id, made.sealed) == "a@example.com"
    assert first.forget_keys(keep=set()) == (made.key_id,)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    with pytest.raises(ContactKeyError, match=made.key_id):
        second.open(EMAIL, "c-1", made.key_id, made.sealed)
    assert second.lookup(EMAIL, "A@Example.com") != ""
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


class KilledError(RuntimeError):
    """The rotation dies here."""


def test_a_rotation_that_was_interrupted_goes_on_and_changes_no_contact_point(
    sqlite_engine: Engine,
) -> None:
    fill(sqlite_engine, 10)
    before = recipients(sqlite_engine, 10)
    with sqlite_engine.connect() as conn:
        vault = vault_of(conn)
        old = vault.current_key
    new = vault.add_key()

    def die(share: float) -> None:
        if share >= 0.4:
            raise KilledError

    with pytest.raises(KilledError):
        reseal(sqlite_engine, die, rows_a_transaction=2)
    assert recipients(sqlite_engine, 10) == before
    with sqlite_engine.begin() as conn:
        assert keys_in_use(conn) == {old, new}
        assert vault.forget_keys(keys_in_use(conn)) == ()
    assert reseal(sqlite_engine, rows_a_transaction=4) == 6
    assert reseal(sqlite_engine) == 0
    with sqlite_engine.begin() as conn:
        assert vault.forget_keys(keys_in_use(conn)) == (old,)
        assert find_customer_id(conn, EMAIL, "person7@example.com") == "c-7", "the lookup key stays"
    assert recipients(sqlite_engine, 10) == before


def test_keys_of_another_installation_are_refused(engine: Engine) -> None:
    with engine.connect() as conn:
        check_keys(conn)
    fill(engine, 1)
    other = engine.execution_options(contact_vault=ContactVault(text=make_keys()))
    with engine.connect() as conn:
        check_keys(conn)
    with other.connect() as conn, pytest.raises(ContactKeyError, match="not those of this database"):
        check_keys(conn)


@pytest.mark.parametrize(
    "keys", ["no json", "{}", json.dumps({"lookup": "AA==", "current": "a", "sealing": {}})]
)
def test_keys_that_are_none_are_refused_without_being_shown(keys: str) -> None:
    with pytest.raises(InvalidInputError, match=r"NEXTCHANNEL_CONTACT_KEYS == '\(secret\)'"):
        ContactVault(text=keys)


def test_a_region_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="phone_region == 'Taiwan'"):
        ContactVault(region="Taiwan")


@pytest.fixture(params=["sqlite", "postgresql"])
def old_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A database of the first release, with contact points in the clear."""
    vault = ContactVault(text=_KEYS)
    if request.param == "sqlite":
        opened = connect(f"sqlite:///{tmp_path / 'history.db'}", vault)
    else:
        url = make_url(request.getfixturevalue("postgres_url"))
        name = f"{url.database}_{uuid4().hex[:6]}"
        admin = create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as conn:
            conn.execute(text(f"CREATE DATABASE {name}"))
        opened = connect(url.set(database=name).render_as_string(hide_password=False), vault)
    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parents[2] / "features" / "history" / "migrations")
    )
    moment = "1" if request.param == "sqlite" else "now()"
    with opened.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        for number, value in enumerate(("ada@gmail.com", "A.da+shop@Gmail.com", "bob@example.com")):
            conn.execute(
                text(f"INSERT INTO customers VALUES ('c-{number}', 'UTC', {moment}, '{{}}')")  # noqa: S608
            )
            conn.execute(
                text(
                    "INSERT INTO identities (customer_id, kind, value, linked_at, source) "  # noqa: S608
                    f"VALUES ('c-{number}', 'email', '{value}', {moment}, 't')"
                )
            )
    yield opened
    opened.dispose()
    if request.param == "postgresql":
        with admin.connect() as conn:
            conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def test_migrating_seals_what_was_in_the_clear_and_lists_what_is_the_same(
    old_engine: Engine, tmp_path: Path
) -> None:
    migrate(old_engine)
    with old_engine.connect() as conn:
        assert find_customer_id(conn, EMAIL, "bob@example.com") == "c-2"
        assert find_customer_id(conn, EMAIL, "ada@googlemail.com") == "c-0"
        assert conn.scalar(select(func.count()).select_from(identities)) == 2
        (conflict,) = conn.execute(select(identity_conflicts)).all()
        assert (conflict.customer_id, conflict.holder_id) == ("c-1", "c-0")
        assert conflict.reason == "same_when_normalised"
        opened = load_recipients(conn, ["c-2"], datetime.now(UTC))
        assert opened["c-2", EMAIL]() == "bob@example.com"
    for path in tmp_path.iterdir():
        assert b"bob@example.com" not in path.read_bytes(), path.name
