"""What an erasure leaves behind: keyed hashes by which nobody who was erased comes back with a later import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import BindParameter, Connection, bindparam, select

from features.history.prepared import Prepared
from features.history.tables import suppressions
from features.identity.vault import vault_of
from models.domain.channel import IdentityKind

TOMBSTONE = "erased-"
_DIGESTS_A_STATEMENT = 10_000
_DIGESTS: BindParameter[Sequence[str]] = bindparam("digests", expanding=True)
_ANY = Prepared(select(suppressions.c.digest).limit(1))
_KNOWN = select(suppressions.c.digest).where(suppressions.c.digest.in_(_DIGESTS))


def erased_customers(conn: Connection, customer_ids: Iterable[str]) -> set[str]:
    """Those of the ids whose customers were erased."""
    if not _ANY.rows(conn):
        return set()
    vault = vault_of(conn)
    digest_of = {customer_id: vault.lookup_customer(customer_id) for customer_id in set(customer_ids)}
    known = _known(conn, digest_of.values())
    return {customer_id for customer_id, digest in digest_of.items() if digest in known}


def erased_contact_points(
    conn: Connection, contact_points: Iterable[tuple[IdentityKind, str]]
) -> set[tuple[IdentityKind, str]]:
    """Those of the contact points that belonged to customers who were erased."""
    if not _ANY.rows(conn):
        return set()
    vault = vault_of(conn)
    digest_of = {point: vault.lookup(*point) for point in set(contact_points)}
    known = _known(conn, digest_of.values())
    return {point for point, digest in digest_of.items() if digest in known}


def is_tombstone(customer_id: str) -> bool:
    """Whether the id stands for an erased customer."""
    return customer_id.startswith(TOMBSTONE)


def _known(conn: Connection, digests: Iterable[str]) -> set[str]:
    asked = list(digests)
    found: set[str] = set()
    for start in range(0, len(asked), _DIGESTS_A_STATEMENT):
        chunk = asked[start : start + _DIGESTS_A_STATEMENT]
        found.update(conn.scalars(_KNOWN, {"digests": chunk}))
    return found
