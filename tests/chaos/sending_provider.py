"""A provider on loopback that outlives its senders, and the adapter that speaks to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Any, Self

from models.domain.channel import ContentKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    Idempotency,
    RetryLaterError,
    UnknownOutcomeError,
)


class Provider:
    """Takes one line of JSON a connection and says what it did with it.

    Args:
        keyed: Whether a key that was seen before is taken once.
        answer_seconds: How long it takes to answer; the message is taken before.

    Attributes:
        taken: How many times each key was taken.
    """

    def __init__(self, keyed: bool, answer_seconds: float = 0.0) -> None:
        self.keyed = keyed
        self.taken: Counter[str] = Counter()
        self.port = 0
        self._answer_seconds = answer_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024), self._loop
        ).result(10)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                key = json.loads(line)["key"]
                if not (self.keyed and key in self.taken):
                    self.taken[key] += 1
                await asyncio.sleep(self._answer_seconds)
                writer.write(b'{"taken": true}\n')
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the sender was killed in the middle
        finally:
            writer.close()


class ProviderAdapter:
    """Hands messages to a `Provider`."""

    name = "provider"

    def __init__(self, port: int, keyed: bool) -> None:
        self._port = port
        self.capabilities = Capabilities(
            content_kinds=frozenset(ContentKind),
            receipts=frozenset(),
            idempotency=Idempotency.KEYED if keyed else Idempotency.NONE,
        )

    @classmethod
    def build(cls, context: AdapterContext, transport: Any = None) -> Self:
        raise NotImplementedError("the programs make it themselves")

    async def send(self, message: Message) -> Receipt:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as exc:
            raise RetryLaterError(str(exc)) from exc
        try:
            writer.write(json.dumps({"key": message.message_id}).encode() + b"\n")
            await writer.drain()
            if not await reader.readline():
                raise UnknownOutcomeError("the provider hung up")
        except OSError as exc:
            raise UnknownOutcomeError(str(exc)) from exc
        finally:
            writer.close()
        return Receipt(
            status=ReceiptStatus.ACCEPTED, provider=self.name, provider_message_id=message.message_id
        )

    def parse_events(self, body: bytes, headers: Any) -> list[Any]:  # noqa: ARG002
        return []

    async def aclose(self) -> None:
        pass
