"""Ask the history: customers as of a moment, channels, campaigns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, insert, select, tuple_, update

from features.history.documents import from_document, to_document
from features.history.reached import reached
from features.history.tables import (
    campaigns,
    channels,
    consents,
    customers,
    decisions,
    identities,
    interactions,
)
from models.domain.campaign import Campaign
from models.domain.channel import DEFAULT_CHANNELS, Channel, IdentityKind
from models.domain.customer import ConsentStatus, Customer, PastContact
from models.domain.errors import NotFoundError
from models.domain.interaction import InteractionKind

# Contacts older than this are not loaded: frequency caps look no further back.
CONTACTS_WITHIN = timedelta(days=31)
_MOST_PARAMETERS = 10_000  # SQLite takes 32,766 in one statement, PostgreSQL 65,535


def in_chunks(ids: Sequence[str], size: int = _MOST_PARAMETERS) -> Iterator[Sequence[str]]:
    """The ids in runs that fit into one statement."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def load_customers(conn: Connection, customer_ids: Sequence[str], now: datetime) -> dict[str, Customer]:
    """What eligibility needs to know about people, as of `now`.

    Five queries, however many people (up to 10,000; then five for each 10,000). Who is not known is absent.

    Args:
        conn: Only read.
        customer_ids: Repeats are allowed.
        now: Aware; later facts are ignored.
    """
    found: dict[str, Customer] = {}
    for ids in in_chunks(list(dict.fromkeys(customer_ids))):
        found |= _load_chunk(conn, ids, now)
    return found


def find_customer_id(conn: Connection, kind: IdentityKind, value: str) -> str | None:
    """Whose contact point it is, or None where nobody has it."""
    owner: str | None = conn.scalar(
        select(identities.c.customer_id).where(identities.c.kind == kind, identities.c.value == value)
    )
    return owner


def load_channels(conn: Connection) -> dict[str, Channel]:
    """Every configured channel by name, in order of name."""
    rows = conn.execute(select(channels.c.document).order_by(channels.c.name))
    found = [from_document(Channel, document) for (document,) in rows]
    return {channel.name: channel for channel in found}


def save_channel(conn: Connection, channel: Channel, now: datetime) -> None:
    """Add the channel, or replace the one of its name."""
    values = {"document": to_document(channel), "updated_at": now}
    changed = conn.execute(update(channels).where(channels.c.name == channel.name).values(values))
    if changed.rowcount == 0:
        conn.execute(insert(channels).values(name=channel.name, **values))


def seed_channels(conn: Connection, now: datetime) -> None:
    """Add those of `DEFAULT_CHANNELS` that are absent."""
    present = set(conn.scalars(select(channels.c.name)))
    for channel in DEFAULT_CHANNELS:
        if channel.name not in present:
            save_channel(conn, channel, now)


def load_campaign(conn: Connection, campaign_id: str, version: int | None = None) -> Campaign:
    """A campaign in one version, by default the latest.

    Raises:
        NotFoundError: there is no such campaign, or no such version of it.
    """
    query = select(campaigns.c.document).where(campaigns.c.campaign_id == campaign_id)
    if version is not None:
        query = query.where(campaigns.c.version == version)
    document = conn.scalar(query.order_by(campaigns.c.version.desc()).limit(1))
    if document is None:
        raise NotFoundError(
            "campaign_id", campaign_id if version is None else f"{campaign_id} (version {version})"
        )
    return from_document(Campaign, document)


def save_campaign(conn: Connection, campaign: Campaign, now: datetime) -> Campaign:
    """Store the campaign as a new version, unless it says what the latest version says.

    Returns:
        The campaign as it is stored; its version is the history's, not the caller's.
    """
    latest = latest_campaigns(conn, [campaign.campaign_id])
    version = latest[0].version if latest else 0
    if latest and replace(campaign, version=version) == latest[0]:
        return latest[0]
    stored = replace(campaign, version=version + 1)
    conn.execute(
        insert(campaigns).values(
            campaign_id=stored.campaign_id,
            version=stored.version,
            document=to_document(stored),
            created_at=now,
        )
    )
    return stored


def list_campaigns(conn: Connection) -> list[Campaign]:
    """The latest version of every campaign, in order of id."""
    return latest_campaigns(conn, None)


def latest_campaigns(conn: Connection, campaign_ids: Sequence[str] | None) -> list[Campaign]:
    """The latest versions of those campaigns that exist (None: of all), in order of id."""
    newest = select(campaigns.c.campaign_id, func.max(campaigns.c.version)).group_by(campaigns.c.campaign_id)
    if campaign_ids is not None:
        newest = newest.where(campaigns.c.campaign_id.in_(campaign_ids))
    rows = conn.execute(
        select(campaigns.c.document)
        .where(tuple_(campaigns.c.campaign_id, campaigns.c.version).in_(newest))
        .order_by(campaigns.c.campaign_id)
    )
    return [from_document(Campaign, document) for (document,) in rows]


def _load_chunk(conn: Connection, ids: Sequence[str], now: datetime) -> dict[str, Customer]:
    zones = conn.execute(
        select(customers.c.customer_id, customers.c.time_zone).where(customers.c.customer_id.in_(ids))
    ).all()
    accounts: defaultdict[str, dict[IdentityKind, str]] = defaultdict(dict)
    # Of several contact points of a kind the one that was linked last holds; likewise for consents.
    for owner, kind, value in conn.execute(
        select(identities.c.customer_id, identities.c.kind, identities.c.value)
        .where(identities.c.customer_id.in_(ids), identities.c.linked_at <= now)
        .order_by(identities.c.linked_at, identities.c.identity_id)
    ):
        accounts[owner][IdentityKind(kind)] = value
    permissions: defaultdict[str, dict[tuple[str, str], ConsentStatus]] = defaultdict(dict)
    for owner, channel, purpose, status in conn.execute(
        select(consents.c.customer_id, consents.c.channel, consents.c.purpose, consents.c.status)
        .where(consents.c.customer_id.in_(ids), consents.c.since <= now)
        .order_by(consents.c.since, consents.c.consent_id)
    ):
        permissions[owner][channel, purpose] = ConsentStatus(status)
    contacts: defaultdict[str, list[PastContact]] = defaultdict(list)
    for owner, channel, campaign_id, contacted_at in conn.execute(
        select(
            decisions.c.customer_id, decisions.c.channel, decisions.c.campaign_id, decisions.c.send_at
        ).where(
            decisions.c.customer_id.in_(ids),
            decisions.c.channel.is_not(None),
            decisions.c.decided_at <= now,
            decisions.c.send_at > now - CONTACTS_WITHIN,
            reached(),
        )
    ):
        contacts[owner].append(
            PastContact(channel=channel, campaign_id=campaign_id, contacted_at=contacted_at)
        )
    replies: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for owner, channel, replied_at in conn.execute(
        select(interactions.c.customer_id, interactions.c.channel, func.max(interactions.c.occurred_at))
        .where(
            interactions.c.customer_id.in_(ids),
            interactions.c.kind == InteractionKind.REPLIED,
            interactions.c.channel.is_not(None),
            interactions.c.occurred_at <= now,
            interactions.c.occurred_at > now - CONTACTS_WITHIN,
        )
        .group_by(interactions.c.customer_id, interactions.c.channel)
    ):
        replies[owner][channel] = replied_at
    return {
        owner: Customer(
            customer_id=owner,
            time_zone=time_zone,
            identities=accounts.get(owner, {}),
            consents=permissions.get(owner, {}),
            contacts=tuple(contacts.get(owner, ())),
            replied_at=replies.get(owner, {}),
        )
        for owner, time_zone in zones
    }
