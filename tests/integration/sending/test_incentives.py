"""What offers give: from the message over the customer's page and the till to the conversion and the report."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html import unescape
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import zxingcpp
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select, update

from features.history.append import CustomerRecord, append_customers
from features.history.campaigns import load_campaign
from features.history.engine import migrate
from features.history.rewards import settle_rewards
from features.history.tables import (
    coupon_codes,
    decisions,
    interactions,
    outbox,
    outcomes,
    points_entries,
    redemptions,
    rewards,
    survey_answers,
    unsettled,
    vouchers,
)
from models.domain.campaign import Content, Offer
from models.domain.channel import ContentKind
from models.domain.interaction import InteractionKind
from serving.app import create_app
from serving.channels.contract import AdapterContext
from serving.channels.email import EmailAdapter
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.incentives.incentive import LONGEST_CODE, LONGEST_IN_BARS, Incentive, Lottery, Prize
from serving.incentives.lottery import commitment, draw
from serving.incentives.pictures import cross_png, tick_png
from serving.tracking import Token, TokenKind
from tests.fresh_database import go_back
from tests.integration.conftest import Market
from tests.integration.sending.conftest import NOON, SIGNING_KEY, Shop

HOW_TO = (Path(__file__).parents[3] / "docs" / "how-to" / "redeem.md").read_text()
CHROMIUM = shutil.which("chromium")
IN_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
ONE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
BODY = '<p>Ten tulips. Code: {{ coupon }}. <a href="{{ redeem_link }}">See it</a></p>'
OFFER = "/v1/campaigns/spring/offers/tulips"
TITLE = {"en": "Ten off", "zh-Hant": "九折", "ja": "1割引"}
COUPON = {"title": TITLE, "coupon": {"codes": "generated"}, "cost_minor": 100.0}
TAIPEI_101 = {"shop_id": "taipei-101", "latitude": 25.0340, "longitude": 121.5645}
NEAR_IT = {"latitude": 25.0360, "longitude": 121.5650}  # 228 m away
AT_THE_STATION = {"latitude": 25.0478, "longitude": 121.5170}  # 5 km away
POINTS = {
    "title": TITLE,
    "points": {"points": 300, "from_seconds": 3_600, "until_seconds": 86_400, "shops": [TAIPEI_101]},
}
SURVEY = {
    "title": TITLE,
    "survey": {
        "questions": [
            {
                "question_id": "colour",
                "kind": "choice",
                "text": {"en": "Which colour?", "ja": "何色ですか"},
                "options": [
                    {"option_id": "red", "text": {"en": "Red", "ja": "赤"}},
                    {"option_id": "white", "text": {"en": "White", "ja": "白"}},
                ],
            },
            {
                "question_id": "rooms",
                "kind": "several",
                "text": {"en": "Which rooms?"},
                "options": [
                    {"option_id": "hall", "text": {"en": "Hall"}},
                    {"option_id": "bath", "text": {"en": "Bath"}},
                ],
            },
            {"question_id": "liking", "kind": "scale", "text": {"en": "How much?"}, "least": 1, "most": 7},
            {"question_id": "words", "kind": "text", "text": {"en": "Why?"}, "required": False},
        ]
    },
}
ANSWERED = {"q.colour": "red", "q.rooms.bath": "1", "q.rooms.hall": "1", "q.liking": "6", "q.words": "smell"}


def lottery(number: int = 2, p_win: float = 0.5) -> dict[str, Any]:
    prize = {
        "prize_id": "vase",
        "title": {"en": "A vase"},
        "number": number,
        "p_win": p_win,
        "cost_minor": 900.0,
    }
    until = (NOON + timedelta(days=5)).isoformat()
    return {"title": TITLE, "lottery": {"prizes": [prize]}, "valid_until": until, "cost_minor": 10.0}


@dataclass
class Till:
    """A shop that sends mail, its customers' browsers, and its till."""

    market: Market
    shop: Shop
    sink: Any
    client: TestClient
    codes: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)

    def gives(self, incentive: dict[str, Any], status: int = 200) -> dict[str, Any]:
        answer = self.client.put(f"{OFFER}/incentive", json={"incentive": incentive})
        assert answer.status_code == status, answer.text
        return answer.json()

    def mails(self, n: int = 1, first: int = 0) -> None:
        """Mail to n customers; codes and pages by decision."""
        self.decides(n, first)
        self.dispatch()

    def decides(self, n: int = 1, first: int = 0) -> list[str]:
        """The messages alone, of decisions by the campaign as it is now."""
        made = self.shop.add_messages(n, first=first, content_kind=ContentKind.HTML, send_at=self.market.now)
        with self.shop.engine.begin() as conn:
            newest = load_campaign(conn, "spring").version
            conn.execute(update(decisions).values(campaign_version=newest))
        return made

    def dispatch(self) -> None:
        settings = {"host": "127.0.0.1", "port": str(self.sink.port), "sender": "offers@shop.example"}
        adapter = EmailAdapter.build(AdapterContext(settings=settings, links=self.shop.links))

        async def work() -> None:
            await Dispatcher(
                self.shop.engine, {"email": adapter}, self.shop.links, DispatchSettings(), Random(0)
            ).run_once(self.market.now)
            await adapter.aclose()

        asyncio.run(work())
        for mail in self.sink.received:
            html = mail.parsed.get_body(("html",)).get_content()
            decision = f"d{re.findall(r'[0-9]+', mail.recipients[0])[0]}"
            self.codes[decision] = re.findall(r"Code: (\S*?)\. ", html)[0]
            self.pages[decision] = unescape(re.findall(r'href="https://news\.example(/r/[^"]+)"', html)[0])

    def redeems(self, status: int = 200, **said: object) -> dict[str, Any]:
        body = {"source": "till", "event_id": "1", **said}
        answer = self.client.post("/v1/redemptions", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def standing(self, code: str, **params: object) -> str:
        answer = self.client.get(f"/v1/redemptions/{code}", params=params)
        assert answer.status_code == 200, answer.text
        assert not any(word in answer.text for word in ("customer", "c0", "d0", "example.com"))
        return answer.json()["standing"]

    def page(self, decision: str = "d0", **params: str) -> str:
        answer = self.client.get(self.pages[decision], params=params)
        assert answer.status_code == 200, answer.text
        return answer.text

    def submits(self, decision: str = "d0", **fields: str) -> httpx.Response:
        return self.client.post(self.pages[decision], data=fields, follow_redirects=True)

    def rows(self, table: Any) -> list[Any]:
        with self.shop.engine.connect() as conn:
            return conn.execute(select(table)).all()

    def settled(self) -> dict[str, tuple[bool, float]]:
        """Whether each decision converted, and the value of its reward."""
        with self.shop.engine.begin() as conn:
            settle_rewards(conn, self.market.now + timedelta(minutes=1))
        return {row.decision_id: (row.converted, row.value_minor) for row in self.rows(rewards)}

    def reported(self) -> dict[str, Any]:
        report = self.client.get("/v1/report", params={"campaign_id": "spring"}).json()
        (one,) = report["incentives"]
        return one

    def tells(self, event_id: str, **said: object) -> None:
        fact = {
            "source": "shop",
            "event_id": event_id,
            "customer_id": "c0",
            "kind": "converted",
            "occurred_at": self.market.now.isoformat(),
            **said,
        }
        answer = self.client.post("/v1/interactions", json={"interactions": [fact]})
        assert answer.status_code == 200, answer.text

    def erases(self, customer_id: str) -> None:
        assert self.client.post(f"/v1/customers/{customer_id}/erase").status_code == 200


@pytest.fixture
def till(market, shop, sink):
    market.now = NOON
    offer = Offer(
        offer_id="tulips",
        margin_minor=500.0,
        content={ContentKind.HTML: Content(subject="Tulips", body=BODY)},
    )
    shop.add_campaign(offers=(offer,))
    service = replace(
        market.service(start=False), tracking_secret=SIGNING_KEY, public_url="https://news.example"
    )
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.clear()
        yield Till(market, shop, sink, client)


def together(n: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(work, range(n)))


@dataclass
class Heard:
    """What a browser asked for, and what it refused to do."""

    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def a_phone(till: Till, **settings: Any) -> Iterator[tuple[Any, Heard]]:
    """A page of a browser that is 360 pixels wide and makes pages dark where they let it."""
    from playwright.sync_api import Route, sync_playwright

    heard = Heard()

    def answer(route: Route) -> None:
        asked = route.request
        heard.asked.append(asked.url)
        got = till.client.request(
            asked.method, asked.url, content=asked.post_data_buffer, headers=asked.headers
        )
        route.fulfill(status=got.status_code, headers=dict(got.headers), body=got.content)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-features=WebContentsForceDark"]
        )
        phone = browser.new_context(
            viewport={"width": 360, "height": 640}, device_scale_factor=2, locale="en", **settings
        )
        phone.route("**/*", answer)
        page = phone.new_page()
        page.on(
            "console",
            lambda line: line.type == "error" and "409" not in line.text and heard.refused.append(line.text),
        )
        yield page, heard
        browser.close()


