"""A service with LINE and WhatsApp whose chats are tested."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import select

from features.history.append import append_identities
from features.history.tables import chat_lines, chats
from models.domain.channel import IdentityKind
from models.domain.customer import Identity
from serving.app import create_app
from serving.channels.contract import AdapterContext, ChannelAdapter
from serving.channels.line import LineAdapter
from serving.channels.testing import ExampleLinks, SignedEvents
from serving.channels.whatsapp import WhatsAppAdapter
from serving.chat.document import Answers, from_document
from serving.chat.sender import ChatSender
from serving.chat.store import save_answers
from serving.dispatch_settings import ChatSettings
from tests.integration.channels import providers

RETURNS = {
    "keywords": ["Returns", "返品"],
    "content": {"body": "Dear {{ first_name }}, thirty days."},
    "labels": {"ja": "返品"},
}
ORDERS = {
    "keywords": ["Orders"],
    "content": {"body": "About orders:"},
    "groups": [RETURNS, {"keywords": ["Status"], "link_url": "https://shop.example/orders"}],
}
HOURS = {
    "keywords": ["Opening hours", "hours"],
    "content": {"body": "Nine to six.", "locales": {"ja": {"body": "9時から18時です。"}}},
}
SMILE = {"keywords": ["Thanks"], "kind": "sticker", "content": {"body": "446/1988"}}
TREE = {"groups": [HOURS, ORDERS], "fields": {"first_name": "customer"}}
OFFICE = {
    "time_zone": "Asia/Taipei",
    "hours": {
        day: [{"opens": "09:00", "closes": "18:00"}]
        for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    },
}


@dataclass
class Desk:
    """A service whose webhook is posted to, and a sender that is worked round by round."""

    client: TestClient
    shop: Any
    market: Any
    line: providers.Line = field(default_factory=providers.Line)
    meta: providers.Meta = field(default_factory=providers.Meta)
    adapters: dict[str, ChannelAdapter] = field(default_factory=dict)
    n_said: int = 0

    def answers(self, channel: str = "line", **document: object) -> Answers:
        answers = from_document(document or TREE)
        with self.shop.engine.begin() as conn:
            save_answers(conn, channel, answers, self.market.now)
        return answers

    def person(self, customer_id: str = "c0", value: str = "U1", kind=IdentityKind.LINE) -> None:
        linked = Identity(
            customer_id=customer_id,
            kind=kind,
            value=value,
            linked_at=self.market.now - timedelta(days=9),
            source="t",
        )
        with self.shop.engine.begin() as conn:
            append_identities(conn, [linked])

    def event(self, text: str, person: str = "U1", token: str | None = None, **more: Any) -> dict[str, Any]:
        self.n_said += 1
        return providers.line_event("message", person, 0) | {
            "webhookEventId": f"event-{self.n_said}",
            "timestamp": int(self.market.now.timestamp() * 1_000) + self.n_said,
            "message": {"type": "text", "text": text},
            "replyToken": token or f"token-{self.n_said}",
            **more,
        }

    def post(self, signed: SignedEvents, channel: str = "line") -> int:
        headers = {name: value for name, value in signed.headers.items() if not name.startswith(":")}
        return self.client.post(f"/v1/receipts/{channel}", content=signed.body, headers=headers).status_code

    def hears(self, text: str, person: str = "U1", **more: Any) -> None:
        assert self.post(self.line.hook(self.event(text, person, **more))) == 200

    def sends(self, settings: ChatSettings | None = None) -> int:
        """Rounds until there is nothing to send now."""

        async def work() -> int:
            n_lines = 0
            sender = ChatSender(self.shop.engine, self.adapters, settings or ChatSettings(), Random(0))
            while n := await sender.run_once(self.market.now):
                n_lines += n
            return n_lines

        return asyncio.run(work())

    def said(self) -> list[tuple[str, dict[str, Any]]]:
        """What reached LINE: the way, and the first message object."""
        found = []
        for request in self.line.seen:
            document = json.loads(request.content)
            found.append((request.url.path.rpartition("/")[2], document["messages"][0]))
        return found

    def texts(self) -> list[str]:
        return [message.get("text", message["type"]) for _, message in self.said()]

    def lines(self, *names: str) -> list[tuple[Any, ...]]:
        with self.shop.engine.connect() as conn:
            columns = [chat_lines.c[name] for name in names]
            return [tuple(row) for row in conn.execute(select(*columns).order_by(chat_lines.c.line_no))]

    def chat_id(self) -> str:
        with self.shop.engine.connect() as conn:
            return str(conn.scalars(select(chats.c.chat_id)).one())


@contextmanager
def opened_desk(market: Any, shop: Any) -> Iterator[Desk]:
    """A customer, LINE and WhatsApp, at noon on a Monday."""
    market.now = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)  # a Monday, noon in Taipei
    shop.add_messages(1)
    line, meta = providers.Line(), providers.Meta()
    context = AdapterContext(
        links=ExampleLinks(), settings={"channel_access_token": line.token, "channel_secret": line.secret}
    )
    graph = {
        "access_token": meta.token,
        "app_secret": meta.secret,
        "verify_token": meta.verify,
        "phone_number_id": "106",
    }
    adapters: dict[str, ChannelAdapter] = {
        "line": LineAdapter.build(context, line),
        "whatsapp": WhatsAppAdapter.build(AdapterContext(links=ExampleLinks(), settings=graph), meta),
    }
    service = market.service(start=False)
    market.opened.remove(service)
    with TestClient(create_app(replace(service, adapters=adapters))) as client:
        yield Desk(client, shop, market, line, meta, adapters)


def whatsapp(desk: Desk, text: str) -> SignedEvents:
    """A report of what the customer of WhatsApp wrote."""
    desk.n_said += 1
    said = {
        "from": "15550100",
        "id": f"wamid.in.{desk.n_said}",
        "timestamp": str(int(desk.market.now.timestamp())),
        "type": "text",
        "text": {"body": text},
    }
    return desk.meta.hook(1, providers.whatsapp_entry(messages=[said]))
