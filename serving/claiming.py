"""Takes due messages for one sender, as many as its provider accounts have room for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from features.history.engine import read_only
from serving.accounts import Account
from serving.batching import in_batches
from serving.delivery import STOPPED
from serving.dispatch_settings import DispatchSettings
from serving.followups.conversation import answered
from serving.incentives.vouchers import give
from serving.send_check import SendFacts, read_send_facts
from serving.store.endings import ClaimedMessage, suppressed, unknown
from serving.store.outbox import any_due, claim, settle
from serving.store.rates import spend, tokens


@dataclass(frozen=True, slots=True)
class Claim:
    """Messages of one claim, and what is known of their recipients and campaigns at its moment."""

    messages: Sequence[ClaimedMessage] = ()
    facts: SendFacts = field(
        default_factory=lambda: SendFacts(customers={}, channels={}, campaigns={}, decided={})
    )


class Claiming:
    """Claims for the accounts of one sender.

    Args:
        engine: The history.
        accounts: Who has first choice changes from claim to claim.
        settings: How to work.
    """

    def __init__(self, engine: Engine, accounts: deque[Account], settings: DispatchSettings) -> None:
        self._engine = engine
        self._accounts = accounts
        self._settings = settings
        self._batch_sizes = {name: each.batch_size for each in accounts for name in each.channels}

    def any_due(self, now: datetime) -> bool:
        """Whether there is anything to claim; a read, which holds up no writer."""
        channels = [name for account in self._accounts for name in account.channels]
        with read_only(self._engine).connect() as conn:
            return any_due(conn, now, channels)

    def claim(self, clock: Callable[[], datetime], limit: int) -> Claim:
        """Claim, and read what judging takes, in one transaction: what cannot be judged is not claimed."""
        claimed: list[ClaimedMessage] = []
        self._accounts.rotate()  # whoever comes first may take all that is free
        with self._engine.begin() as conn:
            now = clock()  # once the write lock is there: waiting for it must not use up the lease
            for account in self._accounts:
                claimed += self._claim_for(conn, account, now, limit - len(claimed))
            if not claimed:
                return Claim()
            claimed = _without_answered(conn, claimed, now)
            facts = replace(read_send_facts(conn, claimed, now), codes=_codes(conn, claimed, now))
            return Claim(in_batches(conn, claimed, facts, self._batch_sizes), facts)

    def _claim_for(
        self, conn: Connection, account: Account, now: datetime, limit: int
    ) -> list[ClaimedMessage]:
        room = min(limit, account.room(self._settings.concurrency_per_account, now))
        if room and account.rate is not None:
            room = min(room, tokens(conn, account.name, account.rate, now))
        if not room:
            return []
        claimed = claim(conn, now, self._settings.lease_seconds, room, account.channels)
        if account.rate is not None:
            spend(conn, account.name, len(claimed))
        return claimed


def _codes(conn: Connection, claimed: Sequence[ClaimedMessage], now: datetime) -> dict[str, str]:
    """The code of what each message gives: it is fixed before anybody sees it, whatever becomes of this attempt."""
    given = give(conn, {each.campaign_id for each in claimed}, {each.decision_id for each in claimed}, now)
    return {decision_id: voucher.code for decision_id, voucher in given.items()}


def _without_answered(
    conn: Connection, claimed: Sequence[ClaimedMessage], now: datetime
) -> list[ClaimedMessage]:
    """Settle fallbacks that nobody needs any more; no answer can come between this and the claim."""
    needless = answered(conn, [each.decision_id for each in claimed])
    if not needless:
        return list(claimed)
    settle(
        conn,
        [
            unknown(each, now, STOPPED) if each.abandoned else suppressed(each, now, "answered")
            for each in claimed
            if each.decision_id in needless
        ],
    )
    return [each for each in claimed if each.decision_id not in needless]
