"""A message that a sender holds, and how its claim can end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.domain.channel import ContentKind
from models.domain.message import Receipt
from serving.followups.conversation import SettledMessage


class OutboxStatus(StrEnum):
    """Where a message stands."""

    HELD = "held"
    PENDING = "pending"
    CLAIMED = "claimed"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedMessage:
    """A message that the claimant alone may send until the lease expires.

    Attributes:
        attempts: Attempts to send, this one included.
        fencing_token: Of this claim; grows with every claim.
        lease_until: From then on anybody may claim it.
        abandoned: Whether an earlier claimant let its lease expire: it may have sent the message.
        batch_id: Key of the call in which it goes out with others; None where it goes alone.
        was_in_batch: Whether it was in that batch before this claim: perhaps the provider has taken it.
    """

    message_id: str
    decision_id: str
    customer_id: str
    campaign_id: str
    offer_id: str
    channel: str
    content_kind: ContentKind
    send_at: datetime
    expires_at: datetime
    attempts: int
    fencing_token: int
    lease_until: datetime | None
    abandoned: bool
    batch_id: str | None = None
    was_in_batch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a claim ended; made by `sent`, `failed`, `suppressed`, `unknown` and `later`.

    Attributes:
        at: When it ended, aware UTC.
        detail: The provider's words, or our reason.
        receipt: Where the provider took it.
        due_at: Where it is to be tried again.
        attempted: Whether anything was tried; otherwise no attempt is counted.
        in_doubt: Whether perhaps the provider has taken it: of a batch the same messages are tried again, under
            the same key.
    """

    claimed: ClaimedMessage
    status: OutboxStatus
    at: datetime
    detail: str
    receipt: Receipt | None = None
    due_at: datetime | None = None
    attempted: bool = True
    in_doubt: bool = False


def sent(claimed: ClaimedMessage, at: datetime, receipt: Receipt) -> Ending:
    """The provider took it."""
    return Ending(claimed=claimed, status=OutboxStatus.SENT, at=at, detail=receipt.detail, receipt=receipt)


def failed(claimed: ClaimedMessage, at: datetime, detail: str) -> Ending:
    """It will never be taken: a dead letter."""
    return Ending(claimed=claimed, status=OutboxStatus.FAILED, at=at, detail=detail)


def suppressed(claimed: ClaimedMessage, at: datetime, reason: str) -> Ending:
    """It must not be sent any more; nothing was tried."""
    return Ending(claimed=claimed, status=OutboxStatus.SUPPRESSED, at=at, detail=reason, attempted=False)


def unknown(claimed: ClaimedMessage, at: datetime, detail: str) -> Ending:
    """Perhaps it was sent; it is not tried again."""
    return Ending(claimed=claimed, status=OutboxStatus.UNKNOWN, at=at, detail=detail)


def later(
    claimed: ClaimedMessage,
    at: datetime,
    due_at: datetime,
    detail: str,
    *,
    attempted: bool = True,
    in_doubt: bool | None = None,
) -> Ending:
    """Not sent; due again at `due_at`."""
    return Ending(
        claimed=claimed,
        status=OutboxStatus.PENDING,
        at=at,
        detail=detail,
        due_at=due_at,
        attempted=attempted,
        in_doubt=claimed.was_in_batch if in_doubt is None else in_doubt,
    )


def settled_message(ending: Ending) -> SettledMessage:
    """The same as conversations see it."""
    claimed = ending.claimed
    return SettledMessage(
        decision_id=claimed.decision_id,
        customer_id=claimed.customer_id,
        channel=claimed.channel,
        sent=ending.status is OutboxStatus.SENT,
        at=ending.at,
    )