def scanned(picture: bytes) -> list[zxingcpp.Barcode]:
    """What a scanner reads, which takes dark for dark."""
    image = Image.open(BytesIO(picture)).convert("L")
    return zxingcpp.read_barcodes(image, try_rotate=False, try_downscale=False, try_invert=False)


def test_a_mail_says_the_code_and_the_till_redeems_it_once_as_a_conversion(till):
    till.gives(COUPON)
    till.mails(2)
    code = till.codes["d0"]
    assert re.fullmatch(r"[2-9A-HJ-NP-Z]{4}-[2-9A-HJ-NP-Z]{4}-[2-9A-HJ-NP-Z]{4}", code)
    assert till.codes["d1"] != code
    assert till.standing(code) == "valid"
    till.market.now += timedelta(hours=1)
    typed = code.replace("-", " ").lower()
    first = till.redeems(code=typed, shop_id="main", value_minor=2_500.0, order_id="o-1")
    assert (first["decision_id"], first["kind"], first["cost_minor"], first["repeated"]) == (
        "d0", "coupon", 100.0, False,
    )  # fmt: skip
    assert till.redeems(code=code) == first | {"repeated": True}
    refused = till.redeems(409, code=code, event_id="2")
    assert (refused["type"], refused["errors"][0]["value"]) == ("/problems/not-redeemable", "used")
    assert till.standing(code) == "used"
    (fact,) = [row for row in till.shop.facts() if row["source"] == "redemption"]
    assert (fact["kind"], fact["decision_id"], fact["campaign_id"], fact["offer_id"]) == (
        "converted", "d0", "spring", "tulips",
    )  # fmt: skip
    assert (fact["value_minor"], fact["place"], fact["occurred_at"]) == (2_500.0, "shop", till.market.now)
    assert fact["attributes"] == {"incentive": "coupon", "order_id": "o-1", "price": "discounted"}
    assert till.settled() == {"d0": (True, 2_400.0), "d1": (False, 0.0)}  # less the 100 that it cost
    assert [row.discounted for row in till.rows(rewards) if row.converted] == [True]
    assert {row.decision_id: row.receipt for row in till.rows(outbox)} == {"d0": "converted", "d1": None}
    report = till.reported()
    assert (report["n_given"], report["n_redeemed"], report["share"], report["cost_minor"]) == (
        2,
        1,
        0.5,
        100.0,
    )
    assert (report["margin_minor"], report["expected_cost_minor"]) == (500.0, 100.0)
    assert "What offers gave" in till.client.get("/", params={"campaign": "spring"}).text


