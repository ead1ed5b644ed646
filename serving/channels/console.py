"""Writes each message as one line of JSON: for trying things out and for channels not connected yet."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Self, TextIO

from models.domain.channel import ContentKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
)

_log = logging.getLogger(__name__)


class ConsoleAdapter:
    """One line a message, to the log or to a stream; nobody is reached.

    The log is kept, so it is told no recipient and no content.
    """

    name = "console"
    capabilities = Capabilities(
        content_kinds=frozenset(ContentKind), receipts=frozenset(), idempotency=Idempotency.NONE
    )

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @classmethod
    def build(cls, context: AdapterContext, transport: TextIO | None = None) -> Self:  # noqa: ARG003
        """`transport` is the stream to write to; without one the lines go to the log."""
        return cls(transport)

    async def send(self, message: Message) -> Receipt:
        """Write the line; JSON keeps it one line whatever the content holds."""
        if message.content_kind not in self.capabilities.content_kinds:
            raise FinalRefusalError(f"content kind {message.content_kind} is not carried by {self.name}")
        if self._stream is None:
            _log.info("%s message %s would be sent", message.channel, message.message_id)
            return self._accepted(message)
        line = json.dumps(
            {
                "channel": message.channel,
                "message_id": message.message_id,
                "recipient": message.recipient,
                "subject": message.content.subject,
                "body": message.content.body,
                "link": message.content.link_url,
            },
            ensure_ascii=False,
        )
        self._stream.write(line + "\n")
        self._stream.flush()
        return self._accepted(message)

    def _accepted(self, message: Message) -> Receipt:
        return Receipt(
            status=ReceiptStatus.ACCEPTED, provider=self.name, provider_message_id=message.message_id
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """A console reports nothing, so whatever claims to come from it is forged."""
        raise ForgedEventsError("the console adapter has no webhook")

    async def aclose(self) -> None:
        """Nothing is held."""
