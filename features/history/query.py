"""Ask the history about people: what is known of them as of a moment, who has a contact point, who was merged into whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from features.history.prepared import Prepared, one_of
from features.history.reached import reached
from features.history.tables import (
    UtcMoment,
    campaigns,
    consents,
    customer_members,
    customers,
    decisions,
    hard_bounces,
    identities,
    interactions,
    moment_from,
)
from features.identity.vault import vault_of
from models.domain.campaign import LONGEST_CAP_WINDOW
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus, Customer, MessageClass, PastContact
from models.domain.errors import NotFoundError
from models.domain.interaction import InteractionKind

_MOST_PARAMETERS = 10_000  # SQLite takes 32,766 in one statement, PostgreSQL 65,535

# What `load_customers` asks of the customers `ids`, as one statement: on a server each costs a round trip. Every part
# gives its number, whose row it is, three words, a number and a moment.
_PERSON, _CONSENT, _CONTACT, _EARLIER, _REPLY = range(5)
_BETWEEN_KINDS = " "
_NOW: BindParameter[datetime] = bindparam("now", type_=UtcMoment())
_UNTIL: BindParameter[datetime] = bindparam("until", type_=UtcMoment())
_SINCE: BindParameter[datetime] = bindparam("since", type_=UtcMoment())
_NO_WORD, _NO_NUMBER, _NO_MOMENT = cast(null(), String), cast(null(), BigInteger), cast(null(), UtcMoment())
# Of several contact points of a kind the one that was linked last holds.
# A contact point that messages bounced from for good holds no more.
_HOLDS = ~exists().where(
    hard_bounces.c.customer_id == identities.c.customer_id,
    hard_bounces.c.kind == identities.c.kind,
    hard_bounces.c.bounced_at >= identities.c.linked_at,
)
_SEALED = Prepared(
    select(
        identities.c.customer_id,
        identities.c.recorded_as,
        identities.c.kind,
        identities.c.key_id,
        identities.c.sealed,
    )
    .where(one_of(identities.c.customer_id, "ids"), identities.c.linked_at <= _NOW, _HOLDS)
    .order_by(identities.c.linked_at, identities.c.identity_id)
)
_OWNERS = Prepared(
    select(identities.c.lookup, identities.c.customer_id).where(
        one_of(identities.c.kind, "kinds"), one_of(identities.c.lookup, "lookups")
    )
)
_ANY_MERGED = Prepared(select(customer_members.c.customer_id).limit(1))
_MERGED = Prepared(
    select(customer_members.c.customer_id, customer_members.c.person_id).where(
        one_of(customer_members.c.customer_id, "ids"), customer_members.c.parent_id.is_not(None)
    )
)


def _part(number: int, owner: ColumnElement[str], *columns: ColumnElement[Any]) -> Select[Any]:
    return select(literal_column(str(number)), owner, *columns)


def _known(of: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> Prepared:
    """The statement, where `of` says of a column with customers' ids which are meant. The rows are in no order."""
    contacted = (
        of(decisions.c.customer_id),
        decisions.c.channel.is_not(None),
        decisions.c.decided_at <= _UNTIL,
        reached(),
    )
    accounts = (
        select(func.aggregate_strings(identities.c.kind, _BETWEEN_KINDS))
        .where(identities.c.customer_id == customers.c.customer_id, identities.c.linked_at <= _NOW, _HOLDS)
        .scalar_subquery()
    )
    return Prepared(
        union_all(
            _part(
                _PERSON,
                customers.c.customer_id,
                customers.c.time_zone,
                accounts,
                _NO_WORD,
                _NO_NUMBER,
                _NO_MOMENT,
            ).where(of(customers.c.customer_id)),
            _part(
                _CONSENT,
                consents.c.customer_id,
                consents.c.channel,
                consents.c.purpose,
                consents.c.status,
                consents.c.consent_id,
                consents.c.since,
            ).where(of(consents.c.customer_id), consents.c.since <= _NOW),
            _part(
                _CONTACT,
                decisions.c.customer_id,
                decisions.c.channel,
                decisions.c.campaign_id,
                campaigns.c.document["message_class"].as_string(),
                _NO_NUMBER,
                decisions.c.send_at,
            )
            .outerjoin(
                campaigns,
                and_(
                    campaigns.c.campaign_id == decisions.c.campaign_id,
                    campaigns.c.version == decisions.c.campaign_version,
                ),
            )
            .where(*contacted, decisions.c.send_at > _SINCE),
            _part(
                _EARLIER,
                decisions.c.customer_id,
                _NO_WORD,
                decisions.c.campaign_id,
                _NO_WORD,
                func.count(),
                _NO_MOMENT,
            )
            .where(*contacted, decisions.c.send_at <= _SINCE)
            .group_by(decisions.c.customer_id, decisions.c.campaign_id),
            _part(
                _REPLY,
                interactions.c.customer_id,
                interactions.c.channel,
                _NO_WORD,
                _NO_WORD,
                _NO_NUMBER,
                func.max(interactions.c.occurred_at),
            )
            .where(
                of(interactions.c.customer_id),
                interactions.c.kind == InteractionKind.REPLIED,
                interactions.c.channel.is_not(None),
                interactions.c.occurred_at <= _NOW,
                interactions.c.occurred_at > _SINCE,
            )
            .group_by(interactions.c.customer_id, interactions.c.channel),
        )
    )


