"""Reads the reports that mail servers send back: bounces (RFC 3464) and complaints (RFC 5965).

Which message a report speaks of stands, surest first, in the address that it came to (`bounces+<message id>@...`, the
return path that the message left with), in its `Original-Envelope-Id` (RFC 3461), or in the Message-ID of the message
that it brings back. Message ids cannot be guessed, so only somebody who saw a message can report on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message as Mail
from email.policy import compat32
from email.utils import parsedate_to_datetime
from uuid import UUID

from models.domain.interaction import InteractionKind
from serving.channels.contract import DeliveryEvent

PROVIDER = "email"
_RETURN_TOKEN = re.compile(r"\+([0-9a-f]{32})@", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_ARRIVED_AT = ("Delivered-To", "X-Original-To", "Envelope-To", "To")
_LONGEST_DETAIL = 256


def return_path(base: str, message_id: str) -> str:
    """The envelope sender of a message: `bounces@news.example` becomes `bounces+<32 digits>@news.example`."""
    local, _, domain = base.rpartition("@")
    return f"{local}+{UUID(message_id).hex}@{domain}"


def parse_report(content: bytes, received_at: datetime) -> list[DeliveryEvent]:
    """What a mail reports about one of our messages; nothing where it is no report, or of no message of ours.

    A final failure of the address itself (status 5.1.x, or 5.2.1: the mailbox is disabled) is `bounced`: nothing more
    goes there. Any other final failure, such as a full mailbox or a policy, is `failed`. Delays report nothing.

    Args:
        content: The mail, whole.
        received_at: When it happened where the mail has no readable date, aware.
    """
    mail = message_from_bytes(content, policy=compat32)
    if mail.get_content_type() != "multipart/report":
        return []
    message_id = _message_id(mail)
    if message_id is None:
        return []
    kind = str(mail.get_param("report-type") or "").lower()
    found = _complaints(mail) if kind == "feedback-report" else _deliveries(mail)
    at = min(_date(mail, received_at), received_at)  # nobody reports from the future
    return [
        DeliveryEvent(
            provider=PROVIDER,
            event_id=f"{message_id}/{words}"[:128],
            message_id=message_id,
            kind=what,
            occurred_at=at,
            detail=detail[:_LONGEST_DETAIL],
        )
        for what, words, detail in dict.fromkeys(found)
    ]


def _deliveries(mail: Mail) -> Iterator[tuple[InteractionKind, str, str]]:
    """One for each recipient that the report has a final word on."""
    for fields in _blocks(mail, "message/delivery-status"):
        action = str(fields.get("Action", "")).strip().lower()
        status = _STATUS.search(str(fields.get("Status", "")))
        code = "" if status is None else status[0]
        detail = " ".join(f"{code} {fields.get('Diagnostic-Code', '')}".split())
        if action == "failed":
            dead = code.startswith("5.1.") or code == "5.2.1"
            yield (InteractionKind.BOUNCED if dead else InteractionKind.FAILED), f"failed/{code}", detail
        elif action == "delivered":
            yield InteractionKind.DELIVERED, "delivered", detail


def _complaints(mail: Mail) -> Iterator[tuple[InteractionKind, str, str]]:
    for fields in _blocks(mail, "message/feedback-report"):
        if str(fields.get("Feedback-Type", "")).strip().lower() in ("abuse", "fraud", "opt-out"):
            yield InteractionKind.COMPLAINED, "complained", str(fields.get("User-Agent", ""))


def _blocks(mail: Mail, content_type: str) -> Iterator[Mail]:
    """The groups of fields in the parts of that type; the parser makes a small message of each."""
    for part in mail.walk():
        if part.get_content_type() != content_type:
            continue
        payload = part.get_payload()
        if isinstance(payload, list):
            yield from (block for block in payload if isinstance(block, Mail))
        else:
            yield message_from_bytes(str(payload).encode("utf-8", "replace"), policy=compat32)


def _message_id(mail: Mail) -> str | None:
    for name in _ARRIVED_AT:
        for value in mail.get_all(name, []):
            if token := _RETURN_TOKEN.search(str(value)):
                return str(UUID(token[1]))
    for fields in _blocks(mail, "message/delivery-status"):
        if known := _UUID.search(str(fields.get("Original-Envelope-Id", ""))):
            return known[0].lower()
    for part in mail.walk():
        if part.get_content_type() in ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers"):
            for line in part.as_string().splitlines():
                if line.lower().startswith("message-id:") and (known := _UUID.search(line)):
                    return known[0].lower()
    return None


def _date(mail: Mail, otherwise: datetime) -> datetime:
    try:
        at = parsedate_to_datetime(str(mail["Date"]))
    except (TypeError, ValueError, IndexError):
        return otherwise
    return at if at.tzinfo else at.replace(tzinfo=UTC)
