"""How many threads a training computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

# Their matrices are small. The threads of OpenBLAS wait for each other by spinning, so that beside a busy neighbour
# two of them took 3.8 s of processor time for what one does in 0.1 s. LightGBM is told by its own parameter.
import models.response.model  # noqa: F401 - only libraries that are loaded can be bounded


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread while it lasts, in the whole process; also a decorator."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