def test_a_redemption_without_a_value_is_worth_the_margin(till):
    till.gives(COUPON)
    till.mails()
    till.redeems(decision_id="d0")
    assert till.settled() == {"d0": (True, 500.0)}


def test_an_update_takes_the_cost_off_what_was_settled_before(till):
    till.gives(COUPON)
    till.mails(3)
    till.redeems(code=till.codes["d0"], value_minor=2_500.0)
    till.redeems(decision_id="d1", event_id="2")
    net = till.settled()
    with till.shop.engine.begin() as conn:
        conn.execute(update(rewards).where(rewards.c.decision_id == "d0").values(value_minor=2_500.0))
        go_back(conn, "0023")
    migrate(till.shop.engine)
    assert [row.customer_id for row in till.rows(unsettled)] == ["c0"]
    assert till.settled() == net


@pytest.mark.parametrize("till_first", [True, False])
def test_a_sale_that_two_systems_report_is_counted_once(till, till_first):
    till.gives(COUPON)
    till.mails()
    steps = [
        lambda: till.redeems(code=till.codes["d0"], value_minor=2_500.0, order_id="o-1"),
        lambda: till.tells("s-1", value_minor=2_600.0, attributes={"order_id": "o-1"}),
    ]
    for step in steps if till_first else reversed(steps):
        step()
        till.settled()
        till.market.now += timedelta(minutes=1)
    till.tells("s-2", value_minor=70.0, attributes={"order_id": "o-2"})  # another sale
    assert till.settled() == {"d0": (True, 2_470.0)}
    (kept,) = till.rows(outcomes)
    assert (kept.converted, kept.value_minor) == (True, 2_470.0)


def test_an_erasure_takes_codes_and_answers_from_the_person_and_changes_no_total(till):
    till.gives(COUPON)
    till.mails(2)
    code = till.codes["d0"]
    till.redeems(code=code, value_minor=2_500.0, order_id="order-of-the-leaver")
    till.tells("s-1", value_minor=2_600.0, attributes={"order_id": "order-of-the-leaver"})
    before, reported = till.settled(), till.reported()
    exported = till.client.get("/v1/customers/c0/export").json()
    assert exported["vouchers"][0]["code"] == code
    assert exported["redemptions"][0]["order_id"] == "order-of-the-leaver"
    profile = till.client.get("/v1/customers/c0").json()
    assert [(one["code"], one["decision_id"]) for one in profile["vouchers"]] == [(code, "d0")]
    till.erases("c0")
    assert till.settled() == before
    assert till.reported() == reported
    (kept,) = till.rows(outcomes)[:1] or [None]
    assert sum(row.value_minor for row in till.rows(outcomes)) == 2_400.0
    assert kept is not None
    everything = repr([till.rows(table) for table in (vouchers, redemptions, interactions, points_entries)])
    assert "'c0'" not in everything
    assert "order-of-the-leaver" not in everything
    assert till.client.get(till.pages["d0"]).status_code == 404
    assert till.client.get(f"/v1/redemptions/{code}").status_code == 404
    till.redeems(404, code=code, event_id="9")


def test_every_attempt_to_send_says_the_same_code(till, sink):
    till.gives(COUPON)
    sink.answers = {"c0@example.com": "451 4.3.0 later"}
    till.decides(1)
    till.dispatch()
    (given,) = till.rows(vouchers)
    sink.answers = {}
    till.gives(COUPON | {"cost_minor": 200.0})  # other terms, for whoever comes later
    till.market.now += timedelta(minutes=30)
    till.dispatch()
    assert till.codes == {"d0": given.code}
    assert [(row.code, row.version) for row in till.rows(vouchers)] == [(given.code, 1)]
    assert till.redeems(code=given.code)["cost_minor"] == 100.0


