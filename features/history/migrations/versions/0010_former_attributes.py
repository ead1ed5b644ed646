"""What the attributes of customers were before they changed."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, RowId, UtcMoment

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_RECORDED = "the id that the row came with; empty where that is customer_id"


def upgrade() -> None:
    op.create_table(
        "former_attributes",
        sa.Column("former_id", RowId, autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.String(length=128), nullable=False),
        sa.Column("recorded_as", sa.String(length=128), nullable=False, server_default="", comment=_RECORDED),
        sa.Column("attributes", Document, nullable=False, comment="of customers, as they were"),
        sa.Column("until", UtcMoment, nullable=False, comment="when others were told"),
        sa.PrimaryKeyConstraint("former_id", name="pk_former_attributes"),
    )
    op.create_index("ix_former_attributes_customer_id", "former_attributes", ["customer_id"])


def downgrade() -> None:
    op.drop_table("former_attributes")
