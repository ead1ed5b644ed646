"""Seal every contact point under the current key, without holding up anybody."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, bindparam, func, select, text, update

from features.history.tables import identities
from features.identity.vault import ContactKeyError, vault_of
from models.domain.channel import IdentityKind

ROWS_A_TRANSACTION = 1_000


def reseal(
    engine: Engine,
    progress: Callable[[float], None] = lambda _share: None,
    rows_a_transaction: int = ROWS_A_TRANSACTION,
) -> int:
    """Seal anew what another key than the current one sealed, in short transactions.

    Interrupted at any point, the next run goes on with the rows that are left.

    Args:
        engine: The history.
        progress: Told the share that is done, in [0, 1].
        rows_a_transaction: Rows between two commits.

    Returns:
        Number of rows that this run sealed.

    Raises:
        ContactKeyError: a row cannot be opened.
    """
    with engine.connect() as conn:
        current = vault_of(conn).current_key
        left = conn.scalar(select(func.count()).where(identities.c.key_id != current)) or 0
    n = 0
    while True:
        with engine.begin() as conn:
            done = _reseal_some(conn, current, rows_a_transaction)
        if not done:
            return n
        n += done
        progress(min(n / max(left, 1), 1.0))


def keys_in_use(conn: Connection) -> set[str]:
    """Ids of the keys that rows were sealed with, after every writer who may still use another has ended."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE identities IN SHARE MODE"))
    return set(conn.scalars(select(identities.c.key_id).distinct()))


def check_keys(conn: Connection) -> None:
    """Refuse to work with keys that do not belong to this database.

    Raises:
        ContactKeyError: no contact point was sealed with any of the keys.
    """
    vault = vault_of(conn)
    if conn.execute(select(identities.c.identity_id).limit(1)).first() is None:
        return
    fits = select(identities.c.identity_id).where(identities.c.key_id.in_(vault.key_ids)).limit(1)
    if conn.execute(fits).first() is None:
        raise ContactKeyError(
            "the keys of contact points are not those of this database: restore contacts.keys from the backup, "
            "or set NEXTCHANNEL_CONTACT_KEYS"
        )


def _reseal_some(conn: Connection, current: str, limit: int) -> int:
    vault = vault_of(conn)
    rows = conn.execute(
        select(identities)
        .where(identities.c.key_id != current)
        .order_by(identities.c.identity_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    resealed = []
    for row in rows:
        kind, owner = IdentityKind(row.kind), row.recorded_as or row.customer_id
        sealed = vault.seal(kind, owner, vault.open(kind, owner, row.key_id, row.sealed))
        resealed.append({"of_row": row.identity_id, "key_id": sealed.key_id, "sealed": sealed.sealed})
    conn.execute(
        update(identities)
        .where(identities.c.identity_id == bindparam("of_row"))
        .values(key_id=bindparam("key_id"), sealed=bindparam("sealed")),
        resealed,
    )
    return len(rows)
