"""What an offer gives, to whom it was given, and what was redeemed."""

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document, UtcMoment

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_FREE = sa.text("decision_id IS NULL")
_OWN = sa.text("NOT shared")


def _of_customer() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("customer_id", sa.String(128), nullable=False),
        sa.Column(
            "recorded_as",
            sa.String(128),
            nullable=False,
            server_default="",
            comment="the id that the row came with; empty where that is customer_id",
        ),
    )


def _of_offer() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("campaign_id", sa.String(128), nullable=False),
        sa.Column("offer_id", sa.String(128), nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "incentives",
        sa.Column("campaign_id", sa.String(128), primary_key=True),
        sa.Column("offer_id", sa.String(128), primary_key=True),
        sa.Column(
            "version",
            sa.Integer(),
            primary_key=True,
            comment="the latest holds for whoever gets one from now on",
        ),
        sa.Column("document", Document, comment="serving.incentives.incentive.Incentive; null: taken back"),
        sa.Column("secret", sa.String(64), comment="of a draw, hexadecimal; told when the draw is over"),
        sa.Column("created_at", UtcMoment(), nullable=False),
    )
    op.create_table(
        "coupon_codes",
        sa.Column("code", sa.String(64), primary_key=True, comment="made by the shop system"),
        *_of_offer(),
        sa.Column("decision_id", sa.String(64), comment="who has it; null while it is free"),
    )
    op.create_index(
        "ix_coupon_codes_free",
        "coupon_codes",
        ["campaign_id", "offer_id", "code"],
        postgresql_where=_FREE,
        sqlite_where=_FREE,
    )
    op.create_table(
        "vouchers",
        sa.Column("decision_id", sa.String(64), primary_key=True),
        *_of_customer(),
        *_of_offer(),
        sa.Column(
            "version", sa.Integer(), nullable=False, comment="of the incentive, whose terms hold for it"
        ),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False, comment="others have the same code"),
        sa.Column("given_at", UtcMoment(), nullable=False),
    )
    op.create_index("ix_vouchers_customer_id", "vouchers", ["customer_id"])
    op.create_index("ix_vouchers_code", "vouchers", ["code"])
    op.create_index("ix_vouchers_campaign_id_offer_id", "vouchers", ["campaign_id", "offer_id"])
    op.create_index(
        "uq_vouchers_own_code",
        "vouchers",
        ["code"],
        unique=True,
        postgresql_where=_OWN,
        sqlite_where=_OWN,
    )
    op.create_table(
        "redemptions",
        sa.Column("decision_id", sa.String(64), primary_key=True, comment="a voucher is redeemed once"),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("event_id", sa.String(128), nullable=False),
        *_of_customer(),
        *_of_offer(),
        sa.Column("occurred_at", UtcMoment(), nullable=False),
        sa.Column("received_at", UtcMoment(), nullable=False),
        sa.Column("shop_id", sa.String(128), comment="of the incentive's shops, the one that was near"),
        sa.Column("distance_metres", sa.Integer(), comment="to that shop, rounded; the position is not kept"),
        sa.Column("value_minor", sa.Float(53)),
        sa.Column(
            "order_id", sa.String(128), comment="of the sale: its other reports do not count beside this one"
        ),
        sa.Column("cost_minor", sa.Float(53), nullable=False),
        sa.Column("drawn", sa.String(64), comment="prize that the draw gave; null: none"),
        sa.Column("prize", sa.String(64), comment="the same where one was left"),
        sa.UniqueConstraint("source", "event_id", name="uq_redemptions_source_event_id"),
    )
    op.create_index("ix_redemptions_customer_id", "redemptions", ["customer_id"])
    op.create_index("ix_redemptions_campaign_id_offer_id", "redemptions", ["campaign_id", "offer_id"])
    op.create_table(
        "redemption_counts",
        sa.Column("campaign_id", sa.String(128), primary_key=True),
        sa.Column("offer_id", sa.String(128), primary_key=True),
        sa.Column(
            "prize_id",
            sa.String(64),
            primary_key=True,
            comment="empty: redemptions, whatever was won",
        ),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("cost_minor", sa.Float(53), nullable=False),
    )
    op.create_table(
        "points_entries",
        sa.Column("decision_id", sa.String(64), primary_key=True),
        sa.Column("reason", sa.String(16), primary_key=True, comment="given or redeemed"),
        *_of_customer(),
        sa.Column("points", sa.Integer(), nullable=False, comment="below zero where they were redeemed"),
        sa.Column("at", UtcMoment(), nullable=False),
        sa.Column(
            "lapses_at",
            UtcMoment(),
            comment="from when on neither entry of the decision counts; null: never",
        ),
    )
    op.create_index("ix_points_entries_customer_id", "points_entries", ["customer_id"])
    op.create_table(
        "survey_answers",
        sa.Column("decision_id", sa.String(64), primary_key=True),
        sa.Column("question_id", sa.String(64), primary_key=True),
        *_of_customer(),
        *_of_offer(),
        sa.Column("answer", Document, nullable=False, comment="value: option, options, number or text"),
        sa.Column("answered_at", UtcMoment(), nullable=False),
    )
    op.create_index("ix_survey_answers_customer_id", "survey_answers", ["customer_id"])
    op.create_index(
        "ix_survey_answers_campaign_id_offer_id_decision_id_question_id",
        "survey_answers",
        ["campaign_id", "offer_id", "decision_id", "question_id"],
    )


def downgrade() -> None:
    for table in (
        "survey_answers",
        "points_entries",
        "redemption_counts",
        "redemptions",
        "vouchers",
        "coupon_codes",
        "incentives",
    ):
        op.drop_table(table)
