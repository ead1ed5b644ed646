"""Domain objects as JSON documents, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import TypeAdapter, WrapSerializer

from features.history.shown import OPTIONS, text_of_alternatives, written_exclusions
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.decision import Decision, Evidence

T = TypeVar("T", Campaign, Channel, Decision)


def in_order(noun: object, document: Any) -> Any:
    """The noun's JSON document with its sets in the order of their members, which is the same in every process.

    Args:
        noun: A dataclass, collection or plain value of the domain.
        document: What pydantic made of it, sets as lists in the order of their hashes.
    """
    if isinstance(noun, frozenset | set):
        return sorted(document)
    if is_dataclass(noun):
        return {each.name: in_order(getattr(noun, each.name), document[each.name]) for each in fields(noun)}
    if isinstance(noun, Mapping):
        parts = zip(noun.values(), document.items(), strict=True)
        return {name: in_order(value, part) for value, (name, part) in parts}
    if isinstance(noun, tuple | list):
        return [in_order(value, part) for value, part in zip(noun, document, strict=True)]
    return document


# A lambda has no declared return type, so that the description of the API stays that of the noun.
_IN_ORDER = WrapSerializer(lambda noun, plain: in_order(noun, plain(noun)), when_used="json")
CampaignDocument = Annotated[Campaign, _IN_ORDER]
"""A campaign that replies and the database write the same way every time."""
ChannelDocument = Annotated[Channel, _IN_ORDER]
"""A channel that replies and the database write the same way every time."""

_ADAPTERS: dict[type[object], TypeAdapter[Any]] = {
    Campaign: TypeAdapter(CampaignDocument),
    Channel: TypeAdapter(ChannelDocument),
    Decision: TypeAdapter(Decision),
}

_NUMBERS = ("features", "distribution", "net_value_minor")
_PLAIN = tuple(each.name for each in fields(Decision) if each.name != "evidence")
_PLAIN_EVIDENCE = tuple(each.name for each in fields(Evidence) if each.name not in _NUMBERS)
_plain, _plain_evidence = attrgetter(*_PLAIN), attrgetter(*_PLAIN_EVIDENCE)


def to_document(noun: Campaign | Channel | Decision) -> dict[str, Any]:
    """What JSON can hold of it: moments as ISO 8601, sets as sorted lists."""
    document: dict[str, Any] = _ADAPTERS[type(noun)].dump_python(noun, mode="json")
    return document


def to_json(decision: Decision, *, with_numbers: bool = False) -> bytes:
    """The text of `to_document`, made straight from the dataclass: every decision writes one.

    Args:
        decision: Any.
        with_numbers: Also the evidence's numbers by name, which `features.history.evidence.pack` writes apart.
    """
    evidence = decision.evidence
    document = dict(zip(_PLAIN, _plain(decision), strict=True))
    document["alternatives"] = text_of_alternatives(decision.alternatives)
    document["exclusions"] = [one.text for one in written_exclusions(decision.exclusions)]
    said = dict(zip(_PLAIN_EVIDENCE, _plain_evidence(evidence), strict=True))
    if with_numbers:
        said |= {name: dict(getattr(evidence, name)) for name in _NUMBERS}
    document["evidence"] = said
    return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS | OPTIONS)


def from_document(kind: type[T], document: object) -> T:
    """The inverse of `to_document`.

    Raises:
        pydantic.ValidationError: the document was not made by `to_document`.
    """
    noun: T = _ADAPTERS[kind].validate_python(document)
    return noun
