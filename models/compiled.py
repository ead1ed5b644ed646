"""Arithmetic over arrays as machine code: loops over customers, one customer being a batch of one.

A function is compiled for the types that it names when its module is imported, or read from the cache where the same text
was compiled before; other types are refused instead of compiled for, so nothing is compiled while somebody waits for a
decision. The cache is `NUMBA_CACHE_DIR`, else beside the module, else in the user's cache; where nothing of these can
be written to, every process compiles for itself. A cached function is compiled again when the text of *its own* file has
changed, so it calls compiled functions of its own file only; `tests/unit/test_compiled.py` holds that.

Numbers are those of the source in its order: no reassociation (`fastmath` is off), so a row has the same bits alone and
among many. Division by zero gives what NumPy gives. Indices are unsigned where they come out of an array: a signed one
may count from the end, and looking whether it does took 40 % of the time of a forest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
F = TypeVar("F", bound=Callable[..., Any])


def compiled(*signatures: str) -> Callable[[F], F]:
    """Compile a function for these types, in Numba's notation; where it is called, it is itself.

    Args:
        signatures: For example `void(float64[:, ::1], float64[::1])`.
    """

    def compile_now(function: F) -> F:
        types = list(signatures)
        try:
            return cast(F, njit(types, cache=True, error_model="numpy")(function))
        except (RuntimeError, OSError):  # nowhere to keep it, or no room
            return cast(F, njit(types, error_model="numpy")(function))

    return compile_now


def inlined(function: F) -> F:
    """Make a function part of the compiled ones of its file that call it."""
    return cast(F, njit(error_model="numpy")(function))


def plain(array: NDArray[T]) -> NDArray[T]:
    """The array as compiled functions take it: row by row, aligned and writable; itself where it is that."""
    return array if array.flags.carray else array.copy()
