"""Values of redemptions count net of what the redemption cost: their customers are settled anew."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "INSERT INTO unsettled (campaign_id, customer_id) SELECT campaign_id, customer_id FROM redemptions "
        "WHERE cost_minor > 0 AND value_minor IS NOT NULL"
    )


def downgrade() -> None:
    pass
