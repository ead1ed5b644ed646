"""The outbox: claims, leases, fencing tokens and endings, on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, insert, select

from features.history.tables import outbox, reservations, resource_usage
from models.domain.message import Receipt, ReceiptStatus
from serving.store.endings import ClaimedMessage, OutboxStatus, failed, later, sent, suppressed, unknown
from serving.store.outbox import claim, join_batch, settle
from serving.store.outbox_by_hand import counts, drop, list_messages, retry

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RECEIPT = Receipt(status=ReceiptStatus.ACCEPTED, provider="email", provider_message_id="p-1", detail="250 OK")


def take(shop, now=NOON, limit=100, lease_seconds=60, channels=None) -> list[ClaimedMessage]:
    with shop.engine.begin() as conn:
        return claim(conn, now, lease_seconds, limit, channels)


def end(shop, *endings):
    with shop.engine.begin() as conn:
        return settle(conn, endings)


def test_what_is_due_is_claimed_oldest_first_and_no_more_than_asked(shop):
    (late,) = shop.add_messages(1, first=0, send_at=NOON - timedelta(minutes=1))
    (early,) = shop.add_messages(1, first=1, send_at=NOON - timedelta(hours=1))
    shop.add_messages(1, first=2, send_at=NOON + timedelta(seconds=1))
    assert [each.message_id for each in take(shop, limit=1)] == [early]
    assert [each.message_id for each in take(shop)] == [late]
    assert take(shop) == []


def test_a_claim_keeps_to_the_channels_asked_for(shop):
    shop.add_messages(2, first=0, channel="email")
    (text_message,) = shop.add_messages(1, first=2, channel="sms")
    assert [each.message_id for each in take(shop, channels=["sms"])] == [text_message]
    assert take(shop, channels=["line"]) == []
    assert take(shop, channels=[]) == []


def test_claimants_at_the_same_time_get_different_messages(shop):
    shop.add_messages(200)
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: take(shop, limit=10), range(24)))
    ids = [each.message_id for claimed in taken for each in claimed]
    assert len(ids) == len(set(ids)) == 200


def test_who_is_in_a_batch_is_found_without_looking_through_all_that_waits(shop):
    if shop.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by its statistics")
    shop.add_messages(20)
    with shop.engine.begin() as conn:
        together = join_batch(conn, claim(conn, NOON, 60, 3), "b-1")
    asked = []

    def note(conn, cursor, statement, parameters, context, executemany) -> None:
        asked.append((statement, parameters))

    event.listen(shop.engine, "before_cursor_execute", note)
    again = take(shop, NOON + timedelta(minutes=2), limit=1)
    event.remove(shop.engine, "before_cursor_execute", note)
    assert {each.message_id for each in again} == {each.message_id for each in together}
    with shop.engine.connect() as conn:
        plans = [
            [row.detail for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in asked
            if "UPDATE outbox" in statement
        ]
    assert len(plans) == 2, "those whose time has come, and the rest of their batch"
    assert any("ix_outbox_batch_id" in step for step in plans[1]), plans


def test_sent_is_written_with_its_fact(shop):
    (message,) = shop.add_messages(1)
    (claimed,) = take(shop)
    assert end(shop, sent(claimed, NOON, RECEIPT)) == []
    row = shop.row(message)
    assert (row["status"], row["provider"], row["provider_message_id"]) == ("sent", "email", "p-1")
    assert (row["settled_at"], row["attempts"], row["lease_until"]) == (NOON, 1, None)
    (fact,) = shop.facts()
    assert (fact["source"], fact["event_id"], fact["kind"]) == ("outbox", message, "sent")
    assert (fact["customer_id"], fact["decision_id"], fact["offer_id"]) == ("c0", "d0", "tulips")
    assert (fact["channel"], fact["occurred_at"]) == ("email", NOON)


@pytest.mark.parametrize(
    ("ending", "status", "kind"),
    [
        (lambda claimed: failed(claimed, NOON, "550 no such user"), "failed", "failed"),
        (lambda claimed: suppressed(claimed, NOON, "expired"), "suppressed", "suppressed"),
        (lambda claimed: unknown(claimed, NOON, "no answer"), "unknown", None),
    ],
)
def test_other_endings_are_final_and_tell_the_history_what_is_known(shop, ending, status, kind):
    (message,) = shop.add_messages(1)
    (claimed,) = take(shop)
    assert end(shop, ending(claimed)) == []
    assert shop.row(message)["status"] == status
    assert [fact["kind"] for fact in shop.facts()] == ([kind] if kind else [])
    assert take(shop, now=NOON + timedelta(days=1)) == []


def test_later_is_due_again_and_counts_the_attempt_only_if_there_was_one(shop):
    message, other = shop.add_messages(2)
    first, second = take(shop)
    due_at = NOON + timedelta(minutes=5)
    end(shop, later(first, NOON, due_at, "451"), later(second, NOON, due_at, "quiet_hours", attempted=False))
    assert take(shop, now=due_at - timedelta(seconds=1)) == []
    attempts = {each.message_id: each.attempts for each in take(shop, now=due_at)}
    assert attempts == {first.message_id: 2, second.message_id: 1}
    assert {message, other} == set(attempts)


def test_an_expired_lease_is_claimed_again_and_says_so(shop):
    shop.add_messages(1)
    (first,) = take(shop, lease_seconds=60)
    assert take(shop, now=NOON + timedelta(seconds=59)) == []
    (second,) = take(shop, now=NOON + timedelta(seconds=60))
    assert (first.abandoned, second.abandoned) == (False, True)
    assert second.fencing_token == first.fencing_token + 1
    assert second.attempts == 2


def test_a_stale_fencing_token_is_refused_and_changes_nothing(shop):
    (message,) = shop.add_messages(1)
    (paused,) = take(shop, lease_seconds=60)
    (holder,) = take(shop, now=NOON + timedelta(seconds=61))
    for ending in (sent(paused, NOON, RECEIPT), failed(paused, NOON, "x"), later(paused, NOON, NOON, "x")):
        assert end(shop, ending) == [ending]
    assert shop.row(message)["status"] == "claimed"
    assert shop.facts() == []
    assert end(shop, sent(holder, NOON, RECEIPT)) == []
    again = sent(holder, NOON, RECEIPT)
    assert end(shop, again) == [again]
    assert len(shop.facts("sent")) == 1


def test_a_stale_ending_does_not_stop_the_others_of_its_transaction(shop):
    shop.add_messages(2)
    one, two = take(shop)
    end(shop, sent(one, NOON, RECEIPT))
    stale = sent(one, NOON, RECEIPT)
    assert end(shop, stale, sent(two, NOON, RECEIPT)) == [stale]
    assert len(shop.facts("sent")) == 2


def test_counts_name_every_status(shop):
    shop.add_messages(5)
    one, two, three = take(shop, limit=3)
    end(shop, sent(one, NOON, RECEIPT), failed(two, NOON, "550"))
    assert three.attempts == 1
    with shop.engine.begin() as conn:
        assert counts(conn) == {
            OutboxStatus.PENDING: 2,
            OutboxStatus.CLAIMED: 1,
            OutboxStatus.SENT: 1,
            OutboxStatus.FAILED: 1,
            OutboxStatus.SUPPRESSED: 0,
            OutboxStatus.UNKNOWN: 0,
            OutboxStatus.HELD: 0,
            OutboxStatus.CANCELLED: 0,
        }


def test_any_words_of_a_provider_can_be_stored(shop):
    (message,) = shop.add_messages(1)
    (claimed,) = take(shop)
    words = "550 \0 no \udcff such user " + "x" * 1000
    assert end(shop, failed(claimed, NOON, words)) == []
    assert shop.row(message)["detail"].startswith("550  no ? such user xx")
    assert len(shop.row(message)["detail"]) == 256


@pytest.mark.parametrize(
    ("ending", "left"), [("sent", 3.0), ("suppressed", 2.0), ("failed", 2.0), ("later", 3.0)]
)
def test_what_a_message_that_reaches_nobody_had_reserved_is_given_back_once(shop, ending, left):
    (message,) = shop.add_messages(1)
    with shop.engine.begin() as conn:
        decision = conn.scalars(select(outbox.c.decision_id).where(outbox.c.message_id == message)).one()
        conn.execute(insert(resource_usage).values(resource="budget:spring", used=3.0))
        conn.execute(
            insert(reservations).values(
                decision_id=decision, resource="budget:spring", amount=1.0, reserved_at=NOON
            )
        )
    (claimed,) = take(shop)
    endings = {
        "sent": lambda: sent(claimed, NOON, RECEIPT),
        "suppressed": lambda: suppressed(claimed, NOON, "expired"),
        "failed": lambda: failed(claimed, NOON, "550"),
        "later": lambda: later(claimed, NOON, NOON + timedelta(hours=1), "451"),
    }
    for _ in range(2):  # the second time it is stale
        end(shop, endings[ending]())
    with shop.engine.connect() as conn:
        assert conn.scalars(select(resource_usage.c.used)).one() == left


def budget_used(shop) -> float:
    with shop.engine.connect() as conn:
        return conn.scalars(select(resource_usage.c.used)).one()


def reserve(shop) -> None:
    with shop.engine.begin() as conn:
        conn.execute(insert(resource_usage).values(resource="budget:spring", used=3.0))
        conn.execute(
            insert(reservations).values(
                decision_id="d0", resource="budget:spring", amount=1.0, reserved_at=NOON
            )
        )


def test_a_dead_letter_is_listed_with_its_reason_and_sent_after_all_when_it_is_retried(shop):
    shop.add_messages(2)
    reserve(shop)
    one, two = take(shop)
    end(shop, failed(one, NOON, "550 no such user"), sent(two, NOON, RECEIPT))
    with shop.engine.begin() as conn:
        (row,) = list_messages(conn, [OutboxStatus.FAILED], 10)
        assert (row.message_id, row.detail) == (one.message_id, "550 no such user")
        assert retry(conn, [one.message_id, two.message_id, "nobody"], NOON) == [one.message_id]
    assert budget_used(shop) == 3.0
    (again,) = take(shop)
    assert (again.message_id, again.attempts) == (one.message_id, 1)
    end(shop, sent(again, NOON, RECEIPT))
    assert [fact["kind"] for fact in shop.facts()] == ["sent", "sent"]


def test_what_is_dropped_is_never_sent_and_gives_back_what_it_had_reserved(shop):
    of_d0, *_ = shop.add_messages(3)
    reserve(shop)
    one, two = take(shop, limit=2)
    end(shop, unknown(one, NOON, "no answer"))
    with shop.engine.begin() as conn:
        waiting = [row.message_id for row in list_messages(conn, [OutboxStatus.PENDING], 10)]
        dropped = drop(conn, [one.message_id, two.message_id, *waiting], NOON)
    assert sorted(dropped) == sorted([one.message_id, *waiting])
    assert take(shop, now=NOON + timedelta(seconds=59)) == []
    assert shop.row(one.message_id)["detail"] == "dropped; no answer"
    assert [fact["kind"] for fact in shop.facts()] == ["suppressed", "suppressed"]
    assert budget_used(shop) == (2.0 if of_d0 in dropped else 3.0)
