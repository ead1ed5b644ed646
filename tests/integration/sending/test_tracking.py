"""Open pixel, click redirect and unsubscribe, by HTTP against a real history."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from features.history.append import append_consents
from features.history.query import load_customers
from models.domain.campaign import Content, Offer
from models.domain.channel import ContentKind
from models.domain.customer import Consent, ConsentStatus
from models.domain.message import Receipt, ReceiptStatus
from serving.routes.tracking import tracking_router
from serving.store.endings import sent
from serving.store.outbox import claim, settle
from serving.tracking import Signer, Token, TokenKind, TrackedLinks

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SIGNING_KEY = "a secret for tests only"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
APPLE_PROXY = "Mozilla/5.0"


@dataclass
class Inbox:
    """A customer who holds one message, and a browser."""

    shop: object
    message: str
    client: TestClient
    now: datetime

    def get(self, address: str, agent: str = FIREFOX):
        return self.client.get(_path(address), headers={"user-agent": agent}, follow_redirects=False)

    def post(self, address: str):
        return self.client.post(
            _path(address), data={"List-Unsubscribe": "One-Click"}, headers={"user-agent": FIREFOX}
        )

    def consent(self):
        with self.shop.engine.begin() as conn:
            person = load_customers(conn, ["c0"], self.now + timedelta(seconds=1))["c0"]
        return person.consents["email", "marketing"]


def _path(address: str) -> str:
    return address.removeprefix("https://news.example")


@pytest.fixture(params=[ContentKind.TEXT, ContentKind.HTML])
def inbox(shop, request):
    (message,) = shop.add_messages(1, content_kind=request.param)
    with shop.engine.begin() as conn:
        (claimed,) = claim(conn, NOON, 60, 1)
        settle(conn, [sent(claimed, NOON, Receipt(status=ReceiptStatus.ACCEPTED, provider="email"))])
    inbox = Inbox(shop, message, None, NOON + timedelta(minutes=5))
    app = FastAPI()
    app.include_router(tracking_router(shop.engine, SIGNING_KEY, lambda: inbox.now))
    with TestClient(app, base_url="https://news.example") as client:
        inbox.client = client
        yield inbox


def test_fetching_the_pixel_is_one_open_however_often(inbox, links):
    for _ in range(3):
        answer = inbox.get(links.pixel(inbox.message))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
        assert answer.content.startswith(b"GIF89a")
        assert "no-store" in answer.headers["cache-control"]
    (fact,) = inbox.shop.facts("opened")
    assert (fact["customer_id"], fact["decision_id"], fact["channel"]) == ("c0", "d0", "email")
    assert (fact["campaign_id"], fact["offer_id"]) == ("spring", "tulips")
    assert (fact["machine_made"], fact["occurred_at"]) == (False, inbox.now)


def test_a_prefetch_is_flagged_with_its_rule_and_does_not_hide_the_person(inbox, links):
    inbox.get(links.pixel(inbox.message), agent=APPLE_PROXY)
    inbox.get(links.pixel(inbox.message), agent=FIREFOX)
    machine, person = inbox.shop.facts("opened")
    assert (machine["machine_made"], machine["machine_rule"]) == (True, "prefetch_agent")
    assert (person["machine_made"], person["machine_rule"]) == (False, None)


def test_an_open_within_two_seconds_of_sending_is_a_machine(inbox, links):
    inbox.now = NOON + timedelta(seconds=1.9)
    inbox.get(links.pixel(inbox.message))
    inbox.now = NOON + timedelta(seconds=2)
    inbox.get(links.pixel(inbox.message))
    rules = [fact["machine_rule"] for fact in inbox.shop.facts("opened")]
    assert rules == ["too_soon", None]


def test_a_click_leads_to_the_stored_target_and_is_recorded(inbox, links):
    answer = inbox.get(links.click(inbox.message, 0))
    assert answer.status_code == 302
    assert answer.headers["location"] in {
        "https://shop.example/tulips?utm=a&b=1",
        "https://shop.example/tulips?a=1&b=2",
    }
    (fact,) = inbox.shop.facts("clicked")
    assert (fact["decision_id"], fact["machine_made"]) == ("d0", False)


def test_a_click_leads_where_the_message_said_even_after_the_campaign_was_changed(inbox, links):
    before = inbox.get(links.click(inbox.message, 0)).headers["location"]
    kinds = {
        kind: Content(body="Other words", link_url="https://evil.example/") for kind in (ContentKind.TEXT,)
    }
    assert (
        inbox.shop.add_campaign(offers=(Offer(offer_id="tulips", margin_minor=1.0, content=kinds),)).version
        == 2
    )
    assert inbox.get(links.click(inbox.message, 0)).headers["location"] == before


def test_a_link_that_the_message_does_not_have_is_not_found(inbox, links):
    assert inbox.get(links.click(inbox.message, 7)).status_code == 404
    assert inbox.shop.facts("clicked") == []


def test_get_asks_and_only_post_unsubscribes(inbox, links):
    address = links.unsubscribe(inbox.message)
    page = inbox.get(address)
    assert page.status_code == 200
    assert re.search(r'<form method="post">.*<button', page.text)
    assert inbox.shop.facts("unsubscribed") == []
    assert inbox.consent() is ConsentStatus.GRANTED
    assert inbox.post(address).status_code == 200
    (fact,) = inbox.shop.facts("unsubscribed")
    assert (fact["decision_id"], fact["machine_made"]) == ("d0", False)
    assert inbox.consent() is ConsentStatus.UNSUBSCRIBED


def test_who_comes_back_can_leave_again_by_an_old_message(inbox, links):
    address = links.unsubscribe(inbox.message)
    inbox.post(address)
    inbox.now += timedelta(days=1)
    with inbox.shop.engine.begin() as conn:
        append_consents(
            conn,
            [
                Consent(
                    customer_id="c0",
                    channel="email",
                    purpose="marketing",
                    status=ConsentStatus.GRANTED,
                    since=inbox.now,
                    source="t",
                )
            ],
        )
    assert inbox.consent() is ConsentStatus.GRANTED
    inbox.now += timedelta(days=1)
    inbox.post(address)
    assert inbox.consent() is ConsentStatus.UNSUBSCRIBED


@pytest.mark.parametrize("text_kind", ["changed", "cut", "long", "other secret", "other kind", "rubbish"])
def test_a_forged_token_is_not_found_and_leaves_no_trace(inbox, links, text_kind):
    genuine = Signer(SIGNING_KEY).sign(Token(TokenKind.OPEN, inbox.message))
    stranger = TrackedLinks("https://news.example", Signer("another secret entirely"))
    forged = {
        "changed": ("A" if genuine[10] != "A" else "B").join([genuine[:10], genuine[11:]]),
        "cut": genuine[:-1],
        "long": genuine + "AAAA",
        "other secret": stranger.pixel(inbox.message).rpartition("/")[2].removesuffix(".gif"),
        "other kind": Signer(SIGNING_KEY).sign(Token(TokenKind.UNSUBSCRIBE, inbox.message)),
        "rubbish": "%F0%9F%8C%B7" * 4,
    }[text_kind]
    before = len(inbox.shop.facts())
    assert inbox.get(f"/t/o/{forged}.gif").status_code == 404
    assert inbox.get(f"/t/c/{forged}").status_code == 404
    if text_kind != "other kind":
        assert inbox.get(f"/u/{forged}").status_code == 404
        assert inbox.post(f"/u/{forged}").status_code == 404
    assert len(inbox.shop.facts()) == before
    assert inbox.consent() is ConsentStatus.GRANTED


def test_a_genuine_token_of_an_erased_message_is_not_found(inbox, links):
    assert inbox.get(links.pixel(str(uuid4()))).status_code == 404
    with inbox.shop.engine.begin() as conn:
        conn.execute(text("DELETE FROM outbox"))
    assert inbox.get(links.click(inbox.message, 0)).status_code == 404
    assert inbox.shop.facts("clicked") == []
