"""Domain objects as JSON documents, and back."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter

from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.decision import Decision

T = TypeVar("T", Campaign, Channel, Decision)

_ADAPTERS: dict[type[object], TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Campaign, Channel, Decision)
}


def to_document(noun: Campaign | Channel | Decision) -> dict[str, Any]:
    """What JSON can hold of it: moments as ISO 8601, sets as lists."""
    document: dict[str, Any] = _ADAPTERS[type(noun)].dump_python(noun, mode="json")
    return document


def to_json(decision: Decision) -> bytes:
    """The text of `to_document`, made straight from the dataclass: every decision writes one."""
    return orjson.dumps(decision, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def from_document(kind: type[T], document: object) -> T:
    """The inverse of `to_document`.

    Raises:
        pydantic.ValidationError: the document was not made by `to_document`.
    """
    noun: T = _ADAPTERS[kind].validate_python(document)
    return noun
