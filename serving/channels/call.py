"""Calls: a task for a person, who sees the customer's history and the offer, and types in what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from serving.channels.contract import (
    AdapterContext,
    AgentTask,
    AgentTasks,
    Capabilities,
    DeliveryEvent,
    ForgedEventsError,
    Idempotency,
)
from serving.channels.rendering import text_with_link


class CallAdapter:
    """Puts each message into the queue of the page `/calls`."""

    name = "call"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset(
            {
                InteractionKind.DELIVERED,
                InteractionKind.OPENED,
                InteractionKind.REPLIED,
                InteractionKind.CONVERTED,
                InteractionKind.UNSUBSCRIBED,
                InteractionKind.FAILED,
            }
        ),
        idempotency=Idempotency.KEYED,
    )

    def __init__(self, tasks: AgentTasks) -> None:
        self._tasks = tasks

    @classmethod
    def build(cls, context: AdapterContext, transport: AgentTasks | None = None) -> Self:
        """`transport` is another queue."""
        for name in context.settings:
            require(False, f"call.{name}", context.settings[name], "must not be set: there are no settings")
        tasks = transport or context.tasks
        require(tasks is not None, "call", "", "needs a queue of tasks")
        assert tasks is not None
        return cls(tasks)

    async def send(self, message: Message) -> Receipt:
        """Put the task into the queue; see the contract for what it raises."""
        self.capabilities.require(message)
        task = AgentTask(
            task_id=message.message_id,
            decision_id=message.decision_id,
            customer_id=message.customer_id,
            campaign_id=message.campaign_id,
            offer_id=message.offer_id,
            channel=message.channel,
            subject=" ".join(message.content.subject.split()),
            body=text_with_link(message.content),
            due_at=message.send_at,
            expires_at=message.expires_at,
        )
        new = await asyncio.to_thread(self._tasks.add, task)
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=message.message_id,
            detail="in the queue" if new else "in the queue already",
        )

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """Outcomes are typed in on the page, so whatever comes by webhook is forged."""
        raise ForgedEventsError("calls have no webhook")

    async def aclose(self) -> None:
        """Nothing is held."""
