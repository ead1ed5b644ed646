"""A draw that can be proved.

The secret is made before the first ticket is given, and its digest is published. A ticket is a decision, and what it draws
follows from both: u = the first 8 bytes of HMAC-SHA256(secret, decision id) as a number in [0, 1), and the prize in whose part
of [0, 1) u lies, the parts being as wide as the chances, in the order of the document. When the draw is over the secret is
told: whoever has it can check the digest and draw again. Nobody without it can tell beforehand which decision would win, and
whoever has it cannot change what a decision draws.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256

from serving.incentives.incentive import Prize

_SECRET_BYTES = 32


def make_secret() -> str:
    """A new secret, hexadecimal."""
    return secrets.token_hex(_SECRET_BYTES)


def commitment(secret: str) -> str:
    """What is published beforehand: SHA-256 of the secret's bytes, hexadecimal."""
    return sha256(bytes.fromhex(secret)).hexdigest()


def draw(secret: str, decision_id: str, prizes: Sequence[Prize]) -> str | None:
    """The prize that a ticket draws; None for none."""
    digest = hmac.digest(bytes.fromhex(secret), decision_id.encode(), "sha256")
    u = int.from_bytes(digest[:8]) / 2**64
    edge = 0.0
    for prize in prizes:
        edge += prize.p_win
        if u < edge:
            return prize.prize_id
    return None
