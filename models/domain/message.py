"""A message on its way, and what the provider says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha1
from uuid import UUID

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind

# Namespace of message keys; fixed for ever, or a restart would send messages twice.
_MESSAGE_NAMESPACE = UUID("6f1c3f0e-6f43-5d0b-9c39-3c6f6d1f2a10").bytes
_BEGINS_AS_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-")


def message_id(decision_id: str, step: int, channel: str) -> str:
    """The key of a message, fixed before its first attempt: UUIDv8 of (decision, step, channel).

    It begins as the decision's own id, whose first 48 bits are the time: keys that are written together then lie
    together in an index. The other bits are of the SHA-1 digest of all three (RFC 9562, section 5.8).
    """
    name = f"{decision_id}/{step}/{channel}".encode()
    digest = sha1(_MESSAGE_NAMESPACE + name, usedforsecurity=False).hexdigest()
    begins = _BEGINS_AS_UUID.match(decision_id)
    time = begins.group() if begins else f"{digest[:8]}-{digest[8:12]}-"
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{time}8{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


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
