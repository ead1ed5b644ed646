"""A file that a command reads as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.domain.errors import InvalidInputError, NotFoundError


def read_json(file: Path) -> Any:
    """What the file holds.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no JSON.
    """
    if not file.is_file():
        raise NotFoundError("file", str(file))
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError("file", str(file), f"must be JSON ({exc})") from exc
