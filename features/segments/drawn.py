"""Customers in an order that has nothing to do with who they are, and is the same whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_MARK_BYTES = 16


def mark(drawn_for: str, customer_id: str) -> bytes:
    """Where a customer stands in the order: a digest."""
    return blake2b(f"{drawn_for}/{customer_id}".encode(), digest_size=_MARK_BYTES).digest()


def marks(drawn_for: str, customer_ids: Sequence[str]) -> NDArray[np.bytes_]:
    """The marks of many, shape (n,). Of a million 16 MB; as Python's own objects they would take five times that.

    Args:
        drawn_for: What the order is made for; every name has another one.
        customer_ids: n customers.
    """
    each = (mark(drawn_for, customer_id) for customer_id in customer_ids)
    return np.fromiter(each, dtype=f"S{_MARK_BYTES}", count=len(customer_ids))


def draw(drawn_for: str, customer_ids: Sequence[str], most: int) -> list[str]:
    """At most so many of them, at random; all in their own order where there are no more."""
    if len(customer_ids) <= most:
        return list(customer_ids)
    chosen = np.argpartition(marks(drawn_for, customer_ids), most)[:most]
    return [customer_ids[at] for at in np.sort(chosen).tolist()]
