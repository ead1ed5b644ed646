"""Instagram direct messages: as Messenger, with shorter texts and reads that name their message.

https://developers.facebook.com/docs/messenger-platform/instagram/features/send-message
"""

from __future__ import annotations

from models.domain.channel import ContentKind
from models.domain.interaction import InteractionKind
from serving.channels.contract import Capabilities, Idempotency, Limit
from serving.channels.messenger import MessengerAdapter


class InstagramAdapter(MessengerAdapter):
    """Speaks for one professional Instagram account."""

    name = "instagram"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.IMAGE, ContentKind.TEMPLATE}),
        receipts=frozenset(
            {
                InteractionKind.OPENED,
                InteractionKind.REPLIED,
                InteractionKind.CLICKED,
                InteractionKind.UNSUBSCRIBED,
            }
        ),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=1_000,
                unit="bytes",
                source="https://developers.facebook.com/docs/messenger-platform/instagram/features/send-message",
                kind=ContentKind.TEXT,
            ),
        ),
    )
