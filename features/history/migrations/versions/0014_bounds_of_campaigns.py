"""Campaigns that were stored beyond what is allowed since: brought within it, so that they can be read.

Windows end before the year 2200, and nothing waits for more than 366 days.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from features.history.tables import Document

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_FIRST_YEAR_BEYOND = 2200
_LAST_DAYS = {"starts_at": "2199-12-30T00:00:00Z", "ends_at": "2199-12-31T00:00:00Z"}
_LONGEST_SECONDS = 366 * 86_400

_campaigns = sa.table(
    "campaigns", sa.column("campaign_id"), sa.column("version"), sa.column("document", Document)
)


def upgrade() -> None:
    conn = op.get_bind()
    for row in conn.execute(sa.select(_campaigns)).all():
        bounded = _bounded(row.document)
        if bounded != row.document:
            conn.execute(
                sa.update(_campaigns)
                .where(_campaigns.c.campaign_id == row.campaign_id, _campaigns.c.version == row.version)
                .values(document=bounded)
            )


def downgrade() -> None:
    """The former values were good for nothing: every report of such a campaign failed."""


def _bounded(document: dict[str, Any]) -> dict[str, Any]:
    window = dict(document["send_window"])
    for name, last in _LAST_DAYS.items():
        if int(window[name][:4]) >= _FIRST_YEAR_BEYOND:
            window[name] = last
    waits = {
        name: min(document[name], _LONGEST_SECONDS)
        for name in ("attribution_window_seconds", "message_ttl_seconds")
        if name in document
    }
    rules = [
        rule | {"after_seconds": min(rule["after_seconds"], _LONGEST_SECONDS)}
        if "after_seconds" in rule
        else rule
        for rule in document.get("follow_ups", [])
    ]
    more = {"follow_ups": rules} if "follow_ups" in document else {}
    return document | {"send_window": window} | waits | more
