"""Codes that nobody can guess, and that a typing error does not turn into another one.

Eleven random characters and a check character, of an alphabet without look-alikes: 31 characters, so that a code carries
11 * log2(31) = 54 bits. 31 is a prime number and the weights 1 to 12 are all different modulo it, so the check character
finds every single wrong character and every exchange of two.
"""

from __future__ import annotations

import re
import secrets

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""Without 0 and O, 1 and I and L."""

_RANDOM = 11
_GROUP = 4
_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_BETWEEN = re.compile(r"[\s-]+")


def make_code() -> str:
    """A new code, in groups of four."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(_RANDOM))
    return _in_groups(body + _check_character(body))


def shown_form(text: str) -> str | None:
    """A code as it was made, however it was typed; None for what is no code of ours, or was mistyped."""
    plain = _BETWEEN.sub("", text).upper()
    if len(plain) != _RANDOM + 1 or not set(plain) <= set(ALPHABET):
        return None
    return _in_groups(plain) if _check_character(plain[:_RANDOM]) == plain[_RANDOM] else None


def _check_character(body: str) -> str:
    # The weight of the check character itself is 12: the whole sum is a multiple of 31.
    left = sum(weight * _VALUE[character] for weight, character in enumerate(body, start=1))
    weight = pow(_RANDOM + 1, -1, len(ALPHABET))
    return ALPHABET[-left * weight % len(ALPHABET)]


def _in_groups(plain: str) -> str:
    return "-".join(plain[start : start + _GROUP] for start in range(0, len(plain), _GROUP))
