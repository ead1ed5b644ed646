"""Bounds of single values: said once, beside the field, checked when the object is made, and told by whatever describes it.

    canary_share: Annotated[float, Within(0, 1)] = 0.1

`check_bounds` refuses what breaks them; the description of the API has them because pydantic asks them for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, get_args, get_type_hints

from models.domain.errors import require

# JSON Schema's word for a collection that is not empty, by type.
_NOT_EMPTY = {"string": "minLength", "array": "minItems", "object": "minProperties"}


class Bound(ABC):
    """One bound, as metadata of `Annotated`."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What would be right, for example `must be >= 0`."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Whether a value keeps it."""

    @abstractmethod
    def _schema(self, described: dict[str, Any]) -> dict[str, Any]:
        """Its part of a JSON Schema that has been described so far."""

    def __get_pydantic_json_schema__(
        self, schema: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """The schema of a value with this bound: pydantic calls it by this name."""
        described = handler(schema)
        return described | self._schema(described)


@dataclass(frozen=True, slots=True)
class Within(Bound):
    """A number in `[least, most]`, or from `least` on."""

    least: float
    most: float | None = None

    @property
    def words(self) -> str:
        """What would be right."""
        return f"must be >= {self.least}" if self.most is None else f"must be in [{self.least}, {self.most}]"

    def holds(self, value: Any) -> bool:
        """Whether a number lies in it."""
        return bool(self.least <= value and (self.most is None or value <= self.most))

    def _schema(self, _described: dict[str, Any]) -> dict[str, Any]:
        return {"minimum": self.least} | ({} if self.most is None else {"maximum": self.most})


@dataclass(frozen=True, slots=True)
class NotEmpty(Bound):
    """A text, list or mapping that holds something."""

    words: str = "must not be empty"

    def holds(self, value: Collection[Any]) -> bool:
        """Whether it holds something."""
        return len(value) > 0

    def _schema(self, described: dict[str, Any]) -> dict[str, Any]:
        return {_NOT_EMPTY[described["type"]]: 1}


@dataclass(frozen=True, slots=True)
class Distinct(Bound):
    """A list that names nothing twice."""

    words: str = "must not repeat"

    def holds(self, value: Collection[Any]) -> bool:
        """Whether all are different."""
        return len(set(value)) == len(value)

    def _schema(self, _described: dict[str, Any]) -> dict[str, Any]:
        return {"uniqueItems": True}


@dataclass(frozen=True, slots=True)
class Between(Bound):
    """An aware moment in `[first, end)`; one without a zone is another matter.

    JSON Schema has no word for the bounds of a moment: `formatMinimum` and `formatExclusiveMaximum` are its authors'
    proposal, which validators know.
    """

    first: datetime
    end: datetime

    @property
    def words(self) -> str:
        """What would be right."""
        return f"must be in [{self.first.date()}, {self.end.date()})"

    def holds(self, value: datetime) -> bool:
        """Whether a moment lies in it."""
        # Compared as it is: near the years 1 and 9999 a conversion to UTC overflows.
        return value.tzinfo is None or self.first <= value < self.end

    def _schema(self, _described: dict[str, Any]) -> dict[str, Any]:
        return {"formatMinimum": self.first.isoformat(), "formatExclusiveMaximum": self.end.isoformat()}


def check_bounds(noun: object, prefix: str = "") -> None:
    """Refuse an object with a field out of its bounds; a field that is None has none.

    Args:
        noun: A dataclass.
        prefix: Stands before the names of the fields, for example `caps.`.

    Raises:
        InvalidInputError: names the first field that is wrong.
    """
    of: Any = type(noun)
    for name, bound in _bounds(of):
        value = getattr(noun, name)
        if value is not None and not bound.holds(value):  # words are made for what is wrong alone
            require(False, f"{prefix}{name}", value, bound.words)


@cache
def _bounds(of: Any) -> tuple[tuple[str, Bound], ...]:
    hints = get_type_hints(of, include_extras=True)
    return tuple((name, bound) for name, hint in hints.items() for bound in _within(hint))


def _within(hint: Any) -> Iterator[Bound]:
    """The bounds in a type: of `Annotated[...]`, also where it may be None."""
    for part in get_args(hint):
        if isinstance(part, Bound):
            yield part
        elif get_args(part):
            yield from _within(part)
