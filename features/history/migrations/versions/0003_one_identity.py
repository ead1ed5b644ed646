"""Contact points sealed at rest, several customers as one person, and erasure.

Contact points that were stored in the clear are sealed here. Where two customers hold what is the same contact
point in normal form, the one that was linked first keeps it and the other is listed as a conflict.
"""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, RowId, UtcMoment
from features.identity.vault import vault_of
from models.domain.channel import IdentityKind

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ROWS_A_STATEMENT = 5_000
_RECORDED = "the id that the row came with; empty where that is customer_id"
_OF_CUSTOMERS = ("identities", "consents", "tags", "interactions", "decisions", "outbox")


def upgrade() -> None:
    op.add_column(
        "customers",
        sa.Column(
            "anonymous",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="a visitor of whom only a device is known",
        ),
    )
    for table in _OF_CUSTOMERS:
        op.add_column(
            table,
            sa.Column(
                "recorded_as", sa.String(length=128), server_default="", nullable=False, comment=_RECORDED
            ),
        )
    with op.batch_alter_table("consents") as batch:
        batch.drop_constraint("uq_consents_customer_id_channel_purpose_since_status", type_="unique")
        batch.create_unique_constraint(
            "uq_consents_statement",
            ["customer_id", "channel", "purpose", "since", "status", "recorded_as"],
        )
    with op.batch_alter_table("tags") as batch:
        batch.drop_constraint("uq_tags_customer_id_tag_since_present", type_="unique")
        batch.create_unique_constraint(
            "uq_tags_statement", ["customer_id", "tag", "since", "present", "recorded_as"]
        )
    op.create_table(
        "customer_members",
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("person_id", sa.String(length=128), nullable=False, comment="under whose id they are now"),
        sa.Column(
            "parent_id",
            sa.String(length=128),
            nullable=True,
            comment="whom they were merged into; null for the person's own id",
        ),
        sa.Column(
            "time_zone",
            sa.String(length=64),
            nullable=False,
            comment="this and the next three: as they were alone",
        ),
        sa.Column("created_at", UtcMoment, nullable=False),
        sa.Column("attributes", Document, nullable=False),
        sa.Column("anonymous", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", name="pk_customer_members"),
    )
    op.create_index("ix_customer_members_person_id", "customer_members", ["person_id"])
    op.create_table(
        "identity_journal",
        sa.Column("entry_id", RowId, autoincrement=True, nullable=False),
        sa.Column("at", UtcMoment, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False, comment="link, merge, split or dismiss"),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column(
            "other_id",
            sa.String(length=128),
            nullable=True,
            comment="whom they were merged into or split from",
        ),
        sa.Column(
            "kind",
            sa.String(length=32),
            nullable=True,
            comment="of the contact point that was linked or shared",
        ),
        sa.Column("actor", sa.String(length=64), nullable=False, comment="who or what did it"),
        sa.Column("reason", sa.String(length=512), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_identity_journal"),
    )
    op.create_index("ix_identity_journal_customer_id", "identity_journal", ["customer_id"])
    op.create_index("ix_identity_journal_other_id", "identity_journal", ["other_id"])
    op.create_table(
        "identity_conflicts",
        sa.Column("conflict_id", RowId, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("lookup", sa.String(length=43), nullable=False),
        sa.Column(
            "customer_id", sa.String(length=128), nullable=False, comment="who claims the contact point"
        ),
        sa.Column("holder_id", sa.String(length=128), nullable=False, comment="who has it"),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("found_at", UtcMoment, nullable=False),
        sa.Column("settled_at", UtcMoment, nullable=True),
        sa.Column("settled_as", sa.String(length=16), nullable=True, comment="merged or dismissed"),
        sa.PrimaryKeyConstraint("conflict_id", name="pk_identity_conflicts"),
        sa.UniqueConstraint(
            "kind",
            "lookup",
            "customer_id",
            "holder_id",
            name="uq_identity_conflicts_kind_lookup_customer_id_holder_id",
        ),
    )
    op.create_index("ix_identity_conflicts_customer_id", "identity_conflicts", ["customer_id"])
    op.create_index("ix_identity_conflicts_holder_id", "identity_conflicts", ["holder_id"])
    op.create_table(
        "suppressions",
        sa.Column(
            "digest",
            sa.String(length=43),
            nullable=False,
            comment="keyed hash of an erased contact point or id",
        ),
        sa.Column("erased_at", UtcMoment, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_suppressions"),
    )
    op.create_table(
        "erasures",
        sa.Column(
            "tombstone_id",
            sa.String(length=64),
            nullable=False,
            comment="random; stands where the customer's id was",
        ),
        sa.Column(
            "subject", Document, nullable=True, comment="the erased ids, until nothing holds them any more"
        ),
        sa.Column("requested_at", UtcMoment, nullable=False),
        sa.Column("finished_at", UtcMoment, nullable=True),
        sa.Column("rows", Document, nullable=False, comment="rows made anonymous or removed, by table"),
        sa.PrimaryKeyConstraint("tombstone_id", name="pk_erasures"),
    )
    _seal()


def _seal() -> None:
    """Replace `value` by its keyed hash and its sealed form."""
    for column in (
        sa.Column("lookup", sa.String(length=43), nullable=True, comment="keyed hash of the normal form"),
        sa.Column("key_id", sa.String(length=16), nullable=True, comment="which key sealed it"),
        sa.Column(
            "sealed",
            sa.Text(),
            nullable=True,
            comment="AES-256-GCM, bound to kind and recorded customer",
        ),
    ):
        op.add_column("identities", column)
    conn = op.get_bind()
    plain = sa.table(
        "identities",
        sa.column("identity_id", RowId),
        sa.column("customer_id", sa.String),
        sa.column("kind", sa.String),
        sa.column("value", sa.String),
        sa.column("source", sa.String),
        sa.column("linked_at", UtcMoment),
        sa.column("lookup", sa.String),
        sa.column("key_id", sa.String),
        sa.column("sealed", sa.Text),
    )
    seal = (
        sa.update(plain)
        .where(plain.c.identity_id == sa.bindparam("of_row"))
        .values(lookup=sa.bindparam("lookup"), key_id=sa.bindparam("key_id"), sealed=sa.bindparam("sealed"))
    )
    holders: dict[tuple[str, str], str] = {}
    conflicts: dict[tuple[str, str, str], dict[str, object]] = {}
    last = 0
    while rows := conn.execute(
        sa.select(plain)
        .where(plain.c.identity_id > last)
        .order_by(plain.c.identity_id)
        .limit(_ROWS_A_STATEMENT)
    ).all():
        vault = vault_of(conn)
        sealed, claimed = [], []
        for row in rows:
            kind = IdentityKind(row.kind)
            made = vault.seal(kind, row.customer_id, row.value)
            holder = holders.get((row.kind, made.lookup))
            if holder is not None:
                claimed.append(row.identity_id)
                if holder != row.customer_id:
                    conflicts[row.kind, made.lookup, row.customer_id] = {
                        "kind": row.kind,
                        "lookup": made.lookup,
                        "customer_id": row.customer_id,
                        "holder_id": holder,
                        "reason": "same_when_normalised",
                        "source": row.source,
                        "found_at": row.linked_at,
                    }
                continue
            holders[row.kind, made.lookup] = row.customer_id
            sealed.append(
                {
                    "of_row": row.identity_id,
                    "lookup": made.lookup,
                    "key_id": made.key_id,
                    "sealed": made.sealed,
                }
            )
        if sealed:
            conn.execute(seal, sealed)
        if claimed:
            conn.execute(sa.delete(plain).where(plain.c.identity_id.in_(claimed)))
        last = rows[-1].identity_id
    if conflicts:
        listed = sa.table(
            "identity_conflicts",
            sa.column("kind", sa.String),
            sa.column("lookup", sa.String),
            sa.column("customer_id", sa.String),
            sa.column("holder_id", sa.String),
            sa.column("reason", sa.String),
            sa.column("source", sa.String),
            sa.column("found_at", UtcMoment),
        )
        conn.execute(sa.insert(listed), list(conflicts.values()))
    with op.batch_alter_table("identities") as batch:
        batch.drop_constraint("uq_identities_kind_value", type_="unique")
        batch.drop_column("value")
        for name, width in (
            ("lookup", sa.String(length=43)),
            ("key_id", sa.String(length=16)),
            ("sealed", sa.Text()),
        ):
            batch.alter_column(name, existing_type=width, nullable=False)
        batch.create_unique_constraint("uq_identities_kind_lookup", ["kind", "lookup"])
