"""Moments that a caller names, and the present of a command."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from models.domain.errors import InvalidInputError, require

if TYPE_CHECKING:
    from sqlalchemy import Engine

AS_OF = "--as-of"
RehearsedAt = Annotated[
    str,
    typer.Option(
        AS_OF, help="In a rehearsal: where its clock stands, ISO 8601 with an offset; default: now."
    ),
]


def read_moment(option: str, text: str) -> datetime:
    """An aware moment, UTC.

    Raises:
        InvalidInputError: it is none; names the option.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(option, text, "must be an ISO 8601 moment") from None
    require(
        moment.tzinfo is not None, option, text, "must carry a time zone, for example 2026-01-31T09:00:00Z"
    )
    return moment.astimezone(UTC)


def present(as_of: str, engine: Engine) -> datetime:
    """The clock of the machine, or where that of a rehearsal stands.

    Args:
        as_of: Of the option; empty for the clock of the machine.
        engine: The history, which may hold no later decision.

    Raises:
        InvalidInputError: it is no moment, lies in the future, or before the newest decision.
    """
    from serving.rehearsal import require_none_later

    now = datetime.now(UTC)
    if not as_of:
        return now
    moment = read_moment(AS_OF, as_of)
    require(moment <= now, AS_OF, as_of, f"must not be after now, {now.isoformat()}")
    require_none_later(engine, AS_OF, moment)
    return moment
