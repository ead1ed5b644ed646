"""Parts of the day by which visits are counted: one definition for the features and for what learns from them."""

from __future__ import annotations

# Parts of this many hours, from six in the morning to midnight; the night before is one part.
VISIT_HOURS = 3
FIRST_VISIT_HOUR = 6
# Shares are shrunk as if there had been so many more visits, evenly spread over the day.
PRIOR_VISITS = 8
# How many visits the shares are made of.
VISITS_COUNTED = "visits_365d"
VISITS_WINDOW_DAYS = 365
VISIT_PARTS: tuple[tuple[int, int], ...] = tuple(
    (first, first + VISIT_HOURS) for first in range(FIRST_VISIT_HOUR, 24, VISIT_HOURS)
)


def visit_share(part: tuple[int, int]) -> str:
    """Name of the feature that holds the share of a part of the day.

    >>> visit_share((6, 9))
    'visit_share_06_09'
    """
    return f"visit_share_{part[0]:02d}_{part[1]:02d}"
