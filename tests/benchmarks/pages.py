"""How long somebody waits for a page over a large history, and whether decisions are taken while it is counted up.

    make bench NAME=pages [ARGS="--quick --postgres"]

The installation is that of `decide`: everybody is decided for twice, and what became of the messages is recorded. Then the report
is looked at again and again while decisions are asked for: what is new has to be counted first, in the same service.
`refused_while_counting` are answers other than 200 meanwhile. Once all is counted every page is looked at, another customer and
another decision each time. `scan_s` is how long it takes to read the history's decisions once.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine, func, select

from features.history.append import append_interactions
from features.history.engine import connect, read_only
from features.history.tables import decisions as decided
from features.identity.vault import KEY_FILE, ContactVault
from models.domain.interaction import Interaction, InteractionKind
from tests.benchmarks.bare import Load, Server, load, load_all, serving
from tests.benchmarks.batch import batches
from tests.benchmarks.decide import FACTORY, WARM_SECONDS, decisions, judged
from tests.benchmarks.decide_installation import Installation
from tests.benchmarks.decide_service import CACHE

_BAR_MS, _BAR_OVER_SCAN = 300.0, 0.05
_AT_ONCE = 10_000
_LOOKS = 60
_REPORT = "/v1/report?campaign_id=spring"
# Share of the messages that are opened; of those, clicked; of the customers, who buy.
_OPENED, _CLICKED, _BOUGHT = 0.3, 0.2, 0.05


def main(arguments: list[str]) -> int:
    """Measure, print the figures, then one line of JSON; 1 where a bar is missed."""
    return judged(measure, __doc__, arguments)


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    engine = connect(made.database_url, ContactVault(made.home / KEY_FILE))
    with serving(FACTORY, made.environment | {CACHE: WARM_SECONDS}, "/healthz") as server:
        n_decisions = 2 * wanted.customers
        load(server.port, batches(0, n_decisions, wanted.customers))
        n_facts = _record_facts(engine)
        before = time.perf_counter()
        _reports, asked = load_all(
            [(server.port, [_get(_REPORT)] * 10), (server.port, decisions(0, wanted.many, wanted.customers))],
            1,
        )
        n_counted = _count_up(server, n_decisions)
        counting_seconds = time.perf_counter() - before
        looks = {name: load(server.port, requests) for name, requests in _pages(engine)}
    scan_seconds = _scan(engine)
    engine.dispose()
    by_page = {name: round(one.quantile_ms(0.95), 1) for name, one in looks.items()}
    worst = max(by_page.values())
    return {
        "bench": "pages",
        "backend": "postgresql" if wanted.postgres else "sqlite",
        "p95_ms": worst,
        "p95_over_scan": round(worst / 1_000 / scan_seconds, 4),
        # Either bar is enough.
        "share_of_a_bar": round(min(worst / _BAR_MS, worst / 1_000 / scan_seconds / _BAR_OVER_SCAN), 3),
        "p95_ms_by_page": by_page,
        "failed": sum(_refused(one) for one in looks.values()),
        "refused_while_counting": _refused(asked),
        "decision_p50_ms_while_counting": round(asked.quantile_ms(0.5), 2),
        "decision_p99_ms_while_counting": round(asked.quantile_ms(0.99), 1),
        "slowest_decision_ms_while_counting": round(asked.quantile_ms(1.0), 1),
        "counted_per_s": round(n_counted / counting_seconds),
        "scan_s": round(scan_seconds, 3),
        "decisions": n_decisions,
        "facts": n_facts,
    }


def _record_facts(engine: Engine) -> int:
    """What became of the messages, received now; how many facts there are."""
    draw = random.Random(7)
    with read_only(engine).connect() as conn:
        rows = conn.execute(
            select(
                decided.c.decision_id, decided.c.customer_id, decided.c.channel, decided.c.decided_at
            ).where(decided.c.campaign_id == "spring")
        ).all()
    n = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for start in progress.track(range(0, len(rows), _AT_ONCE), description="what became of them"):
            facts = [fact for row in rows[start : start + _AT_ONCE] for fact in _became(row, draw)]
            with engine.begin() as conn:
                append_interactions(conn, facts, datetime.now(UTC))
            n += len(facts)
    return n


def _became(row: object, draw: random.Random) -> Iterator[Interaction]:
    kinds = []
    if row.channel is not None:  # type: ignore[attr-defined]
        kinds.append(InteractionKind.SENT)
        if draw.random() < _OPENED:
            kinds.append(InteractionKind.OPENED)
            kinds += [InteractionKind.CLICKED] if draw.random() < _CLICKED else []
    if draw.random() < _BOUGHT:
        kinds.append(InteractionKind.CONVERTED)
    for number, kind in enumerate(kinds):
        yield Interaction(
            source="bench",
            event_id=f"{row.decision_id}-{number}",  # type: ignore[attr-defined]
            customer_id=row.customer_id,  # type: ignore[attr-defined]
            kind=kind,
            occurred_at=row.decided_at + timedelta(milliseconds=number),  # type: ignore[attr-defined]
            channel=row.channel,  # type: ignore[attr-defined]
            decision_id=None if kind is InteractionKind.CONVERTED else row.decision_id,  # type: ignore[attr-defined]
            value_minor=2_500.0 if kind is InteractionKind.CONVERTED else None,
        )


def _count_up(server: Server, n_decisions: int) -> int:
    """Look at the report until nobody waits to be counted; how many decisions it speaks of.

    Raises:
        AssertionError: it does not speak of all of them.
    """
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{_REPORT}", timeout=600) as answer:
            report = json.load(answer)
        if report["up_to_date"]:
            break
        sys.stderr.write(f"  {report['n_waiting']} customers wait\n")
    assert report["n_decisions"] >= n_decisions, report["n_decisions"]
    return int(report["n_decisions"])


def _pages(engine: Engine) -> Iterator[tuple[str, list[bytes]]]:
    """Every page with requests for it."""
    with read_only(engine).connect() as conn:
        rows = conn.execute(
            select(decided.c.customer_id, decided.c.decision_id)
            .where(decided.c.campaign_id == "spring")
            .order_by(decided.c.decision_id)
            .limit(_LOOKS)
        ).all()
    yield "/", [_get("/?campaign=spring")] * _LOOKS
    yield "/v1/report", [_get(_REPORT)] * _LOOKS
    yield "/customers/{id}", [_get(f"/customers/{row.customer_id}") for row in rows]
    yield "/decisions/{id}", [_get(f"/decisions/{row.decision_id}") for row in rows]
    yield "/calls", [_get("/calls")] * _LOOKS
    yield "/plans", [_get("/plans")] * _LOOKS


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def _refused(answered: Load) -> int:
    return sum(n for status, n in answered.statuses.items() if status != 200)


def _scan(engine: Engine) -> float:
    """Seconds to read every decision once."""
    with read_only(engine).connect() as conn:
        before = time.perf_counter()
        conn.execute(select(func.count(), func.sum(func.length(decided.c.evidence)))).all()
        return time.perf_counter() - before
