"""Whose data a fact is: our own, a partner's, or of somebody who was not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Party(StrEnum):
    """By whom a fact was gathered.

    - `FIRST`: our own systems, about a customer who is known.
    - `SECOND`: a marketplace or partner, who passes it on.
    - `THIRD`: somebody who gathers data to sell, or anybody about a visitor who is anonymous.
    """

    FIRST = "first"
    SECOND = "second"
    THIRD = "third"


def party_of(source: str, stated: Mapping[str, Party], *, anonymous: bool = False) -> Party:
    """The party of what a source says.

    Args:
        source: The system that reports.
        stated: Party by source, for those that somebody has named.
        anonymous: Whether it is about somebody of whom only a device was known.

    Example:
        >>> party_of("shop", {}), party_of("site", {}, anonymous=True)
        (<Party.FIRST: 'first'>, <Party.THIRD: 'third'>)
        >>> party_of("rakuten", {"rakuten": Party.SECOND}, anonymous=True)
        <Party.SECOND: 'second'>
    """
    if source in stated:
        return stated[source]
    return Party.THIRD if anonymous else Party.FIRST
