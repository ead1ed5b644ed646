"""Signed tokens in the addresses of a message: who opened, clicked or left, without trusting the address.

A token names a message and, for a click, the number of a link. The target is looked up in the stored content, so
a token cannot lead anywhere that the sender did not write (no open redirect).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, select

from features.history.append import append_interactions
from features.history.campaigns import load_campaign
from features.history.tables import decisions, outbox
from models.domain.channel import ContentKind
from models.domain.errors import NotFoundError, require
from models.domain.interaction import Interaction, InteractionKind
from models.domain.machine_made import MachineRules
from serving.content import targets
from serving.receipts import advance

SOURCE = "tracking"

_LEAST_SECRET_CHARACTERS = 16
_MOST_LINKS = 65_536
# 17 of the 32 bytes: RFC 2104 section 5 asks for half of them at least. Payload and signature together are
# 36 bytes, 48 characters of base64 without padding.
_SIGNATURE_BYTES = 17
_PAYLOAD = struct.Struct(">cH16s")
_TOKEN_CHARACTERS = 48


class TokenKind(StrEnum):
    """What fetching the address means."""

    OPEN = "o"
    CLICK = "c"
    UNSUBSCRIBE = "u"
    REDEEM = "r"


_KINDS = {
    TokenKind.OPEN: InteractionKind.OPENED,
    TokenKind.CLICK: InteractionKind.CLICKED,
    TokenKind.UNSUBSCRIBE: InteractionKind.UNSUBSCRIBED,
}


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    Attributes:
        kind: What fetching the address means.
        message_id: Of the outbox; its row names the decision.
        link: Number of the link, 0 where the kind has none.
    """

    kind: TokenKind
    message_id: str
    link: int = 0


class Signer:
    """Makes and reads tokens: base64(payload + first 17 bytes of HMAC-SHA256(secret, payload))."""

    def __init__(self, secret: str) -> None:
        require(
            len(secret) >= _LEAST_SECRET_CHARACTERS,
            "tracking_secret",
            f"{len(secret)} characters",
            f"must have >= {_LEAST_SECRET_CHARACTERS}",
        )
        self._secret = secret.encode()

    def sign(self, token: Token) -> str:
        """The token as text that fits into an address."""
        require(0 <= token.link < _MOST_LINKS, "link", token.link, f"must be in [0, {_MOST_LINKS - 1}]")
        payload = _PAYLOAD.pack(token.kind.encode(), token.link, UUID(token.message_id).bytes)
        return base64.urlsafe_b64encode(payload + self._signature(payload)).decode()

    def read(self, text: str, kind: TokenKind) -> Token | None:
        """What the token says, or None where it is forged or of another kind."""
        if len(text) != _TOKEN_CHARACTERS:
            return None
        try:
            signed = base64.b64decode(text, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        payload, signature = signed[: _PAYLOAD.size], signed[_PAYLOAD.size :]
        if not hmac.compare_digest(signature, self._signature(payload)):
            return None
        signed_kind, link, message = _PAYLOAD.unpack(payload)
        if signed_kind.decode() != kind:
            return None
        return Token(kind, str(UUID(bytes=message)), link)

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self._secret, payload, "sha256")[:_SIGNATURE_BYTES]


