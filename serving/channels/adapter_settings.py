"""Reads an adapter's settings, given as text, into a frozen dataclass of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, TypeVar, get_type_hints
from urllib.parse import urlsplit

from models.domain.errors import InvalidInputError, require

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    S = TypeVar("S", bound=DataclassInstance)
else:
    S = TypeVar("S")

_TRUTH = {"true": True, "false": False}
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What every adapter over HTTP can be told.

    Attributes:
        timeout_seconds: For each answer of the provider.
        connections: Most connections at a time.
    """

    timeout_seconds: float = 10.0
    connections: int = 20


def read_settings(kind: type[S], adapter: str, settings: Mapping[str, str]) -> S:
    """Read settings into `kind`, a dataclass whose fields are `str`, `int`, `float` or `bool`.

    A field without a default must be given and must not be empty; numbers must be > 0; a field whose name ends with
    `_url` must be an https address, or http on this machine.

    Raises:
        InvalidInputError: a setting is missing, unknown or wrong; names it as `<adapter>.<setting>`.
    """
    known = {field.name: field for field in fields(kind)}
    for name in settings:
        require(name in known, f"{adapter}.{name}", settings[name], f"is none of {', '.join(known)}")
    types = get_type_hints(kind)
    values: dict[str, object] = {}
    for name, field in known.items():
        if name in settings:
            values[name] = _value(types[name], f"{adapter}.{name}", settings[name])
        needed = field.default is MISSING and field.default_factory is MISSING
        require(
            not needed or bool(settings.get(name)), f"{adapter}.{name}", settings.get(name), "must be set"
        )
    return kind(**values)


def _value(kind: object, name: str, text: str) -> object:
    if kind is bool:
        require(text.lower() in _TRUTH, name, text, "must be true or false")
        return _TRUTH[text.lower()]
    if kind is int or kind is float:
        try:
            number = int(text) if kind is int else float(text)
        except ValueError:
            raise InvalidInputError(name, text, "must be a number") from None
        require(0 < number < float("inf"), name, text, "must be > 0")
        return number
    require(text.isprintable() or "\n" in text, name, text, "must be printable")
    if name.endswith("_url") and text:
        _require_address(name, text)
    return text


def _require_address(name: str, text: str) -> None:
    try:
        address = urlsplit(text)
        host = address.hostname
    except ValueError as exc:
        raise InvalidInputError(name, text, "must be an https address") from exc
    safe = address.scheme == "https" or (address.scheme == "http" and host in _LOOPBACK)
    require(safe and bool(host), name, text, "must be an https address")
