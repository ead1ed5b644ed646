"""The numbers of a decision's evidence, beside its document instead of by name inside it.

Decisions that were recorded before keep theirs in the document, where they are read from as ever.
"""

import sqlalchemy as sa
from alembic import op

from features.history.decisions import load_decision
from features.history.documents import to_document
from features.history.tables import Document, decisions

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feature_orders",
        sa.Column("digest", sa.String(length=64), primary_key=True, comment="SHA-256 of the names"),
        sa.Column(
            "names",
            Document,
            nullable=False,
            comment="of features, as decisions.evidence has them",
        ),
    )
    op.add_column(
        "decisions",
        sa.Column(
            "evidence",
            sa.LargeBinary(),
            nullable=True,
            comment="numbers of the decision's evidence: features.history.evidence; older ones are in the document",
        ),
    )


def downgrade() -> None:
    conn = op.get_bind()
    packed = sa.select(decisions.c.decision_id).where(decisions.c.evidence.is_not(None))
    for decision_id in conn.scalars(packed).all():
        decision = load_decision(conn, decision_id)
        conn.execute(
            sa.update(decisions)
            .where(decisions.c.decision_id == decision_id)
            .values(document=to_document(decision))
        )
    op.drop_column("decisions", "evidence")
    op.drop_table("feature_orders")