class TrackedLinks:
    """The addresses of one installation; implements `serving.channels.contract.Links`.

    Args:
        public_url: Where customers reach this service, for example `https://news.example.com`.
        signer: Signs the tokens.
    """

    def __init__(self, public_url: str, signer: Signer) -> None:
        require(
            public_url.startswith(("https://", "http://")),
            "public_url",
            public_url,
            "must start with https:// or http://",
        )
        require(
            public_url.isascii() and public_url.isprintable() and " " not in public_url,
            "public_url",
            public_url,
            "must be printable ASCII without spaces: it stands in headers",
        )
        self._base = public_url.rstrip("/")
        self._signer = signer

    def pixel(self, message_id: str) -> str:
        """An invisible picture; fetching it says that the message was opened."""
        return f"{self._base}/t/o/{self._signer.sign(Token(TokenKind.OPEN, message_id))}.gif"

    def click(self, message_id: str, number: int) -> str:
        """A redirect to the message's target of that number."""
        return f"{self._base}/t/c/{self._signer.sign(Token(TokenKind.CLICK, message_id, number))}"

    def unsubscribe(self, message_id: str) -> str:
        """Leaves the channel: POST at once (RFC 8058), GET shows a page that asks."""
        return f"{self._base}/u/{self._signer.sign(Token(TokenKind.UNSUBSCRIBE, message_id))}"

    def redeem(self, message_id: str) -> str:
        """A page that shows what the message's offer gives; only its form redeems."""
        return f"{self._base}/r/{self._signer.sign(Token(TokenKind.REDEEM, message_id))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedMessage:
    """What the outbox and the decision know about a message.

    Attributes:
        sent_at: When the provider took it; None where that is not recorded yet.
    """

    message_id: str
    decision_id: str
    customer_id: str
    campaign_id: str
    campaign_version: int
    offer_id: str
    channel: str
    content_kind: ContentKind
    sent_at: datetime | None


def find_message(conn: Connection, message_id: str) -> TrackedMessage | None:
    """The message of that id, or None where there is none (any more)."""
    row = conn.execute(
        select(outbox, decisions.c.campaign_version)
        .join(decisions, decisions.c.decision_id == outbox.c.decision_id)
        .where(outbox.c.message_id == message_id)
    ).one_or_none()
    if row is None:
        return None
    return TrackedMessage(
        message_id=row.message_id,
        decision_id=row.decision_id,
        customer_id=row.customer_id,
        campaign_id=row.campaign_id,
        campaign_version=row.campaign_version,
        offer_id=row.offer_id,
        channel=row.channel,
        content_kind=ContentKind(row.content_kind),
        sent_at=row.settled_at,
    )


def find_target(conn: Connection, message: TrackedMessage, link: int) -> str | None:
    """Where that link of the message leads, or None where the message has no such link."""
    try:
        campaign = load_campaign(conn, message.campaign_id, message.campaign_version)
    except NotFoundError:
        return None
    for offer in campaign.offers:
        if offer.offer_id == message.offer_id and message.content_kind in offer.content:
            addresses = targets(message.content_kind, offer.content[message.content_kind])
            return addresses[link] if link < len(addresses) else None
    return None


def record_fetch(
    conn: Connection,
    message: TrackedMessage,
    token: Token,
    now: datetime,
    user_agent: str = "",
    rules: MachineRules | None = None,
) -> None:
    """Append what a fetch says; the same fetch again changes nothing.

    A machine-made fetch and a person's have different event ids, so that a proxy which comes first does not
    hide the person who comes later. Leaving is never called machine-made.
    """
    rules = rules or MachineRules()
    rule = rules.by_agent(user_agent) or rules.by_delay(message.sent_at, now)
    if token.kind is TokenKind.UNSUBSCRIBE:
        rule = None
    event_id = f"{token.message_id}/{token.kind}/{token.link}"
    fact = Interaction(
        source=SOURCE,
        event_id=f"{event_id}/machine" if rule else event_id,
        customer_id=message.customer_id,
        kind=_KINDS[token.kind],
        occurred_at=now,
        channel=message.channel,
        campaign_id=message.campaign_id,
        offer_id=message.offer_id,
        decision_id=message.decision_id,
        machine_made=rule is not None,
        machine_rule=rule,
        attributes={"user_agent": _printable(user_agent)} if user_agent else {},
    )
    append_interactions(conn, [fact], now)
    advance(conn, [fact], now)


def _printable(user_agent: str) -> str:
    return "".join(character for character in user_agent[:200] if character.isprintable())
