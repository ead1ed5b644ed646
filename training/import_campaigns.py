"""A campaign from a JSON file into the history."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Engine

from features.history.campaigns import save_campaign
from features.history.documents import from_document, to_document
from models.domain.campaign import Campaign
from models.domain.errors import InvalidInputError, NotFoundError, require


def put_campaign(
    engine: Engine, path: Path, now: datetime, check: Callable[[Campaign], None] = lambda _: None
) -> Campaign:
    """Store a campaign; one that has not changed keeps its version.

    Args:
        engine: The history.
        path: JSON with the fields of `models.domain.campaign.Campaign`.
        now: When it is stored.
        check: Raises `InvalidInputError` where the campaign cannot be sent as it stands.

    Returns:
        The campaign as it is stored.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: a field is missing, unknown or breaks a bound.
    """
    if not path.is_file():
        raise NotFoundError("file", str(path))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        campaign = from_document(Campaign, document)
    except ValidationError as exc:
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(field or "campaign", first["input"], first["msg"]) from exc
    except ValueError as exc:
        raise InvalidInputError("file", str(path), f"must be JSON in UTF-8 ({exc})") from exc
    _refuse_unknown(document, to_document(campaign), "")
    check(campaign)
    with engine.begin() as conn:
        return save_campaign(conn, campaign, now)


def _refuse_unknown(given: object, understood: object, place: str) -> None:
    """Refuse a field that nothing was made of: a misspelt limit must not pass for no limit."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for name, value in given.items():
            require(name in understood, f"{place}{name}", value, "must be a field of a campaign")
            _refuse_unknown(value, understood[name], f"{place}{name}.")
    elif isinstance(given, list) and isinstance(understood, list):
        for index, (mine, made) in enumerate(zip(given, understood, strict=False)):
            _refuse_unknown(mine, made, f"{place}{index}.")
