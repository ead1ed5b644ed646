"""How many parts a text takes as SMS: what a provider charges for.

A text of the GSM 03.38 alphabet travels in 7-bit units, 160 in one message or 153 in each part of a longer one; any
other text travels as UCS-2, 70 or 67 units. Source: 3GPP TS 23.038 section 6.2.1 and TS 23.040 section 9.2.3.24.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# TS 23.038, the default alphabet and its extension; an extended character takes two units.
_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = frozenset("\f^{}\\[~]|€")


class SmsEncoding(StrEnum):
    """The alphabet that a text needs."""

    GSM_7 = "gsm-7"
    UCS_2 = "ucs-2"


# Units in a single message, and in each part of several.
_ALONE = {SmsEncoding.GSM_7: 160, SmsEncoding.UCS_2: 70}
_PART = {SmsEncoding.GSM_7: 153, SmsEncoding.UCS_2: 67}


@dataclass(frozen=True, slots=True)
class SmsLength:
    """How long a text is as SMS.

    Attributes:
        encoding: The alphabet that it needs.
        n_units: Of that alphabet.
        n_segments: Messages that carry it, at least one.
    """

    encoding: SmsEncoding
    n_units: int
    n_segments: int


def sms_length(text: str) -> SmsLength:
    """Encoding, units and segments of a text.

    A character of two units (extended, or outside the basic plane) is never cut in two, so a part may end one unit
    early.

    Example:
        >>> sms_length("a" * 160).n_segments, sms_length("a" * 161).n_segments
        (1, 2)
        >>> sms_length("春" * 71)
        SmsLength(encoding=<SmsEncoding.UCS_2: 'ucs-2'>, n_units=71, n_segments=2)
    """
    encoding, sizes = _units(text)
    return SmsLength(encoding, sum(sizes), len(split_sms(text)))


def split_sms(text: str) -> list[str]:
    """The text cut into the parts that `sms_length` counts."""
    encoding, sizes = _units(text)
    if sum(sizes) <= _ALONE[encoding]:
        return [text]
    parts, used = [""], 0
    for character, size in zip(text, sizes, strict=True):
        if used + size > _PART[encoding]:
            parts.append("")
            used = 0
        parts[-1] += character
        used += size
    return parts


def _units(text: str) -> tuple[SmsEncoding, list[int]]:
    if all(character in _BASIC or character in _EXTENDED for character in text):
        return SmsEncoding.GSM_7, [2 if character in _EXTENDED else 1 for character in text]
    return SmsEncoding.UCS_2, [2 if ord(character) > 0xFFFF else 1 for character in text]
