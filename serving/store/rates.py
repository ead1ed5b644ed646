"""The token bucket of a provider account, shared by every sender: one row of the database.

The bucket holds at most `burst` tokens and gains `per_second` a second; a message takes one. Since all senders take
from one row, the provider's rate holds however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.tables import sending_rates
from models.domain.errors import require


@dataclass(frozen=True, slots=True)
class Rate:
    """Most messages that a provider account takes.

    Attributes:
        per_second: On average.
        burst: At once; by default what a second brings, and at least one.
    """

    per_second: float
    burst: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.per_second < float("inf"), "per_second", self.per_second, "must be > 0")
        require(
            self.burst == 0 or self.burst >= 1, "burst", self.burst, "must be >= 1, or 0 for a second's worth"
        )

    @property
    def most(self) -> float:
        """Tokens in a full bucket."""
        return self.burst or max(1.0, self.per_second)


def tokens(conn: Connection, account: str, rate: Rate, now: datetime) -> int:
    """How many messages may go out now; the bucket stays locked until the transaction ends.

    Args:
        conn: In the transaction that claims them and calls `spend`.
        account: Whose bucket; a new one is full.
        rate: Of the account.
        now: Aware. A sender whose clock is behind the last one's gains nothing.
    """
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    conn.execute(
        insert(sending_rates)
        .values(account=account, tokens=rate.most, filled_at=now)
        .on_conflict_do_nothing()
    )
    row = conn.execute(
        select(sending_rates.c.tokens, sending_rates.c.filled_at)
        .where(sending_rates.c.account == account)
        .with_for_update()
    ).one()
    gained = rate.per_second * max(0.0, (now - row.filled_at).total_seconds())
    held = min(rate.most, row.tokens + gained)
    conn.execute(
        update(sending_rates)
        .where(sending_rates.c.account == account)
        .values(tokens=held, filled_at=max(now, row.filled_at))
    )
    return int(held)


def spend(conn: Connection, account: str, n_messages: int) -> None:
    """Take tokens that `tokens` showed."""
    if n_messages:
        conn.execute(
            update(sending_rates)
            .where(sending_rates.c.account == account)
            .values(tokens=sending_rates.c.tokens - n_messages)
        )
