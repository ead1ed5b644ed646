"""The condition language of segments: JSON, checked when it is stored.

A condition has exactly one of the keys `all`, `any`, `not`, `feature`, `interactions`, `attribute`, `tag`, `consent`
and `identity`; docs/how-to/segments.md shows each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)
from typing_extensions import TypeAliasType

from features.json_types import KEYS_ALIKE, WHOLE, Number
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus
from models.domain.errors import InvalidInputError
from models.domain.interaction import LONGEST_ID, LONGEST_NAME, LONGEST_TEXT, InteractionKind, Place

MOST_CONDITIONS = 100
DEEPEST = 20

# No database stores the character NUL.
_STORABLE = r"^[^\x00]*$"
_Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=_STORABLE)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=_STORABLE)]
Description = Annotated[str, StringConstraints(max_length=LONGEST_TEXT, pattern=_STORABLE)]
# Without what has a meaning in a JSON path.
_AttributeName = Annotated[str, StringConstraints(pattern=r'^[^"\\\x00-\x1f]{1,64}$')]
SegmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Operator = Literal["<", "<=", ">", ">=", "==", "!=", "in"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class All(_Part):
    """Every one of the conditions holds; of none, always."""

    all: tuple[Condition, ...]


class AnyOf(_Part):
    """One of the conditions holds at least; of none, never."""

    any: tuple[Condition, ...]


class Not(_Part):
    """The condition does not hold."""

    negated: Condition = Field(alias="not")


# What `_check_value` refuses.
_LIST_OR_ONE: dict[str, Any] = {
    "oneOf": [
        {"properties": {"op": {"const": "in"}, "value": {"type": "array"}}},
        {"properties": {"op": {"not": {"const": "in"}}, "value": {"type": ["number", "string"]}}},
    ]
}
_COMPARES = ConfigDict(json_schema_extra={"allOf": [_LIST_OR_ONE]})


class OfFeature(_Part):
    """A feature compares so with a number. Where it is missing, no comparison holds."""

    model_config = _COMPARES

    feature: _Name
    op: Operator
    value: Number | Annotated[tuple[Number, ...], Field(max_length=1_000)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_value(self.op, self.value)
        return self


class OfAttribute(_Part):
    """An attribute of the customer compares so. A number and a text never compare; nor does a missing one."""

    model_config = _COMPARES

    attribute: _Name
    op: Operator
    value: Number | _Text | Annotated[tuple[Number | _Text, ...], Field(max_length=1_000)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_value(self.op, self.value)
        return self


class LocalHours(_Part):
    """Hours of the day in the customer's time zone: `from_hour` <= hour < `until_hour`."""

    from_hour: Annotated[int, Strict(), Field(ge=0, le=23), WHOLE]
    until_hour: Annotated[int, Strict(), Field(ge=1, le=24), WHOLE]

    @model_validator(mode="after")
    def _has_hours(self) -> Self:
        if self.from_hour >= self.until_hour:
            raise ValueError("until_hour must be > from_hour")
        return self


