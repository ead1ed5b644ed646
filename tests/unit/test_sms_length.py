"""What an SMS is charged for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.sms import SmsEncoding, sms_length, split_sms

MIXED = st.text(st.sampled_from("aZ €[春\U0001f337\n"), max_size=400)


@pytest.mark.parametrize(
    ("text", "encoding", "units", "segments"),
    [
        ("", "gsm-7", 0, 1),
        ("a" * 160, "gsm-7", 160, 1),
        ("a" * 161, "gsm-7", 161, 2),
        ("a" * 306, "gsm-7", 306, 2),
        ("a" * 307, "gsm-7", 307, 3),
        ("€" * 80, "gsm-7", 160, 1),
        ("€" * 81, "gsm-7", 162, 2),
        (
            "a" * 152 + "€" + "b" * 152,
            "gsm-7",
            306,
            3,
        ),  # the euro does not fit into the first part's last unit
        ("春" * 70, "ucs-2", 70, 1),
        ("春" * 71, "ucs-2", 71, 2),
        ("a" * 69 + "\u2019", "ucs-2", 70, 1),
        ("\U0001f337" * 35, "ucs-2", 70, 1),
    ],
)
def test_units_and_segments_are_those_of_the_standard(text, encoding, units, segments):
    length = sms_length(text)
    assert (length.encoding, length.n_units, length.n_segments) == (encoding, units, segments)


@given(MIXED)
def test_the_parts_join_to_the_text_and_none_is_too_long(text):
    parts = split_sms(text)
    assert "".join(parts) == text
    assert len(parts) == sms_length(text).n_segments
    if len(parts) > 1:
        longest = 153 if sms_length(text).encoding is SmsEncoding.GSM_7 else 67
        assert max(_units(part, sms_length(text).encoding) for part in parts) <= longest


def _units(part: str, encoding: SmsEncoding) -> int:
    if encoding is SmsEncoding.UCS_2:
        return len(part.encode("utf-16-be")) // 2
    return sum(2 if character in "€[" else 1 for character in part)


@given(MIXED, MIXED)
def test_a_longer_text_never_costs_less(text, more):
    assert sms_length(text + more).n_segments >= sms_length(text).n_segments
