"""kill -9 of a service whose vouchers are given and redeemed: everything acknowledged is there, once and whole.

    make chaos NAME=redeem_kill [ARGS="--kills 20 --postgres"]

Callers decide for customers, ask for vouchers, and redeem them at tills and on pages, several at once and the same voucher in
two places, against every kind of limit: most in all, most of a customer, prizes of a draw, codes of a list. The process
is killed at a random moment and started again; what had no answer is asked again. In the end every acknowledged redemption must be in the database
once, with its fact, its entry of points and its place in the counts; no limit may be exceeded, no code given twice, nobody refused without a reason.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time as clock
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from sqlalchemy import Engine, Row, select

from features.history.sales import REDEMPTION
from features.history.tables import (
    coupon_codes,
    interactions,
    points_entries,
    redemption_counts,
    redemptions,
    vouchers,
)
from models.domain.campaign import PolicyName
from serving.explain.catalogue import Language
from serving.incentives.incentive import CodeSource, Coupon, Incentive, Lottery, Points, Prize
from serving.incentives.store import ALL, add_codes, save_incentive
from serving.incentives.vouchers import GIVEN, REDEEMED
from tests.chaos._callers import Calling
from tests.chaos.decide_kill import living, market
from tests.integration.conftest import NOW, Market

# Few, so that they come to what one of them may redeem.
BUYERS = tuple(f"c-{number}" for number in range(20))
# Between the first redemption of a life and its end.
LONGEST_LIFE_SECONDS = 4.0
N_OPEN = 16
FALLBACK = "FOR-ALL"
GIFTS = COUPONS, LISTED, POINTS, DRAWN = "coupons", "listed", "points", "drawn"
PRIZE = "vase"
N_POINTS = 300
MOST_PER_CUSTOMER = 2
WRONG = (
    "lost",
    "changed",
    "doubled",
    "torn",
    "miscounted",
    "over_limit",
    "refused_wrongly",
    "other_statuses",
)
_TILL, _PAGE = "till", "page"
# Of what a till is told, what the database holds under the same name.
_TOLD = frozenset({"decision_id", "campaign_id", "offer_id", "prize", "cost_minor"})
_TITLE = {Language.ENGLISH: "A gift"}


def main(arguments: list[str]) -> int:
    """Kill the service again and again; 1 where anything of `WRONG` was found."""
    parser = argparse.ArgumentParser(prog="redeem_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with market(chosen.postgres) as made:
        found = kill(made, chosen.kills, chosen.seed)
    for name, figure in found.items():
        sys.stdout.write(f"{name:24} {figure}\n")
    sys.stdout.write(json.dumps({"chaos": "redeem_kill", **found}) + "\n")
    return int(any(found[name] for name in WRONG))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much there is.

    Attributes:
        most: Coupons that are redeemed in all; 20 buyers may redeem 40.
        n_codes: In the list.
        n_prizes: Of the draw.
    """

    most: int
    n_codes: int
    n_prizes: int

    @classmethod
    def of(cls, n_kills: int) -> Limits:
        """Reached before the last kill, but not in the first life."""
        return cls(most=max(3 * n_kills // 2, 1), n_codes=2 * n_kills, n_prizes=n_kills)


def prepare(made: Market, limits: Limits) -> None:
    """A campaign of one offer for each kind of gift."""
    prize = Prize(prize_id=PRIZE, title=_TITLE, number=limits.n_prizes, p_win=0.5, cost_minor=900.0)
    gifts = {
        COUPONS: Incentive(
            title=_TITLE,
            coupon=Coupon(codes=CodeSource.GENERATED),
            most=limits.most,
            most_per_customer=MOST_PER_CUSTOMER,
            cost_minor=100.0,
        ),
        LISTED: Incentive(
            title=_TITLE,
            coupon=Coupon(codes=CodeSource.LIST, fallback=FALLBACK),
            most_per_customer=None,
        ),
        POINTS: Incentive(title=_TITLE, points=Points(points=N_POINTS), most_per_customer=None),
        DRAWN: Incentive(
            title=_TITLE,
            lottery=Lottery(prizes=(prize,)),
            valid_until=NOW + timedelta(days=1),
            most_per_customer=None,
            cost_minor=10.0,
        ),
    }
    offer = made.campaign().offers[0]
    for campaign_id, incentive in gifts.items():
        made.campaign(campaign_id, offers=(offer,), policy=PolicyName.CHEAPEST_FIRST)
        with made.engine.begin() as conn:
            save_incentive(conn, campaign_id, offer.offer_id, incentive, NOW)
            if campaign_id == LISTED:
                codes = [f"L-{number:05}" for number in range(limits.n_codes)]
                add_codes(conn, campaign_id, offer.offer_id, codes)


@dataclass
class Sale:
    """A decision, what it gave, and what became of that.

    Attributes:
        decided: Whether the decision was acknowledged.
        voucher: As it was acknowledged; None before.
        redeemed: As a till was told, or nothing where a page was; None before.
        refused: Who was told that it cannot be redeemed.
    """

    campaign_id: str
    customer_id: str
    decision_id: str = field(default_factory=lambda: str(uuid4()))
    decided: bool = False
    voucher: dict[str, Any] | None = None
    redeemed: dict[str, Any] | None = None
    refused: set[str] = field(default_factory=set)


@dataclass
class Callers(Calling):
    """Threads that sell until they are stopped.

    Attributes:
        sales: Every one, by the id of its decision.
        n_changed: Answers that differ from what was answered before.
        other_statuses: How many answers were none that the steps allow and none that say to come again.
        n_unanswered: Requests whose answer the kills cut off.
    """

    sales: dict[str, Sale] = field(default_factory=dict)
    n_changed: int = 0
    other_statuses: Counter[str] = field(default_factory=Counter)
    n_unanswered: int = 0
    _open: list[Sale] = field(default_factory=list)
    _closing: threading.Event = field(default_factory=threading.Event)

    def finish(self, seconds: float = 120.0) -> None:
        """Begin nothing new, and wait until everything that was begun has ended."""
        self._closing.set()
        ends_at = clock.monotonic() + seconds
        while self._open:
            if clock.monotonic() > ends_at:
                raise TimeoutError(f"{len(self._open)} sales do not end")
            clock.sleep(0.05)

    def _call(self, number: int, port: int) -> None:
        draw = random.Random(f"{number}/{len(self.sales)}")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while not self._stopped.is_set():
                sale = self._pick(draw)
                if sale is None:
                    return
                try:
                    self._go_on(client, sale, draw)
                except httpx.TransportError:
                    with self._lock:
                        self.n_unanswered += 1
                    clock.sleep(0.02)

    def _pick(self, draw: random.Random) -> Sale | None:
        """One that has not ended, now and then one that has, or a new one; None when all is done.

        Others may have the same one at the same time.
        """
        with self._lock:
            closing = self._closing.is_set()
            if len(self._open) < N_OPEN and not closing:
                sale = Sale(draw.choice(GIFTS), draw.choice(BUYERS))
                self.sales[sale.decision_id] = sale
                self._open.append(sale)
            if not self._open:
                return None
            again = not closing and draw.random() < 0.1
            return draw.choice(list(self.sales.values()) if again else self._open)

    def _go_on(self, client: httpx.Client, sale: Sale, draw: random.Random) -> None:
        if not sale.decided:
            self._decide(client, sale)
        elif sale.voucher is None or draw.random() < 0.1:
            self._ask(client, sale)
        elif sale.campaign_id in (POINTS, DRAWN) and draw.random() < 0.5:
            self._submit(client, sale)
        else:
            self._scan(client, sale)

    def _decide(self, client: httpx.Client, sale: Sale) -> None:
        asked = ("campaign_id", "customer_id", "decision_id")
        answer = client.post("/v1/decisions", json={name: getattr(sale, name) for name in asked})
        if answer.status_code == httpx.codes.OK and answer.json()["action"] is not None:
            sale.decided = True
        else:
            self._unexpected("decision", answer)

    def _ask(self, client: httpx.Client, sale: Sale) -> None:
        answer = client.post(f"/v1/decisions/{sale.decision_id}/voucher")
        if answer.status_code != httpx.codes.OK:
            self._unexpected("voucher", answer)
            return
        with self._lock:
            given = answer.json()
            self.n_changed += sale.voucher not in (None, given)
            sale.voucher = given

    def _scan(self, client: httpx.Client, sale: Sale) -> None:
        """A till redeems, by the code alone where that tells whose it is."""
        assert sale.voucher is not None
        code = sale.voucher["coupon"]
        report = {"source": _TILL, "event_id": sale.decision_id, "code": code, "value_minor": 2_500.0}
        if code == FALLBACK:
            report["decision_id"] = sale.decision_id
        answer = client.post("/v1/redemptions", json=report)
        if answer.status_code == httpx.codes.OK:
            told = {name: value for name, value in answer.json().items() if name != "repeated"}
            with self._lock:
                self.n_changed += sale.redeemed not in (None, {}, told)
                sale.redeemed = told
            self._end(sale)
        elif _refuses(answer):
            sale.refused.add(_TILL)
            self._end(sale)
        else:
            self._unexpected(_TILL, answer)

    def _submit(self, client: httpx.Client, sale: Sale) -> None:
        """The customer redeems on their page."""
        assert sale.voucher is not None
        answer = client.post(urlsplit(sale.voucher["redeem_link"]).path, data={"latitude": ""})
        if answer.status_code == httpx.codes.SEE_OTHER:
            with self._lock:
                sale.redeemed = sale.redeemed or {}
            self._end(sale)
        elif answer.status_code == httpx.codes.CONFLICT:
            sale.refused.add(_PAGE)
            self._end(sale)
        else:
            self._unexpected(_PAGE, answer)

    def _end(self, sale: Sale) -> None:
        self.heard.set()
        with self._lock:
            if sale in self._open:
                self._open.remove(sale)

    def _unexpected(self, step: str, answer: httpx.Response) -> None:
        if answer.status_code not in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
            with self._lock:
                self.other_statuses[f"{step}: {answer.status_code}"] += 1


def _refuses(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.CONFLICT and answer.json()["type"] == "/problems/not-redeemable"


def kill(made: Market, n_kills: int, seed: int = 1) -> dict[str, Any]:
    """Kill the service that often under load, then hold what the database has against what was acknowledged.

    Args:
        made: A `market`.
        n_kills: How often; each time a till or a page has had an answer.
        seed: Of the moments.
    """
    limits = Limits.of(n_kills)
    prepare(made, limits)
    moments = random.Random(seed)
    callers = Callers()
    callers.through_kills(partial(living, made.engine), n_kills, moments, LONGEST_LIFE_SECONDS)
    with living(made.engine) as server, callers.calling(server.port):
        callers.finish()
    return {
        "backend": made.engine.dialect.name,
        "kills": n_kills,
        "unanswered": callers.n_unanswered,
        **inspect(made.engine, callers, limits),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the database holds.

    Attributes:
        redeemed: Redemptions by decision.
        given: Vouchers by decision.
        facts: How many conversions tell of a redemption, by decision.
        entries: Points by decision and reason.
        listed: Who has a code of the list, by code; None for nobody.
        counted: Number and cost of redemptions, by campaign and prize.
    """

    redeemed: Mapping[str, Row[Any]]
    given: Mapping[str, Row[Any]]
    facts: Counter[str]
    entries: Mapping[tuple[str, str], int]
    listed: Mapping[str, str | None]
    counted: Mapping[tuple[str, str], tuple[int, float]]

    @classmethod
    def by(cls, engine: Engine) -> Kept:
        """Read all of it."""
        told = select(interactions.c.event_id).where(interactions.c.source == REDEMPTION)
        with engine.connect() as conn:
            return cls(
                redeemed={row.decision_id: row for row in conn.execute(select(redemptions))},
                given={row.decision_id: row for row in conn.execute(select(vouchers))},
                facts=Counter(conn.scalars(told)),
                entries={
                    (row.decision_id, row.reason): row.points for row in conn.execute(select(points_entries))
                },
                listed={row.code: row.decision_id for row in conn.execute(select(coupon_codes))},
                counted={
                    (row.campaign_id, row.prize_id): (row.n, row.cost_minor)
                    for row in conn.execute(select(redemption_counts))
                },
            )

    @property
    def by_campaign(self) -> Counter[str]:
        """Redemptions of each campaign."""
        return Counter(row.campaign_id for row in self.redeemed.values())

    @property
    def coupons_by_customer(self) -> Counter[str]:
        """Redemptions of coupons by each customer."""
        return Counter(row.customer_id for row in self.redeemed.values() if row.campaign_id == COUPONS)

    @property
    def n_won(self) -> int:
        """Prizes that were given."""
        return sum(row.prize is not None for row in self.redeemed.values())


def inspect(engine: Engine, callers: Callers, limits: Limits) -> dict[str, Any]:
    """What happened, and what is wrong with what the database holds."""
    kept, sales = Kept.by(engine), callers.sales.values()
    return {
        "sales": len(sales),
        "vouchers": len(kept.given),
        "redeemed": dict(kept.by_campaign),
        "by": dict(Counter(row.source for row in kept.redeemed.values())),
        "acknowledged": sum(sale.redeemed is not None for sale in sales),
        "refused": sum(bool(sale.refused) for sale in sales),
        "coupons_left": limits.most - kept.by_campaign[COUPONS],
        "codes_left": sum(decision_id is None for decision_id in kept.listed.values()),
        "prizes_left": limits.n_prizes - kept.n_won,
        "lost": sum(_lost(sale, kept) for sale in sales),
        "changed": callers.n_changed + sum(_changed(sale, kept) for sale in sales),
        "doubled": _doubled(kept),
        "torn": _torn(kept),
        "miscounted": _miscounted(kept),
        "over_limit": _over_limit(kept, limits),
        "refused_wrongly": sum(_refused_wrongly(sale, kept, limits) for sale in sales),
        "other_statuses": dict(callers.other_statuses),
    }


def _lost(sale: Sale, kept: Kept) -> bool:
    return (sale.redeemed is not None and sale.decision_id not in kept.redeemed) or (
        sale.voucher is not None and sale.decision_id not in kept.given
    )


def _changed(sale: Sale, kept: Kept) -> bool:
    row, voucher = kept.redeemed.get(sale.decision_id), kept.given.get(sale.decision_id)
    told = sale.redeemed or {}
    return (row is not None and any(getattr(row, name) != told[name] for name in _TOLD & told.keys())) or (
        voucher is not None and sale.voucher is not None and sale.voucher["coupon"] != voucher.code
    )


def _doubled(kept: Kept) -> int:
    own = Counter(row.code for row in kept.given.values() if row.code != FALLBACK)
    return sum(n > 1 for n in (*kept.facts.values(), *own.values()))


def _torn(kept: Kept) -> int:
    """What is there without the rest of it."""
    entries = {
        (decision_id, reason): points
        for rows, reason, points in ((kept.given, GIVEN, N_POINTS), (kept.redeemed, REDEEMED, -N_POINTS))
        for decision_id, row in rows.items()
        if row.campaign_id == POINTS
    }
    taken = {(code, decision_id) for code, decision_id in kept.listed.items() if decision_id is not None}
    said = {(row.code, row.decision_id) for row in kept.given.values() if row.code in kept.listed}
    return (
        len(kept.redeemed.keys() ^ kept.facts.keys())
        + len(kept.redeemed.keys() - kept.given.keys())
        + len(kept.entries.items() ^ entries.items())
        + len(taken ^ said)
    )


def _miscounted(kept: Kept) -> int:
    """Rows of counts that are not what was redeemed."""
    rows = kept.redeemed.values()
    expected = {
        (one, ALL): (
            kept.by_campaign[one],
            sum(row.cost_minor for row in rows if row.campaign_id == one),
        )
        for one in GIFTS
    }
    expected[DRAWN, PRIZE] = (kept.n_won, 0.0)
    return sum(kept.counted.get(counted) != figures for counted, figures in expected.items())


def _over_limit(kept: Kept, limits: Limits) -> int:
    return (
        max(kept.by_campaign[COUPONS] - limits.most, 0)
        + max(kept.n_won - limits.n_prizes, 0)
        + sum(n > MOST_PER_CUSTOMER for n in kept.coupons_by_customer.values())
    )


def _refused_wrongly(sale: Sale, kept: Kept, limits: Limits) -> bool:
    """Whether somebody was refused what nobody else redeemed and no limit forbids."""
    row = kept.redeemed.get(sale.decision_id)
    if row is not None:
        return row.source in sale.refused
    at_limit = (
        kept.by_campaign[COUPONS] == limits.most
        or kept.coupons_by_customer[sale.customer_id] == MOST_PER_CUSTOMER
    )
    return bool(sale.refused) and not (sale.campaign_id == COUPONS and at_limit)
