"""Letters: one CSV file a day for the printer, safe to open in a spreadsheet.

A message is one line, written and synced under a lock, and never written twice, whichever process writes. A cell that a
spreadsheet would take for a formula begins with an apostrophe; line breaks inside a cell become blanks or commas.
"""

from __future__ import annotations

import asyncio
import csv
import fcntl
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.adapter_settings import read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    RetryLaterError,
)

COLUMNS = (
    "message_id",
    "customer_id",
    "campaign_id",
    "offer_id",
    "send_at",
    "address",
    "subject",
    "body",
    "image",
    "link",
)
# https://owasp.org/www-community/attacks/CSV_Injection; the last two are full-width forms that Excel reads alike.
_FORMULA = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")  # noqa: RUF001
_END = b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectMailSettings:
    """Settings of the adapter.

    Attributes:
        folder: Where the files lie, `direct_mail-YYYY-MM-DD.csv` by day of sending; must exist.
    """

    folder: str

    def __post_init__(self) -> None:
        require(Path(self.folder).is_dir(), "direct_mail.folder", self.folder, "must be a folder that exists")


class DirectMailAdapter:
    """Adds to the file of the day."""

    name = "direct_mail"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE}),
        receipts=frozenset(),
        idempotency=Idempotency.KEYED,
    )

    def __init__(self, settings: DirectMailSettings) -> None:
        self._folder = Path(settings.folder)

    @classmethod
    def build(cls, context: AdapterContext, transport: Path | None = None) -> Self:
        """`transport` is another folder."""
        settings = dict(context.settings) | ({"folder": str(transport)} if transport else {})
        return cls(read_settings(DirectMailSettings, cls.name, settings))

    async def send(self, message: Message) -> Receipt:
        """Write one line; see the contract for what it raises."""
        self.capabilities.require(message)
        row = _row(message)
        if not row[COLUMNS.index("address")]:
            raise FinalRefusalError("the recipient has no address")
        path = self._folder / f"direct_mail-{message.send_at:%Y-%m-%d}.csv"
        try:
            written = await asyncio.to_thread(_append, path, row)
        except OSError as exc:
            raise RetryLaterError(f"{path.name} cannot be written: {exc}") from exc
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=message.message_id,
            detail=path.name if written else f"{path.name} holds it already",
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """A printer has no webhook, so whatever claims to come from it is forged."""
        raise ForgedEventsError("direct mail has no webhook")

    async def aclose(self) -> None:
        """Nothing is held."""


def safe_cell(text: str) -> str:
    """The text as one line that no spreadsheet takes for a formula.

    Example:
        >>> safe_cell("=1+1"), safe_cell("Hauptstr. 1")
        ("'=1+1", 'Hauptstr. 1')
    """
    line = " ".join(text.replace("\0", "").splitlines())
    return f"'{line}" if line.lstrip(" ").startswith(_FORMULA) else line


def _row(message: Message) -> tuple[str, ...]:
    content = message.content
    cells = (
        message.message_id,
        message.customer_id,
        message.campaign_id,
        message.offer_id,
        message.send_at.isoformat(),
        ", ".join(line.strip() for line in message.recipient.splitlines() if line.strip()),
        content.subject,
        content.body,
        content.media_url or "",
        content.link_url or "",
    )
    return tuple(safe_cell(cell) for cell in cells)


def _append(path: Path, row: Sequence[str]) -> bool:
    """Add the line unless the file has one of the same message; whether it was added.

    A line that was cut off when a writer died is taken away first.
    """
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = _messages(file)
        if row[0] in known:
            return False
        line = _line(row) if known else _line(COLUMNS) + _line(row)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return True


def _messages(file: BinaryIO) -> set[str]:
    """First cells of the whole lines of the file; what follows the last of them is cut off."""
    file.seek(0)
    content = file.read()
    whole = content[: content.rfind(_END) + len(_END)] if _END in content else b""
    if len(whole) < len(content):
        file.truncate(len(whole))
    return {line.split(b'"', 2)[1].decode() for line in whole.split(_END) if line}


def _line(cells: Sequence[str]) -> bytes:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return written.getvalue().encode()
