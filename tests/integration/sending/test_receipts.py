"""Receipts: written once, forward only, whatever the order; what they close and what they prove."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random

from sqlalchemy import func, select

from features.history.append import append_identities
from features.history.query import load_customers, load_recipients
from features.history.tables import outbox, receipts
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus, Identity
from models.domain.interaction import InteractionKind
from models.domain.message import Receipt, ReceiptStatus
from serving.channels.contract import DeliveryEvent
from serving.receipts import Recorded, adopt, record_events
from serving.store.endings import sent, unknown
from serving.store.outbox import claim, settle

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def event(kind: str, *, of: str = "p-0", event_id: str | None = None, minutes: int = 1) -> DeliveryEvent:
    return DeliveryEvent(
        provider="twilio",
        event_id=event_id or f"{of}/{kind}",
        provider_message_id=of,
        kind=InteractionKind(kind),
        occurred_at=NOON + timedelta(minutes=minutes),
        detail=f"it was {kind}",
    )


def take(shop, *events: DeliveryEvent) -> Recorded:
    with shop.engine.begin() as conn:
        return record_events(conn, events, NOON + timedelta(minutes=5))


def send(shop, n: int = 1, first: int = 0) -> list[str]:
    """Messages that the provider took, as `p-<n>`."""
    messages = shop.add_messages(n, first=first)
    with shop.engine.begin() as conn:
        for claimed in claim(conn, NOON, 60, n):
            number = claimed.customer_id.removeprefix("c")
            receipt = Receipt(
                status=ReceiptStatus.ACCEPTED, provider="twilio", provider_message_id=f"p-{number}"
            )
            settle(conn, [sent(claimed, NOON, receipt)])
    return messages


def reported(shop) -> list[tuple[str, str]]:
    return sorted(
        (fact["kind"], fact["decision_id"]) for fact in shop.facts() if fact["source"].startswith("receipt:")
    )


def test_a_receipt_is_a_fact_of_its_decision_and_moves_the_message_forward(shop):
    (message,) = send(shop)
    assert take(shop, event("delivered")) == Recorded(n_new=1, n_repeated=0, n_unmatched=0)
    assert shop.row(message)["receipt"] == "delivered"
    (fact,) = shop.facts("delivered")
    assert (fact["source"], fact["event_id"], fact["decision_id"]) == (
        "receipt:twilio",
        "p-0/delivered",
        "d0",
    )
    assert (fact["channel"], fact["offer_id"], fact["occurred_at"]) == (
        "email",
        "tulips",
        NOON + timedelta(minutes=1),
    )


def test_receipts_in_any_order_end_in_the_same_state(shop):
    orders = list(permutations(["sent", "delivered", "opened", "clicked"]))
    messages = send(shop, len(orders))
    for number, order in enumerate(orders):
        for kind in order:
            take(shop, event(kind, of=f"p-{number}"))
    assert {shop.row(message)["receipt"] for message in messages} == {"clicked"}


def test_receipts_five_times_and_shuffled_are_written_once(shop):
    messages = send(shop, 20)
    events = [event(kind, of=f"p-{n}") for n in range(20) for kind in ("delivered", "opened", "clicked")] * 5
    Random(3).shuffle(events)
    told = [take(shop, *events[start : start + 30]) for start in range(0, len(events), 30)]
    assert sum(each.n_new for each in told) == 60
    assert sum(each.n_repeated for each in told) == 240
    assert len(reported(shop)) == 60
    assert {shop.row(message)["receipt"] for message in messages} == {"clicked"}


def test_a_bounce_after_an_open_does_not_undo_it(shop):
    (message,) = send(shop)
    take(shop, event("opened"))
    take(shop, event("bounced"))
    assert shop.row(message)["receipt"] == "opened"


def test_a_complaint_withdraws_consent(shop):
    send(shop)
    take(shop, event("complained"))
    with shop.engine.begin() as conn:
        person = load_customers(conn, ["c0"], NOON + timedelta(hours=1))["c0"]
    assert person.consents["email", "marketing"] is ConsentStatus.COMPLAINED


def test_a_bounce_closes_the_address_until_another_one_is_given(shop):
    send(shop, 2)
    take(shop, event("bounced"))
    with shop.engine.begin() as conn:
        people = load_customers(conn, ["c0", "c1"], NOON + timedelta(hours=1))
        recipients = load_recipients(conn, ["c0", "c1"], NOON + timedelta(hours=1))
    assert ("c0", IdentityKind.EMAIL) not in recipients
    assert IdentityKind.EMAIL not in people["c0"].identities
    assert recipients["c1", IdentityKind.EMAIL]() == "c1@example.com"
    new = Identity(
        customer_id="c0",
        kind=IdentityKind.EMAIL,
        value="new@example.com",
        linked_at=NOON + timedelta(minutes=30),
        source="t",
    )
    with shop.engine.begin() as conn:
        append_identities(conn, [new])
        recipients = load_recipients(conn, ["c0"], NOON + timedelta(hours=1))
    assert recipients["c0", IdentityKind.EMAIL]() == "new@example.com"


def test_a_receipt_that_comes_before_the_providers_id_is_written_waits_for_it(shop):
    (message,) = shop.add_messages(1)
    with shop.engine.begin() as conn:
        (claimed,) = claim(conn, NOON, 60, 1)
    assert take(shop, event("delivered")) == Recorded(n_new=1, n_repeated=0, n_unmatched=1)
    assert reported(shop) == []
    receipt = Receipt(status=ReceiptStatus.ACCEPTED, provider="twilio", provider_message_id="p-0")
    with shop.engine.begin() as conn:
        settle(conn, [sent(claimed, NOON, receipt)])
        assert [adopt(conn, NOON + timedelta(minutes=6)) for _ in range(2)] == [1, 0]
    assert shop.row(message)["receipt"] == "delivered"
    assert reported(shop) == [("delivered", "d0")]


def test_a_receipt_proves_that_a_message_of_unknown_outcome_was_sent(shop):
    (message,) = shop.add_messages(1)
    with shop.engine.begin() as conn:
        (claimed,) = claim(conn, NOON, 60, 1)
        settle(conn, [unknown(claimed, NOON, "no answer")])
    take(shop, event("delivered", of=message))
    row = shop.row(message)
    assert (row["status"], row["provider"], row["receipt"]) == ("sent", "twilio", "delivered")
    assert [fact["event_id"] for fact in shop.facts("sent")] == [message]


def test_long_and_strange_event_ids_are_told_apart(shop):
    send(shop)
    long = "e" * 400
    told = take(
        shop,
        event("delivered", event_id=long + "1"),
        event("delivered", event_id=long + "2"),
        event("delivered", event_id="a\0b"),
    )
    assert told.n_new == 3
    assert take(shop, event("delivered", event_id=long + "1")).n_repeated == 1


def test_a_thousand_receipts_of_unknown_messages_touch_no_message(shop):
    send(shop)
    told = take(shop, *(event("opened", of=f"x-{n}") for n in range(1_000)))
    assert told == Recorded(n_new=1_000, n_repeated=0, n_unmatched=1_000)
    assert reported(shop) == []
    with shop.engine.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(receipts)) == 1_000
        assert conn.scalars(select(outbox.c.receipt)).all() == [None]


def about_a_person(kind: str, identity: str, *, up_to: datetime | None = None) -> DeliveryEvent:
    return DeliveryEvent(
        provider="messenger",
        event_id=f"{identity}/{kind}",
        kind=InteractionKind(kind),
        occurred_at=NOON + timedelta(minutes=3),
        identity=identity,
        up_to=up_to,
        attributes={"text": "yes please"},
    )


def test_a_reply_without_a_message_answers_the_last_one_to_that_contact_point(shop):
    (message,) = send(shop)
    with shop.engine.begin() as conn:
        record_events(conn, [about_a_person("replied", "c0@example.com")], NOON, "email")
    assert shop.row(message)["receipt"] == "replied"
    (fact,) = shop.facts("replied")
    assert (fact["decision_id"], fact["attributes"]) == ("d0", {"text": "yes please"})


def test_a_watermark_covers_every_message_sent_until_then(shop):
    early = send(shop, 1)
    with shop.engine.begin() as conn:
        told = record_events(
            conn,
            [about_a_person("opened", "c0@example.com", up_to=NOON + timedelta(seconds=1))],
            NOON,
            "email",
        )
        before = record_events(
            conn,
            [about_a_person("delivered", "c0@example.com", up_to=NOON - timedelta(seconds=1))],
            NOON,
            "email",
        )
    assert (told.n_unmatched, before.n_new) == (0, 1)
    assert [shop.row(message)["receipt"] for message in early] == ["opened"]
    assert shop.facts("delivered") == []


def test_what_a_person_does_without_a_message_is_their_fact(shop):
    send(shop)
    with shop.engine.begin() as conn:
        told = record_events(
            conn,
            [about_a_person("unsubscribed", "c0@example.com"), about_a_person("followed", "who@example.com")],
            NOON,
            "email",
        )
        person = load_customers(conn, ["c0"], NOON + timedelta(hours=1))["c0"]
    assert (told.n_new, told.n_unmatched) == (2, 1)
    assert person.consents["email", "marketing"] is ConsentStatus.UNSUBSCRIBED
    assert shop.facts("followed") == []