# One id is looked up without laying out a list: half of the time.
_KNOWN_OF_ONE = _known(lambda customer_id: customer_id == bindparam("id"))
_KNOWN_OF_MANY = _known(lambda customer_id: one_of(customer_id, "ids"))
_OF_CONSENT = itemgetter(6, 5)
"""Moment, then number: of several consents the last holds."""
# Ten thousand rows a batch: looking a member up by value beats calling the enumeration.
_KINDS = {kind.value: kind for kind in IdentityKind}
_STATUSES = {status.value: status for status in ConsentStatus}
_CLASSES = {message_class.value: message_class for message_class in MessageClass}


def in_chunks(ids: Sequence[str], size: int = _MOST_PARAMETERS) -> Iterator[Sequence[str]]:
    """The ids in runs that fit into one statement."""
    return (ids[start : start + size] for start in range(0, len(ids), size))


def load_customers(
    conn: Connection, customer_ids: Sequence[str], now: datetime, contacts_until: datetime | None = None
) -> dict[str, Customer]:
    """What eligibility needs to know about people, as of `now`.

    One statement, however many people (up to 10,000; then one for each 10,000). Who is not known is absent. An id
    that was merged into another gives the person as they are now, under that person's `customer_id`.

    Args:
        conn: Only read.
        customer_ids: Repeats are allowed.
        now: Aware; later facts are ignored.
        contacts_until: Aware; contacts that were decided on up to then count, by default up to `now`.
    """
    asked = list(dict.fromkeys(customer_ids))
    found: dict[str, Customer] = {}
    until = contacts_until or now
    for ids in in_chunks(asked):
        found |= _load_chunk(conn, ids, now, until)
    absent = [customer_id for customer_id in asked if customer_id not in found]
    # Only an id that is not there can have been merged: whoever is found costs no further query.
    if absent and (merged := present_ids(conn, absent)):
        people = load_customers(conn, list(merged.values()), now, until)
        found |= {absorbed: people[person] for absorbed, person in merged.items() if person in people}
    return found


def present_id(conn: Connection, customer_id: str) -> str:
    """The person's own id: the same id, unless it was merged into another."""
    return present_ids(conn, [customer_id]).get(customer_id, customer_id)


def present_ids(conn: Connection, customer_ids: Iterable[str]) -> dict[str, str]:
    """Under which id those are now that were merged into another; the others are absent."""
    # Asked first, since most histories know nobody who was merged.
    if not _ANY_MERGED.rows(conn):
        return {}
    asked = list(dict.fromkeys(customer_ids))
    found: dict[str, str] = {}
    for ids in in_chunks(asked):
        found |= dict(_MERGED.rows(conn, ids=ids))
    return found


def load_recipients(
    conn: Connection, customer_ids: Sequence[str], now: datetime
) -> dict[tuple[str, IdentityKind], Callable[[], str]]:
    """The contact points of people by (customer_id, kind), each sealed until it is called for.

    Calling one raises `ContactKeyError` where it cannot be opened.
    """
    vault = vault_of(conn)
    found: dict[tuple[str, IdentityKind], Callable[[], str]] = {}
    for ids in in_chunks(list(dict.fromkeys(customer_ids))):
        for owner, recorded_as, kind, key_id, sealed in _SEALED.rows(conn, ids=ids, now=now):
            found[owner, _KINDS[kind]] = partial(
                vault.open, _KINDS[kind], recorded_as or owner, key_id, sealed
            )
    return found