class Facts(_Part):
    """Which facts are counted, and how many there must be. Machine-made ones never count.

    Attributes:
        kind: One kind or several.
        within_days: Only those of the last so many days.
        since: Only those from this moment on.
        until: Only those before this moment.
        at_least: How many there are at least; 1 where neither bound is given.
        at_most: How many there are at most; 0 for none.
        attributes: Each of them has this text, for example `{"device": "ios"}`.
    """

    kind: InteractionKind | Annotated[tuple[InteractionKind, ...], Field(min_length=1)]
    within_days: Number | None = Field(default=None, gt=0, le=36_500)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    at_least: Annotated[int, Strict(), Field(ge=1), WHOLE] | None = None
    at_most: Annotated[int, Strict(), Field(ge=0), WHOLE] | None = None
    channel: _Name | None = None
    campaign_id: (
        Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=_STORABLE)] | None
    ) = None
    place: Place | None = None
    value_at_least_minor: Number | None = None
    local_hours: LocalHours | None = None
    weekdays: tuple[Annotated[int, Strict(), Field(ge=1, le=7), WHOLE], ...] | None = Field(
        default=None, description="In the customer's time zone, Monday is 1."
    )
    attributes: Annotated[dict[_AttributeName, _Text], KEYS_ALIKE] = Field(
        default_factory=dict, max_length=10
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds, in order."""
        chosen = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        return tuple(sorted({kind.value for kind in chosen}))

    def enough(self, n: int) -> bool:
        """Whether so many facts satisfy the bounds."""
        least = self.at_least if self.at_least is not None else (1 if self.at_most is None else 0)
        return n >= least and (self.at_most is None or n <= self.at_most)

    @model_validator(mode="after")
    def _can_be_satisfied(self) -> Self:
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_most must be >= at_least")
        return self


class OfInteractions(_Part):
    """The customer did that, so often."""

    interactions: Facts


class OfTag(_Part):
    """The customer carries the tag now."""

    tag: _Name


class Permission(_Part):
    """What the customer said last about a channel and purpose.

    A granted channel counts as granted only while no refusal speaks of every channel.
    """

    channel: _Name
    purpose: _Name = "marketing"
    status: ConsentStatus = ConsentStatus.GRANTED


class OfConsent(_Part):
    """The customer's permission has that status."""

    consent: Permission


class OfIdentity(_Part):
    """The customer has an account or contact point of that kind, for example a device."""

    identity: IdentityKind


_KEYS = ("all", "any", "not", "feature", "interactions", "attribute", "tag", "consent", "identity")


def _key(given: Any) -> str | None:
    if isinstance(given, dict):
        return next((key for key in _KEYS if key in given), None)
    return "not" if isinstance(given, Not) else next((key for key in _KEYS if hasattr(given, key)), None)


# A name of its own, so that descriptions refer to it instead of repeating it wherever a condition holds others.
Condition = TypeAliasType(
    "Condition",
    Annotated[
        Annotated[All, Tag("all")]
        | Annotated[AnyOf, Tag("any")]
        | Annotated[Not, Tag("not")]
        | Annotated[OfFeature, Tag("feature")]
        | Annotated[OfInteractions, Tag("interactions")]
        | Annotated[OfAttribute, Tag("attribute")]
        | Annotated[OfTag, Tag("tag")]
        | Annotated[OfConsent, Tag("consent")]
        | Annotated[OfIdentity, Tag("identity")],
        Discriminator(
            _key,
            custom_error_type="condition",
            custom_error_message=f"must have one of the keys {', '.join(_KEYS)}",
        ),
    ],
)


class Segment(_Part):
    """A named condition.

    Attributes:
        name: Letters, digits, `-` and `_`.
        description: For people.
        condition: Who belongs to it.
        version: Given by the history, from 1.
    """

    name: SegmentName
    description: Description = ""
    condition: Condition
    version: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        n = sum(1 for _ in parts(self.condition))
        if n > MOST_CONDITIONS:
            raise ValueError(f"condition has {n} parts, must have at most {MOST_CONDITIONS}")
        return self


for _model in (All, AnyOf, Not, Segment):
    _model.model_rebuild()


def parts(condition: Condition) -> Iterator[Condition]:
    """The condition and every one inside it."""
    yield condition
    match condition:
        case All():
            inner: tuple[Condition, ...] = condition.all
        case AnyOf():
            inner = condition.any
        case Not():
            inner = (condition.negated,)
        case _:
            inner = ()
    for part in inner:
        yield from parts(part)


def feature_names(condition: Condition) -> list[str]:
    """The features that it compares, each once, in order of name."""
    return sorted({part.feature for part in parts(condition) if isinstance(part, OfFeature)})


def parse_segment(document: object) -> Segment:
    """A segment from JSON.

    Raises:
        InvalidInputError: names the first part that is wrong.
    """
    if _is_deeper(
        document, 2 * DEEPEST + 2
    ):  # a condition inside another is an object in a list in an object
        raise InvalidInputError("condition", "...", f"must not nest deeper than {DEEPEST} conditions")
    try:
        return Segment.model_validate(document)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidInputError(_path(first["loc"]), first["input"], first["msg"]) from exc


def _path(location: Sequence[str | int]) -> str:
    """Where in the document it is: pydantic also names which kind of condition it took, which stands there anyway."""
    path: list[str | int] = []
    is_kind = False
    for part in location:
        if not is_kind and "[" not in str(part):
            path.append(part)
            is_kind = part in ("condition", "not") or (isinstance(part, int) and path[-2] in ("all", "any"))
        else:
            is_kind = False
    return ".".join(map(str, path)) or "segment"


def _is_deeper(document: object, levels: int) -> bool:
    """Whether JSON nests deeper than that, found without recursion."""
    layer = [document]
    for _ in range(levels + 1):
        inner: list[object] = []
        for part in layer:
            if isinstance(part, dict):
                inner += part.values()
            elif isinstance(part, list | tuple):
                inner += part
        layer = [part for part in inner if isinstance(part, dict | list | tuple)]
        if not layer:
            return False
    return True


def compares(stated: object, op: Operator, value: object) -> bool:
    """Whether the stated value compares so; never where it is missing or of another type.

    Example:
        >>> compares(3.0, "<", 4), compares(None, "!=", 4), compares("a", "in", ("a", "b"))
        (True, False, True)
    """
    if op == "in":
        return any(compares(stated, "==", one) for one in value) if isinstance(value, tuple) else False
    if isinstance(stated, str) != isinstance(value, str) or stated is None:
        return False
    left: Any = stated
    match op:
        case "<":
            return bool(left < value)
        case "<=":
            return bool(left <= value)
        case ">":
            return bool(left > value)
        case ">=":
            return bool(left >= value)
        case "==":
            return bool(left == value)
        case "!=":
            return bool(left != value)


def _check_value(op: Operator, value: object) -> None:
    if (op == "in") != isinstance(value, tuple):
        raise ValueError("value must be a list for `in`, and one value for any other operator")