def test_codes_of_a_list_are_given_once_each_and_then_the_fallback(till):
    till.gives(
        {"title": TITLE, "coupon": {"codes": "list", "fallback": "TULIPS5"}, "most_per_customer": None}
    )
    imported = till.client.post(f"{OFFER}/codes", json={"codes": ["A-1", "A-2", "A-2", "A-3"]})
    assert imported.json() == {"n_new": 3, "n_repeated": 1, "n_left": 3}
    assert till.client.post(f"{OFFER}/codes", json={"codes": ["A-1"]}).json()["n_new"] == 0
    till.mails(5)
    assert sorted(till.codes.values()) == ["A-1", "A-2", "A-3", "TULIPS5", "TULIPS5"]
    assert {row.code: row.decision_id for row in till.rows(coupon_codes)} == {
        code: decision for decision, code in till.codes.items() if code != "TULIPS5"
    }
    report = till.reported()
    assert (report["n_codes_left"], report["running_out"]) == (0, True)
    assert "only 0 codes" in till.client.get("/", params={"campaign": "spring"}).text
    (decision,) = [name for name, code in till.codes.items() if code == "A-2"]
    assert till.redeems(code="A-2")["decision_id"] == decision
    assert till.standing("TULIPS5") == "valid"
    assert "decision_id" in till.redeems(409, code="TULIPS5", event_id="2")["detail"]
    (unlucky, other) = [name for name, code in till.codes.items() if code == "TULIPS5"]
    assert till.redeems(code="TULIPS5", decision_id=unlucky, event_id="3")["decision_id"] == unlucky
    till.redeems(422, code="A-1", decision_id=other, event_id="4")


def test_senders_and_callers_at_the_same_time_give_each_code_once(till):
    till.gives({"title": TITLE, "coupon": {"codes": "list", "fallback": "NONE"}})
    till.client.post(f"{OFFER}/codes", json={"codes": [f"L-{n:03}" for n in range(40)]})
    till.decides(32)

    def ask(number: int) -> tuple[str, str]:
        answer = till.client.post(f"/v1/decisions/d{number % 32}/voucher")
        assert answer.status_code == 200, answer.text
        return answer.json()["decision_id"], answer.json()["coupon"]

    answers = together(64, ask)
    assert len(set(answers)) == 32  # twice the same for the same decision
    assert len({code for _, code in answers}) == 32
    assert sum(row.decision_id is not None for row in till.rows(coupon_codes)) == 32
    till.dispatch()
    assert till.codes == dict(answers)


def test_64_redemptions_at_once_come_to_the_limit_exactly(till):
    till.gives(COUPON | {"most": 10})
    till.mails(32)

    def attempt(number: int) -> int:
        body = {"source": "till", "event_id": str(number), "decision_id": f"d{number % 32}"}
        return till.client.post("/v1/redemptions", json=body).status_code

    answers = together(64, attempt)
    assert sorted(answers) == [200] * 10 + [409] * 54
    assert len(till.rows(redemptions)) == 10
    assert len(till.shop.facts("converted")) == 10
    assert till.reported()["n_redeemed"] == 10
    unused = next(code for code in till.codes.values() if till.standing(code) != "used")
    assert till.standing(unused) == "limit_reached"


def test_a_customer_redeems_as_often_as_the_offer_says(till):
    till.gives({"title": TITLE, "coupon": {"codes": "shared", "code": "SPRING10"}})
    till.mails(2)
    with till.shop.engine.begin() as conn:
        conn.execute(vouchers.update().values(customer_id="c0"))
    assert set(till.codes.values()) == {"SPRING10"}
    till.redeems(code="SPRING10", decision_id="d0")
    refused = till.redeems(409, code="SPRING10", decision_id="d1", event_id="2")
    assert refused["errors"][0]["value"] == "limit_reached"


def test_the_same_report_at_the_same_time_redeems_once(till):
    till.gives(COUPON)
    till.mails(2)
    answers = together(16, lambda _: till.redeems(code=till.codes["d0"]))
    assert sum(not one["repeated"] for one in answers) == 1
    assert len(till.rows(redemptions)) == len(till.shop.facts("converted")) == 1
    refused = till.redeems(409, code=till.codes["d1"])  # the event of another one
    assert refused["type"] == "/problems/conflict"


def test_a_coupon_is_redeemed_between_its_moments(till):
    day = timedelta(days=1)
    till.gives(COUPON | {"valid_from": (NOON + day).isoformat(), "valid_until": (NOON + 2 * day).isoformat()})
    till.mails()
    code = till.codes["d0"]
    assert till.standing(code) == "too_early"
    assert till.redeems(409, code=code)["errors"][0]["value"] == "too_early"
    assert "From 2026-03-03 12:00" in till.page()
    till.market.now = NOON + 2 * day
    assert till.standing(code) == "expired"
    # A till that was off line tells later when it was.
    till.redeems(code=code, occurred_at=(NOON + day).isoformat())
    till.redeems(422, code=code, event_id="2", occurred_at=(NOON + 3 * day).isoformat())


def test_the_page_of_a_coupon_shows_the_code_in_the_customers_language_and_redeems_nothing(till):
    till.gives(COUPON)
    till.mails()
    with till.shop.engine.begin() as conn:
        told = CustomerRecord(
            customer_id="c0", time_zone="Asia/Tokyo", created_at=NOON - timedelta(days=10),
            attributes={"locale": "ja-JP"},
        )  # fmt: skip
        append_customers(conn, [told])
    shown = till.page()
    assert "1割引" in shown
    assert 'lang="ja"' in shown
    assert till.codes["d0"] in shown
    assert "<form" not in shown
    assert "九折" in till.page(language="zh-Hant")
    for _ in range(3):
        assert till.client.head(till.pages["d0"]).status_code in (200, 405)
        assert till.submits().status_code == 200
    assert till.rows(redemptions) == []
    assert till.standing(till.codes["d0"]) == "valid"


