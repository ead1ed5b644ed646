"""Whether a decision was taken between several campaigns."""

from __future__ import annotations

from sqlalchemy import ColumnElement, or_

from features.history.tables import decisions


def contested() -> ColumnElement[bool]:
    """SQL condition on a row of `decisions`: several campaigns were asked at once, so that values decided between them.

    Its probabilities depend on what the model says of the customer, also where its policy alone does not look.
    """
    document = decisions.c.document
    return or_(
        document["decided_with"].as_string().is_not(None),
        document[("arbitration", "propensity")].as_string().is_not(None),
    )
