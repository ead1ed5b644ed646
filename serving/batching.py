"""Which of the claimed messages go out in one call: those that say the same to everybody, where the provider takes many.

A batch is written down with the claim, before it is sent. Whoever sends it again - the answer was lost, or the sender
was killed - sends the same messages under the same key, so that the provider takes them once. Some may be missing then,
because they must not go out any more; none is added.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from uuid import UUID, uuid5

from sqlalchemy import Connection

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.content import targets
from serving.send_check import SendFacts
from serving.store.endings import ClaimedMessage
from serving.store.outbox import join_batch

_BATCHES = UUID("0f6a2a52-0d0e-5c6b-8c8e-3c1d7a1f9b44")


def in_batches(
    conn: Connection, claims: Sequence[ClaimedMessage], facts: SendFacts, sizes: Mapping[str, int]
) -> list[ClaimedMessage]:
    """The same claims, in batches as far as several of them say the same.

    Only first attempts are put together: a message that was refused in a batch is tried alone, so that one which the
    provider does not like holds up no other.

    Args:
        conn: In the transaction of the claim.
        claims: Just taken.
        facts: What is known of them.
        sizes: Most messages of a call by channel; 1 where each goes alone.
    """
    alike: dict[Hashable, list[ClaimedMessage]] = {}
    placed: list[ClaimedMessage] = []
    for each in claims:
        what = _what_it_says(each, facts) if sizes.get(each.channel, 1) > 1 else None
        if what is None:
            placed.append(each)
        else:
            alike.setdefault(what, []).append(each)
    for group in alike.values():
        size = sizes[group[0].channel]
        for start in range(0, len(group), size):
            batch = group[start : start + size]
            placed += join_batch(conn, batch, _key(batch)) if len(batch) > 1 else batch
    return placed


def _what_it_says(claimed: ClaimedMessage, facts: SendFacts) -> Hashable | None:
    """What all messages with the same value say; None where it differs from person to person, or none may join."""
    campaign = facts.decided.get(claimed.decision_id)
    if claimed.attempts > 1 or claimed.abandoned or claimed.batch_id is not None or campaign is None:
        return None
    contents = [
        offer.content.get(claimed.content_kind)
        for offer in campaign.offers
        if offer.offer_id == claimed.offer_id
    ]
    if not contents or contents[0] is None or not _says_the_same_to_all(claimed.content_kind, contents[0]):
        return None
    return claimed.channel, campaign.campaign_id, campaign.version, claimed.offer_id, claimed.content_kind


def _says_the_same_to_all(kind: ContentKind, content: Content) -> bool:
    """Whether it has no tracked link, no personal words and one language."""
    words = f"{content.subject}{content.body}"
    return not targets(kind, content) and not content.locales and "{{" not in words and "{%" not in words


def _key(batch: Sequence[ClaimedMessage]) -> str:
    return str(uuid5(_BATCHES, "/".join(sorted(each.message_id for each in batch))))