def test_forged_and_altered_tokens_lead_nowhere(till, links):
    till.gives(COUPON)
    till.mails()
    page = till.pages["d0"]
    token = page.removeprefix("/r/")
    message = till.shop.facts("sent")[0]["event_id"].split("/")[0]
    # Another signature, a changed message, a token of another kind, nonsense.
    others = [
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        ("A" if token[0] != "A" else "B") + token[1:],
        links.unsubscribe(message).rsplit("/", 1)[1],
        "x" * 48,
        "x",
    ]
    for other in others:
        assert till.client.get(f"/r/{other}").status_code == 404
        assert till.client.get(f"/r/{other}/code.png").status_code == 404
        assert till.client.post(f"/r/{other}", data={}).status_code == 404
    nobody = links._signer.sign(Token(TokenKind.REDEEM, "01a2019c-ff02-74e0-82f9-fc1c4292b790"))
    assert till.client.get(f"/r/{nobody}").status_code == 404
    assert till.client.get(f"/u/{token}").status_code == 404
    assert till.rows(redemptions) == []


def test_an_offer_that_speaks_of_a_coupon_and_gives_none_is_not_sent(till):
    (message,) = till.decides(1)
    till.dispatch()
    assert till.sink.received == []
    assert (till.shop.row(message)["status"], till.shop.row(message)["detail"]) == (
        "suppressed",
        "gives_nothing",
    )


def test_a_withdrawn_incentive_is_given_to_nobody_and_stays_good(till):
    till.gives(COUPON)
    till.mails()
    assert till.client.delete(f"{OFFER}/incentive").status_code == 204
    assert till.client.get(f"{OFFER}/incentive").status_code == 404
    assert till.client.delete(f"{OFFER}/incentive").status_code == 404
    till.decides(1, first=1)
    till.dispatch()
    assert list(till.codes) == ["d0"]
    till.redeems(code=till.codes["d0"])
    assert (till.reported()["n_given"], till.reported()["n_redeemed"]) == (1, 1)
    assert till.gives(COUPON)["version"] == 3


def test_points_are_locked_in_time_and_place(till):
    till.gives(POINTS)
    till.mails(3)
    assert till.client.get("/v1/customers/c0").json()["points"] == 300
    assert till.reported()["points_outstanding"] == 900
    assert till.standing(till.codes["d0"], **NEAR_IT) == "too_early"
    assert till.submits("d0", **{name: str(value) for name, value in NEAR_IT.items()}).status_code == 409
    till.market.now += timedelta(hours=1)
    assert till.standing(till.codes["d0"], **AT_THE_STATION) == "too_far"
    assert till.standing(till.codes["d0"]) == "too_far"
    assert till.standing(till.codes["d0"], **NEAR_IT) == "valid"
    assert till.standing(till.codes["d0"], shop_id="taipei-101") == "valid"
    shown = till.page()
    assert "300 points" in shown
    assert "navigator.geolocation" in shown
    far = till.submits("d0", **{name: str(value) for name, value in AT_THE_STATION.items()})
    assert (far.status_code, "too far" in far.text) == (409, True)
    for nonsense in ({}, {"latitude": "north", "longitude": "1"}, {"latitude": "nan", "longitude": "0"}):
        assert till.submits("d0", **nonsense).status_code == 409
    done = till.submits("d0", **{name: str(value) for name, value in NEAR_IT.items()})
    assert (done.status_code, "Redeemed on" in done.text) == (200, True)
    (kept,) = till.rows(redemptions)
    # 228 m, to fifty metres; the position itself is nowhere.
    assert (kept.shop_id, kept.distance_metres) == ("taipei-101", 250)
    assert "25.036" not in repr([till.rows(table) for table in (redemptions, interactions, points_entries)])
    assert till.redeems(code=till.codes["d1"], shop_id="taipei-101")["points"] == 300
    entries = {(row.decision_id, row.reason): row.points for row in till.rows(points_entries)}
    assert entries == {
        ("d0", "given"): 300, ("d1", "given"): 300, ("d2", "given"): 300, ("d0", "redeemed"): -300, ("d1", "redeemed"): -300,
    }  # fmt: skip
    assert till.client.get("/v1/customers/c0").json()["points"] == 0
    assert till.reported()["points_outstanding"] == 300
    till.market.now = NOON + timedelta(days=1)
    assert till.standing(till.codes["d2"], **NEAR_IT) == "expired"
    assert till.client.get("/v1/customers/c2").json()["points"] == 0
    assert till.settled()["d0"] == (True, 500.0)


