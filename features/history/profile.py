"""What is known about one person, for the call centre and for other systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from features.history.given import VoucherShown, load_vouchers, points_balance
from features.history.members import members_of, person_of
from features.history.sources import SourceShown, load_sources
from features.history.tables import (
    consents,
    customers,
    decisions,
    identities,
    interactions,
    occurrences,
    outbox,
    rewards,
)
from features.identity.normalise import mask
from features.identity.vault import vault_of
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus
from models.domain.interaction import InteractionKind
from models.domain.party import Party

LAST_OFFERS = 5
_NO_PARTIES: Mapping[str, Party] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPointShown:
    """An identity of a person.

    Attributes:
        contact_point: Masked, or in the clear where the reader may see it.
    """

    kind: IdentityKind
    contact_point: str
    linked_at: datetime
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentShown:
    """What the person said last about a channel and purpose, up to some moment."""

    channel: str
    purpose: str
    status: ConsentStatus
    since: datetime
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferShown:
    """A decision and what came of it.

    Attributes:
        offer: None with `channel`: no contact.
        occasion: Name of the one that asked for it; None where none did.
        status: Of its message: pending, claimed, sent, failed, suppressed or unknown; None without a message.
        outcomes: What the person and the provider did, in order, each kind once.
        converted: None while nobody can tell.
        value_minor: Reward so far, minor units.
    """

    decision_id: str
    decided_at: datetime
    campaign_id: str
    offer: str | None
    channel: str | None
    send_at: datetime | None
    status: str | None
    outcomes: tuple[InteractionKind, ...]
    converted: bool | None
    value_minor: float | None
    occasion: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The person said no."""

    kind: str
    at: datetime
    channel: str | None
    campaign_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One person, beside their features.

    Attributes:
        merged_ids: Other ids that are this person.
        anonymous: Whether only devices are known of them.
        last_offers: The latest decisions, newest first.
        refusals: What they refused, newest first.
        sources: Which systems told about them, and whose data it is.
        points: That they were given, have not redeemed, and that have not lapsed.
        vouchers: What offers gave them, newest first.
    """

    customer_id: str
    merged_ids: tuple[str, ...]
    anonymous: bool
    time_zone: str
    created_at: datetime
    attributes: Mapping[str, float | str]
    identities: tuple[ContactPointShown, ...]
    consents: tuple[ConsentShown, ...]
    last_offers: tuple[OfferShown, ...]
    refusals: tuple[Refusal, ...]
    sources: tuple[SourceShown, ...]
    points: int
    vouchers: tuple[VoucherShown, ...]


def load_profile(
    conn: Connection,
    customer_id: str,
    now: datetime,
    *,
    in_the_clear: bool,
    parties: Mapping[str, Party] = _NO_PARTIES,
) -> Profile:
    """A person as of now, by any of their ids.

    Args:
        conn: Only read.
        customer_id: Any of the person's ids.
        now: Aware.
        in_the_clear: Whether contact points are shown whole.
        parties: Whose data a source gives, by source, where it is not our own.

    Raises:
        NotFoundError: there is no such customer.
    """
    person = person_of(conn, customer_id)
    row = conn.execute(select(customers).where(customers.c.customer_id == person)).one()
    return Profile(
        customer_id=person,
        merged_ids=members_of(conn, person)[1:],
        anonymous=row.anonymous,
        time_zone=row.time_zone,
        created_at=row.created_at,
        attributes=row.attributes,
        identities=tuple(_contact_points(conn, person, in_the_clear=in_the_clear)),
        consents=tuple(load_consents(conn, person, now)),
        last_offers=tuple(_last_offers(conn, person)),
        refusals=tuple(_refusals(conn, person, now)),
        sources=tuple(load_sources(conn, person, parties)),
        points=points_balance(conn, person, now),
        vouchers=tuple(load_vouchers(conn, person)),
    )


def load_consents(conn: Connection, customer_id: str, as_of: datetime) -> list[ConsentShown]:
    """What held at a moment: the latest statement for each channel and purpose, in order of both.

    Args:
        conn: Only read.
        customer_id: Any of the person's ids.
        as_of: Aware; later statements are ignored.

    Raises:
        NotFoundError: there is no such customer.
    """
    rows = conn.execute(
        select(consents)
        .where(consents.c.customer_id == person_of(conn, customer_id), consents.c.since <= as_of)
        .order_by(consents.c.since, consents.c.consent_id)
    )
    held = {(row.channel, row.purpose): row for row in rows}
    return [
        ConsentShown(
            channel=row.channel,
            purpose=row.purpose,
            status=ConsentStatus(row.status),
            since=row.since,
            source=row.source,
        )
        for _, row in sorted(held.items())
    ]


def _contact_points(conn: Connection, person: str, *, in_the_clear: bool) -> list[ContactPointShown]:
    vault = vault_of(conn)
    rows = conn.execute(
        select(identities)
        .where(identities.c.customer_id == person)
        .order_by(identities.c.linked_at, identities.c.identity_id)
    )
    shown = []
    for row in rows:
        kind = IdentityKind(row.kind)
        value = vault.open(kind, row.recorded_as or row.customer_id, row.key_id, row.sealed)
        shown.append(
            ContactPointShown(
                kind=kind,
                contact_point=value if in_the_clear else mask(kind, value),
                linked_at=row.linked_at,
                source=row.source,
            )
        )
    return shown


def _last_offers(conn: Connection, person: str) -> list[OfferShown]:
    made = conn.execute(
        select(
            decisions,
            outbox.c.status,
            rewards.c.converted,
            rewards.c.value_minor,
            occurrences.c.name.label("occasion"),
        )
        .outerjoin_from(decisions, outbox, outbox.c.decision_id == decisions.c.decision_id)
        .outerjoin(rewards, rewards.c.decision_id == decisions.c.decision_id)
        .outerjoin(occurrences, occurrences.c.decision_id == decisions.c.decision_id)
        .where(decisions.c.customer_id == person)
        .order_by(decisions.c.decided_at.desc(), decisions.c.decision_id.desc())
        .limit(LAST_OFFERS)
    ).all()
    outcomes = _outcomes(conn, [row.decision_id for row in made])
    return [
        OfferShown(
            decision_id=row.decision_id,
            decided_at=row.decided_at,
            campaign_id=row.campaign_id,
            offer=row.offer_id,
            channel=row.channel,
            send_at=row.send_at,
            status=row.status,
            outcomes=outcomes.get(row.decision_id, ()),
            converted=row.converted,
            value_minor=row.value_minor,
            occasion=row.occasion,
        )
        for row in made
    ]


def _outcomes(conn: Connection, decision_ids: Sequence[str]) -> dict[str, tuple[InteractionKind, ...]]:
    rows = conn.execute(
        select(interactions.c.decision_id, interactions.c.kind)
        .where(interactions.c.decision_id.in_(decision_ids), ~interactions.c.machine_made)
        .order_by(interactions.c.occurred_at, interactions.c.interaction_id)
    )
    found: dict[str, dict[InteractionKind, None]] = {}
    for decision_id, kind in rows:
        found.setdefault(decision_id, {})[InteractionKind(kind)] = None
    return {decision_id: tuple(kinds) for decision_id, kinds in found.items()}


def _refusals(conn: Connection, person: str, now: datetime) -> list[Refusal]:
    said = [InteractionKind.UNSUBSCRIBED, InteractionKind.COMPLAINED, InteractionKind.UNFOLLOWED]
    rows = conn.execute(
        select(interactions)
        .where(interactions.c.customer_id == person, interactions.c.kind.in_(said))
        .order_by(interactions.c.occurred_at.desc(), interactions.c.interaction_id.desc())
    )
    refused = [
        Refusal(kind=row.kind, at=row.occurred_at, channel=row.channel, campaign_id=row.campaign_id)
        for row in rows
    ]
    refused += [
        Refusal(kind=one.status, at=one.since, channel=one.channel, campaign_id=None)
        for one in load_consents(conn, person, now)
        if one.status is ConsentStatus.WITHDRAWN
    ]
    return sorted(refused, key=lambda one: one.at, reverse=True)