def find_customer_id(conn: Connection, kind: IdentityKind, value: str) -> str | None:
    """Whose contact point it is, or None where nobody has it."""
    lookup = vault_of(conn).lookup(kind, value)
    owner: str | None = conn.scalar(
        select(identities.c.customer_id).where(identities.c.kind == kind, identities.c.lookup == lookup)
    )
    return owner


def find_customer_ids(
    conn: Connection, points: Iterable[tuple[IdentityKind, str]]
) -> dict[tuple[IdentityKind, str], str]:
    """Whose contact points they are, by (kind, value); those that nobody has are absent."""
    asked = list(dict.fromkeys(points))
    if not asked:
        return {}
    lookup_of = vault_of(conn).lookups(asked)
    # A lookup is of one kind alone: the kind is part of what is hashed.
    kinds = sorted({kind.value for kind, _ in asked})
    owner_of = dict(_OWNERS.rows(conn, kinds=kinds, lookups=list(lookup_of.values())))
    return {point: owner_of[lookup] for point, lookup in lookup_of.items() if lookup in owner_of}


def customer_attributes(conn: Connection, customer_id: str) -> dict[str, float | str]:
    """What is known of one person, number or text by name.

    Raises:
        NotFoundError: nobody has that id.
    """
    found: dict[str, float | str] | None = conn.scalar(
        select(customers.c.attributes).where(customers.c.customer_id == customer_id)
    )
    if found is None:
        raise NotFoundError("customer_id", customer_id)
    return found


def _load_chunk(
    conn: Connection, ids: Sequence[str], now: datetime, contacts_until: datetime
) -> dict[str, Customer]:
    moments = {"now": now, "until": contacts_until, "since": now - LONGEST_CAP_WINDOW}
    known = (
        _KNOWN_OF_ONE.rows(conn, id=ids[0], **moments)
        if len(ids) == 1
        else _KNOWN_OF_MANY.rows(conn, ids=ids, **moments)
    )
    people: list[tuple[str, str, str | None]] = []
    said: list[Sequence[Any]] = []
    permissions: defaultdict[str, dict[tuple[str, str], ConsentStatus]] = defaultdict(dict)
    contacts: defaultdict[str, list[PastContact]] = defaultdict(list)
    earlier: defaultdict[str, dict[str, int]] = defaultdict(dict)
    replies: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for row in known:
        part, owner, first, second, third, number, moment = row
        if part == _CONSENT:
            said.append(row)
            permissions[owner][first, second] = _STATUSES[third]
        elif part == _CONTACT:
            contacts[owner].append(
                PastContact(
                    channel=first,
                    campaign_id=second,
                    contacted_at=moment_from(moment),
                    message_class=_CLASSES.get(third, MessageClass.MARKETING),
                )
            )
        elif part == _PERSON:
            people.append((owner, first, second))
        elif part == _EARLIER:
            earlier[owner][second] = number
        else:
            replies[owner][first] = moment_from(moment)
    if len(said) > sum(map(len, permissions.values())):  # somebody changed their mind
        said.sort(key=_OF_CONSENT)
        for _, owner, channel, purpose, status, _, _ in said:
            permissions[owner][channel, purpose] = _STATUSES[status]
    return {
        owner: Customer(
            customer_id=owner,
            time_zone=time_zone,
            identities=_accounts(kinds),
            consents=permissions.get(owner, {}),
            contacts=tuple(contacts.get(owner, ())),
            earlier_contacts=earlier.get(owner, {}),
            replied_at=replies.get(owner, {}),
        )
        for owner, time_zone, kinds in people
    }


@lru_cache(maxsize=4096)
def _accounts(kinds: str | None) -> frozenset[IdentityKind]:
    """Kinds of contact points; there are few sets of them."""
    return frozenset(_KINDS[kind] for kind in (kinds or "").split(_BETWEEN_KINDS) if kind)