@IN_CHROMIUM
@ONE_SQLITE
def test_a_phone_redeems_points_in_the_shop_and_nowhere_else(till):
    till.gives(POINTS)
    till.mails()
    till.market.now += timedelta(hours=1)
    with a_phone(till) as (page, heard):
        page.goto(f"https://news.example{till.pages['d0']}")
        for where in (None, AT_THE_STATION, NEAR_IT):
            if where is not None:  # until then the browser is not allowed to tell
                page.context.grant_permissions(["geolocation"])
                page.context.set_geolocation(where)
            assert till.rows(redemptions) == []
            with page.expect_navigation():
                page.click("button")
            assert ("too far" in page.content()) == (where != NEAR_IT)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert "Redeemed on" in page.content()
        assert page.locator("button").count() == 0
        assert page.get_by_role("img").count() == 0  # nothing is left to scan
        assert heard.refused == []
    assert len(till.rows(redemptions)) == 1


@IN_CHROMIUM
@ONE_SQLITE
def test_a_scanner_reads_the_picture_on_a_phone_and_the_till_redeems_what_it_reads(till):
    for_bars, for_qr = "~Wm9_.-x" * 3, "~Wm9_.-x" * 8
    assert (len(for_bars), len(for_qr)) == (LONGEST_IN_BARS, LONGEST_CODE)
    cases = [
        ("QRCode", {"codes": "generated"}, None),
        ("Code128", {"codes": "generated", "picture": "code_128"}, None),
        ("Code128", {"codes": "list", "fallback": "NONE", "picture": "code_128"}, for_bars),
        ("QRCode", {"codes": "list", "fallback": "NONE", "picture": "qr"}, for_qr),
    ]
    for number, (_, coupon, code) in enumerate(cases):
        till.gives({"title": TITLE, "coupon": coupon})
        if code is not None:
            till.client.post(f"{OFFER}/codes", json={"codes": [code]})
        till.mails(first=number)
    with a_phone(till, color_scheme="dark") as (page, heard):
        for number, (form, _, code) in enumerate(cases):
            decision = f"d{number}"
            page.goto(f"https://news.example{till.pages[decision]}")
            (read,) = scanned(page.screenshot())
            assert read.format == getattr(zxingcpp.BarcodeFormat, form)
            assert read.text == till.codes[decision] == (code or till.codes[decision])
            page.emulate_media(forced_colors="active")
            assert [one.text for one in scanned(page.screenshot())] == [read.text]
            page.emulate_media(forced_colors="none")
            drawn = page.get_by_role("img", name=f"Code {read.text}, for a scanner")
            place, letters = drawn.bounding_box(), page.locator("p.code").bounding_box()
            assert 280 <= place["width"] <= 328
            assert place["y"] + place["height"] <= letters["y"]
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            assert till.redeems(code=read.text, event_id=decision)["decision_id"] == decision
            page.reload()
            assert "Redeemed on" in page.content()
            assert drawn.count() == 0
    assert heard.refused == []
    assert {urlsplit(address).path for address in heard.asked} == set(till.pages.values())


def test_a_mail_shows_the_code_as_a_picture_that_tells_when_it_is_used_or_has_expired(till):
    campaign = till.client.get("/v1/campaigns/spring").json()["campaign"]
    html = campaign["offers"][0]["content"]["html"]
    (as_documented,) = re.findall(r"```html\n(.*?)```", HOW_TO, re.DOTALL)
    html["body"] += as_documented
    stored = till.client.put("/v1/campaigns/spring", json={"campaign": campaign | {"channels": ["email"]}})
    assert stored.status_code == 200, stored.text
    till.gives(COUPON | {"valid_until": (NOON + timedelta(days=1)).isoformat()})
    till.mails(2)
    pictures = {}
    for mail in till.sink.received:
        shown = mail.parsed.get_body(("html",)).get_content()
        address, alternative = re.findall(r'<img src="https://news\.example(\S+)" alt="(\S+)">', shown)[0]
        assert mail.parsed.get_body(("plain",)).get_content().count(alternative) == 2  # said, and shown
        answer = till.client.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert "no-store" in answer.headers["cache-control"]
        assert [(one.format, one.text) for one in scanned(answer.content)] == [
            (zxingcpp.BarcodeFormat.QRCode, alternative)
        ]
        pictures[alternative] = address
    assert till.rows(redemptions) == till.shop.facts("opened") == []
    first, second = pictures
    till.redeems(code=first)
    till.market.now += timedelta(days=2)
    used, expired = (till.client.get(pictures[code]).content for code in (first, second))
    assert (used, expired) == (tick_png(), cross_png())
    assert scanned(used) == scanned(expired) == []
    till.erases("c0")
    assert till.client.get(f"{till.pages['d0']}/code.png").status_code == 404


@ONE_SQLITE
@pytest.mark.parametrize(
    "incentive", [SURVEY, lottery(), {"title": TITLE, "coupon": {"codes": "generated", "picture": None}}]
)
def test_where_no_till_scans_there_is_no_picture(till, incentive):
    till.gives(incentive)
    till.mails()
    assert "<svg" not in till.page()
    assert till.client.get(f"{till.pages['d0']}/code.png").status_code == 404


