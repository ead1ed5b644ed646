"""Occasions in a file: JSON, one document a name."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from features.segments.language import SegmentName
from models.domain.errors import InvalidInputError, NotFoundError
from serving.occasions.occasion import Occasion

_FILE = TypeAdapter(dict[SegmentName, Occasion])
_LONGEST_VALUE = 80


def read_occasions(file: Path) -> dict[str, Occasion]:
    """The occasions of a file, by name.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no JSON, or names the first field that is wrong.
    """
    if not file.is_file():
        raise NotFoundError("file", str(file))
    try:
        return _FILE.validate_json(file.read_bytes())
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise InvalidInputError(
            path or str(file), str(first["input"])[:_LONGEST_VALUE], first["msg"]
        ) from exc
