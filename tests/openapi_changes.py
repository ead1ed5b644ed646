"""What changed between two OpenAPI descriptions, and whether callers break by it.

`python -m tests.openapi_changes OLD` holds the committed description against the one in the file OLD, and ends with 1 where
callers break, unless that is meant: then the digest of the committed description stands in `openapi-accepted.json` beside it, with the
reason. Another change of the description needs another look.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMITTED = Path(__file__).parents[1] / "docs" / "reference" / "openapi.json"
ACCEPTED = COMMITTED.with_name("openapi-accepted.json")

_DEEPEST = 12
_METHODS = ("get", "put", "post", "patch", "delete")
# Bounds: in a request, a caller may send what the old bound let through.
_BOUNDS = ("maxLength", "minLength", "maximum", "minimum", "maxItems", "minItems", "pattern", "format")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        breaking: Whether a caller who was right before is wrong now, or misses what they were given.
        where: Path of what changed.
        words: What happened to it.
    """

    breaking: bool
    where: str
    words: str

    def __str__(self) -> str:
        return f"{'BREAKING' if self.breaking else 'additive'}  {self.where}: {self.words}"


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every difference that concerns callers, the breaking ones first."""
    found = list(_operations(old, new))
    return sorted(found, key=lambda one: (not one.breaking, one.where))


def _operations(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    before, after = _by_name(old), _by_name(new)
    for name in before.keys() - after.keys():
        yield Change(True, name, "is gone")
    for name in after.keys() - before.keys():
        yield Change(False, name, "is new")
    for name in before.keys() & after.keys():
        yield from _operation(name, before[name], after[name], old, new)


def _by_name(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
        if method in _METHODS
    }


def _operation(
    name: str, before: dict[str, Any], after: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
) -> Iterator[Change]:
    if before.get("security") != after.get("security"):
        yield Change(True, name, f"needs {after.get('security')} instead of {before.get('security')}")
    yield from _parameters(name, before, after)
    given, wanted = (one.get("requestBody", {}).get("content", {}) for one in (before, after))
    yield from _media(f"{name} request", given, wanted, old, new, request=True)
    answers, told = before.get("responses", {}), after.get("responses", {})
    for status in answers.keys() - told.keys():
        yield Change(status.startswith("2"), f"{name} {status}", "is not answered any more")
    for status in told.keys() - answers.keys():
        yield Change(False, f"{name} {status}", "may be answered")
    for status in answers.keys() & told.keys():
        yield from _media(
            f"{name} {status}",
            answers[status].get("content", {}),
            told[status].get("content", {}),
            old,
            new,
            request=False,
        )


def _parameters(name: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    given, wanted = (
        {(one["in"], _as_sent(one)): one for one in operation.get("parameters", [])}
        for operation in (before, after)
    )
    for key in given.keys() - wanted.keys():
        yield Change(True, f"{name} {key[0]} {key[1]}", "is not taken any more")
    for key in wanted.keys() - given.keys():
        required = wanted[key].get("required", False)
        yield Change(required, f"{name} {key[0]} {key[1]}", "is required now" if required else "may be given")


def _as_sent(parameter: dict[str, Any]) -> str:
    """The name that tells a parameter from others: of headers, capitals do not."""
    name = str(parameter["name"])
    return name.lower() if parameter["in"] == "header" else name


def _media(
    where: str,
    before: dict[str, Any],
    after: dict[str, Any],
    old: dict[str, Any],
    new: dict[str, Any],
    *,
    request: bool,
) -> Iterator[Change]:
    for media in before.keys() - after.keys():
        yield Change(True, where, f"{media} is gone")
    for media in after.keys() - before.keys():
        yield Change(False, where, f"{media} is new")
    for media in before.keys() & after.keys():
        walk = _Walk(old, new, request)
        yield from walk.compare(where, before[media].get("schema", {}), after[media].get("schema", {}), 0)


@dataclass(frozen=True, slots=True)
class _Walk:
    """Compares schemas, side by side, down to the leaves."""

    old: dict[str, Any]
    new: dict[str, Any]
    request: bool

    def compare(self, where: str, before: Any, after: Any, depth: int) -> Iterator[Change]:
        if depth > _DEEPEST or (before == after and self._same_parts()):
            return
        before, after = _resolved(before, self.old), _resolved(after, self.new)
        if _kind(before) != _kind(after):
            yield Change(True, where, f"was {_kind(before)}, is {_kind(after)}")
            return
        yield from self._names(where, before, after, depth)
        yield from self._values(where, before, after)
        if "items" in before and "items" in after:
            yield from self.compare(f"{where}[]", before["items"], after["items"], depth + 1)
        for choices in ("anyOf", "oneOf"):
            for index, (one, other) in enumerate(
                zip(before.get(choices, []), after.get(choices, []), strict=False)
            ):
                yield from self.compare(f"{where}|{index}", one, other, depth + 1)

    def _same_parts(self) -> bool:
        return self.old.get("components") == self.new.get("components")

    def _names(self, where: str, before: Any, after: Any, depth: int) -> Iterator[Change]:
        known, told = before.get("properties", {}), after.get("properties", {})
        for name in known.keys() - told.keys():
            yield Change(True, f"{where}.{name}", "is gone")
        required = set(after.get("required", [])) - set(before.get("required", []))
        for name in told.keys() - known.keys():
            needed = self.request and name in required
            yield Change(needed, f"{where}.{name}", "is new and required" if needed else "is new")
        for name in known.keys() & told.keys():
            if self.request and name in required:
                yield Change(True, f"{where}.{name}", "is required now")
            if not self.request and name in set(before.get("required", [])) - set(after.get("required", [])):
                yield Change(True, f"{where}.{name}", "may be missing now")
            yield from self.compare(f"{where}.{name}", known[name], told[name], depth + 1)

    def _values(self, where: str, before: Any, after: Any) -> Iterator[Change]:
        gone = [value for value in before.get("enum", []) if value not in after.get("enum", [])]
        more = [value for value in after.get("enum", []) if value not in before.get("enum", [])]
        if gone:
            yield Change(self.request, where, f"is never {', '.join(map(repr, gone))} any more")
        if more:
            yield Change(False, where, f"may be {', '.join(map(repr, more))}")
        for bound in _BOUNDS:
            if before.get(bound) != after.get(bound):
                words = f"{bound} was {before.get(bound)!r}, is {after.get(bound)!r}"
                yield Change(self.request and after.get(bound) is not None, where, words)


def _resolved(schema: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema or "oneOf" in schema:
        return f"one of {len(schema.get('anyOf', schema.get('oneOf', [])))}"
    return str(schema.get("type", "anything"))


def digest(description: bytes) -> str:
    """Sixteen hexadecimal digits that stand for a description."""
    return hashlib.sha256(description).hexdigest()[:16]


def main(arguments: list[str]) -> int:
    """Say what changed since an older description; 1 where callers break and nobody said that they may."""
    (older,) = arguments
    committed = COMMITTED.read_bytes()
    found = changes(json.loads(Path(older).read_text()), json.loads(committed))
    sys.stdout.writelines(f"{one}\n" for one in found)
    if not any(one.breaking for one in found):
        return 0
    reason = json.loads(ACCEPTED.read_text()).get(digest(committed))
    sys.stdout.write(
        f"{ACCEPTED.name} has no reason for {digest(committed)}\n" if reason is None else f"meant: {reason}\n"
    )
    return int(reason is None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