@ONE_SQLITE
def test_bars_that_no_phone_can_show_are_refused_with_their_code(till):
    long = "A" * (LONGEST_IN_BARS + 1)

    def refused(path: str, **body: object) -> str:
        answer = till.client.request("POST" if path == "codes" else "PUT", f"{OFFER}/{path}", json=body)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert str(LONGEST_IN_BARS) in error["bound"]
        return error["field"]

    shared = {"title": TITLE, "coupon": {"codes": "shared", "code": long, "picture": "code_128"}}
    in_bars = {"title": TITLE, "coupon": {"codes": "list", "fallback": "NONE", "picture": "code_128"}}
    assert refused("incentive", incentive=shared) == "incentive.coupon.code"
    till.gives(in_bars)
    assert refused("codes", codes=["A-1", long]) == "codes.1"
    till.gives({"title": TITLE, "coupon": {"codes": "list", "fallback": "NONE"}})
    assert till.client.post(f"{OFFER}/codes", json={"codes": [long]}).json()["n_new"] == 1
    assert refused("incentive", incentive=in_bars) == "incentive.coupon.picture"
    till.mails()  # takes the long one
    till.gives(in_bars)


def test_a_draw_gives_no_more_than_there_is_and_can_be_proved_afterwards(till):
    given = till.gives(lottery(number=5, p_win=0.5))
    assert given["draw"]["secret"] is None
    assert given["expected_cost_minor"] == 10.0 + 0.5 * 900.0
    till.mails(33)
    assert given["draw"]["commitment"] in till.page("d0")

    def attempt(number: int) -> int:
        return till.submits(f"d{number % 32}").status_code

    assert together(64, attempt) == [200] * 64  # twice the same form is one redemption
    won = [row for row in till.rows(redemptions) if row.prize is not None]
    assert len(won) == 5
    assert till.reported()["prizes"] == [{"prize_id": "vase", "number": 5, "n_left": 0}]
    assert till.reported()["cost_minor"] == 32 * 10.0 + 5 * 900.0
    assert len(till.shop.facts("converted")) == 32  # a ticket that loses is redeemed too
    assert "You have won" in till.page(won[0].decision_id)
    lost = next(row for row in till.rows(redemptions) if row.prize is None)
    assert "No prize this time" in till.page(lost.decision_id)
    till.market.now = NOON + timedelta(days=5)
    told = till.client.get(f"{OFFER}/incentive").json()
    secret, prizes = told["draw"]["secret"], Incentive(
        title={"en": "x"}, valid_until=NOON, lottery=Lottery(prizes=(
            Prize(prize_id="vase", title={"en": "A vase"}, number=5, p_win=0.5),
        )),
    ).lottery.prizes  # fmt: skip
    assert commitment(secret) == given["draw"]["commitment"]
    in_time = (NOON + timedelta(days=1)).isoformat()
    late = till.redeems(409, decision_id="d32", occurred_at=in_time)
    assert late["errors"][0]["value"] == "expired"
    drawn = {row.decision_id: row.drawn for row in till.rows(redemptions)}
    assert drawn == {decision: draw(secret, decision, prizes) for decision in drawn}
    assert sum(one is not None for one in drawn.values()) >= 5


def test_a_draw_whose_digest_is_published_is_not_changed(till):
    given = till.gives(lottery())
    assert till.gives(lottery())["version"] == given["version"] == 1
    till.gives(lottery(number=9), status=409)
    till.gives(COUPON, status=409)


def test_an_answered_survey_is_redeemed_and_goes_with_the_person(till):
    till.gives(SURVEY)
    till.mails(3)
    assert "何色ですか" in till.page(language="ja")
    half = till.submits("d0", **{name: value for name, value in ANSWERED.items() if name != "q.liking"})
    assert (half.status_code, "How much?" in half.text, "smell" in half.text) == (422, True, True)
    assert till.rows(redemptions) == till.rows(survey_answers) == []
    done = till.submits("d0", **ANSWERED)
    assert (done.status_code, "Thank you for your answers" in done.text) == (200, True)
    assert till.submits("d0", **ANSWERED | {"q.colour": "white"}).status_code == 200  # the same report again
    said = {"colour": "white", "rooms": ["hall"], "liking": 2}
    till.redeems(422, decision_id="d1", answers=said | {"liking": 8})
    till.redeems(422, decision_id="d1", answers=said | {"size": "big"})
    till.redeems(decision_id="d1", answers=said)
    first = till.client.get(f"{OFFER}/answers", params={"limit": 4}).json()
    assert [(one["decision_id"], one["question_id"], one["answer"]) for one in first["answers"]] == [
        ("d0", "colour", "red"), ("d0", "liking", 6), ("d0", "rooms", ["hall", "bath"]), ("d0", "words", "smell"),
    ]  # fmt: skip
    second = till.client.get(f"{OFFER}/answers", params={"limit": 4, "cursor": first["next_cursor"]}).json()
    assert [one["decision_id"] for one in second["answers"]] == ["d1"] * 3
    assert second["next_cursor"] is None
    assert till.settled()["d0"] == (True, 500.0)
    assert len(till.client.get("/v1/customers/c0/export").json()["survey_answers"]) == 4
    till.erases("c0")
    assert {row.decision_id for row in till.rows(survey_answers)} == {"d1"}
    assert "smell" not in repr(till.rows(survey_answers))
    assert (till.reported()["n_redeemed"], till.reported()["n_given"]) == (2, 3)


