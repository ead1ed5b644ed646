"""Import Feast without what it does to the process, and without what takes most of the time of its import."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import typeguard

_Target = TypeVar("_Target", bound=Callable[..., object])


@contextmanager
def plainly_imported() -> Iterator[None]:
    """While Feast is imported for the first time.

    Feast changes the warning filters of the whole process: they are put back. And it has the methods of its classes
    written anew to check their arguments at run time (`typeguard.typechecked`, whose own documentation means it for
    development): seven tenths of the import. The methods stay as they are; our calls are checked by mypy.
    """
    checked = typeguard.typechecked
    typeguard.typechecked = _unchanged  # type: ignore[assignment]  # it takes options too, which Feast does not give
    try:
        with warnings.catch_warnings():
            yield
    finally:
        typeguard.typechecked = checked


def _unchanged(target: _Target) -> _Target:
    return target
