"""A message on its way, and what the provider says of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind

# Namespace of message keys; fixed for ever, or a restart would send messages twice.
_MESSAGE_NAMESPACE = UUID("6f1c3f0e-6f43-5d0b-9c39-3c6f6d1f2a10")


def message_id(decision_id: str, step: int, channel: str) -> str:
    """The key of a message, fixed before its first attempt: UUIDv5 of (decision, step, channel)."""
    return str(uuid5(_MESSAGE_NAMESPACE, f"{decision_id}/{step}/{channel}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What an adapter is asked to send; it holds all that the adapter needs.

    Attributes:
        message_id: Idempotency key.
        recipient: Contact point, of kind `identity_kind`.
        send_at: Not before.
        expires_at: Not after.
    """

    message_id: str
    decision_id: str
    customer_id: str
    campaign_id: str
    offer_id: str
    channel: str
    identity_kind: IdentityKind
    recipient: str
    content_kind: ContentKind
    content: Content
    send_at: datetime
    expires_at: datetime


class ReceiptStatus(StrEnum):
    """How an attempt to send ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a provider says happened to a message.

    Attributes:
        provider: Name of the adapter.
        provider_message_id: The provider's own id; empty where it gives none.
        detail: The provider's words, for people.
        n_units: How many units it charges for: segments of an SMS, else one.
    """

    status: ReceiptStatus
    provider: str
    provider_message_id: str = ""
    detail: str = ""
    n_units: int = 1