@ONE_SQLITE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"coupon": None}, "incentive"),
        ({"points": {"points": 1}}, "incentive"),
        ({"coupon": {"codes": "shared"}}, "incentive.coupon.code"),
        ({"coupon": {"codes": "shared", "code": "TEN OFF"}}, "incentive.coupon.code"),
        ({"coupon": {"codes": "list"}}, "incentive.coupon.fallback"),
        ({"cost_minor": -1}, "incentive.cost_minor"),
        ({"cost_minor": "1e999"}, "incentive.cost_minor"),
        ({"cost_minor": False}, "incentive.cost_minor"),
        ({"valid_from": 0}, "incentive.valid_from"),
        ({"most": 0}, "incentive.most"),
        ({"most": "5"}, "incentive.most"),
        ({"most": True}, "incentive.most"),
        ({"title": {}}, "incentive.title"),
        ({"title": {"fr": "Dix"}}, "incentive.title.fr.[key]"),
        ({"title": {"en": "a\u0000b"}}, "incentive.title.en"),
        ({"valid_from": "2026-05-01T00:00:00"}, "incentive.valid_from"),
        (
            {"valid_from": "2026-05-01T00:00:00Z", "valid_until": "2026-05-01T00:00:00Z"},
            "incentive.valid_until",
        ),
        ({"colour": "red"}, "incentive.colour"),
        ({"coupon": {"codes": "generated", "colour": "red"}}, "incentive.coupon.colour"),
        ({"coupon": {"codes": "generated", "picture": "ean_13"}}, "incentive.coupon.picture"),
    ],
)
def test_a_wrong_incentive_is_refused_by_its_field(till, change, field):
    answer = till.client.put(f"{OFFER}/incentive", json={"incentive": COUPON | change})
    assert answer.status_code == 422, answer.text
    assert field in [error["field"] for error in answer.json()["errors"]]


@ONE_SQLITE
def test_wrong_reports_and_names_are_refused(till):
    assert (
        till.client.put(
            "/v1/campaigns/autumn/offers/tulips/incentive", json={"incentive": COUPON}
        ).status_code
        == 404
    )
    assert (
        till.client.put("/v1/campaigns/spring/offers/roses/incentive", json={"incentive": COUPON}).status_code
        == 404
    )
    assert till.client.post(f"{OFFER}/codes", json={"codes": ["A"]}).status_code == 404
    till.decides(first=8)
    nothing = till.client.post("/v1/decisions/d8/voucher")
    assert (nothing.status_code, nothing.json()["detail"]) == (
        409,
        "the offer tulips of spring gives nothing",
    )
    till.gives(COUPON)
    assert till.client.post(f"{OFFER}/codes", json={"codes": ["A"]}).status_code == 409
    till.mails()
    till.redeems(404, code="2222-2222-2222")
    till.redeems(404, decision_id="d9")
    till.redeems(422)
    till.redeems(422, code="")
    till.redeems(422, code=till.codes["d0"], position={"latitude": 91, "longitude": 0})
    till.redeems(422, code=till.codes["d0"], place="moon")
    till.redeems(422, code=till.codes["d0"], value_minor="12")
    till.redeems(422, code=till.codes["d0"], colour="red")
    assert till.client.get("/v1/redemptions/x", params={"latitude": 1}).status_code == 422
    assert till.client.get("/v1/decisions/d9/voucher").status_code == 404
    assert till.client.post("/v1/decisions/d9/voucher").status_code == 404
    assert till.rows(redemptions) == []


@pytest.mark.parametrize("kind", [InteractionKind.CONVERTED, InteractionKind.PURCHASED])
def test_a_payment_in_chat_is_a_conversion_whichever_kind_the_campaign_counts(till, kind):
    with till.shop.engine.connect() as conn:
        campaign = load_campaign(conn, "spring")
    till.gives(COUPON)
    till.shop.add_campaign(offers=campaign.offers, conversion_kind=kind)
    till.mails()
    paid = {"kind": "purchased", "place": "chat", "value_minor": 1_200.0}
    till.tells("pay-1", **paid)
    till.tells("pay-1", **paid)
    assert till.settled() == {"d0": (True, 1_200.0)}
    assert [row.value_minor for row in till.rows(outcomes)] == [1_200.0]
    till.tells("pay-2", **paid | {"place": "shop"})
    counted = 1_200.0 if kind is InteractionKind.CONVERTED else 2_400.0
    assert till.settled() == {"d0": (True, counted)}


@ONE_SQLITE
def test_the_documents_of_the_how_to_are_taken_and_its_proof_is_ours(till):
    documents = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", HOW_TO, re.DOTALL)]
    kinds = [
        kind
        for one in documents
        for kind in ("coupon", "points", "lottery", "survey")
        if kind in one["incentive"]
    ]
    assert kinds == ["coupon", "coupon", "points", "lottery", "survey"]
    drawn = documents.pop(3)
    for document in [*documents, drawn]:  # nothing comes after a draw
        till.gives(document["incentive"])
    (proof,) = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
    program: dict[str, Any] = {}
    exec(proof, program)  # noqa: S102 - as readers run it
    secret, prizes = "a7" * 32, drawn["incentive"]["lottery"]["prizes"]
    ours = [Prize(**prize) for prize in prizes]
    assert program["commitment"](secret) == commitment(secret)
    tickets = [f"d{n}" for n in range(1_000)]
    assert [program["draw"](secret, one, prizes) for one in tickets] == [
        draw(secret, one, ours) for one in tickets
    ]
