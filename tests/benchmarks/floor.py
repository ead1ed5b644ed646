"""What a decision over HTTP would cost if deciding cost nothing, against the bare endpoint of the same run.

    make bench NAME=floor [ARGS="--quick"]

Three services over the installation of `decide`, asked in turn. `whole` is the service as it is. `unchosen` reads the
customer and writes decision, reservations and message as ever, but answers everybody with one choice that was made
before. `nothing` neither reads nor writes: it begins a transaction, commits it, and gives one answer to all. What lies
between them is the price of the choice, and that of the store; below `nothing` no arithmetic gets.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from serving.choosing import Chooser, Chosen
from serving.decide import Decider
from tests.benchmarks.bare import bare_requests, load, serving
from tests.benchmarks.decide_service import CACHE, create

if TYPE_CHECKING:
    from fastapi import FastAPI

    from tests.benchmarks.decide_installation import Installation

_FACTORIES = {
    "whole": "tests.benchmarks.decide_service:create",
    "unchosen": "tests.benchmarks.floor:unchosen",
    "nothing": "tests.benchmarks.floor:nothing",
}


def unchosen() -> FastAPI:
    """A service that chooses once."""
    choose, kept = Chooser.choose, []

    def chosen_before(chooser: Chooser, cases: Sequence[Any], *others: Any) -> Mapping[Any, Chosen]:
        if not kept:
            made = choose(chooser, cases, *others)
            kept.extend(one for one in made.values() if one.decision.action is not None)
            return made
        decision = kept[0].decision
        return {
            case: Chosen(replace(decision, decision_id=case.decision_id, customer_id=case.customer_id))
            for case in cases
        }

    mock.patch.object(Chooser, "choose", chosen_before).start()
    return create()


def nothing() -> FastAPI:
    """A service that decides once."""
    settle, kept = Decider.settle, []

    def settled_before(decider: Decider, conn: Any, dockets: Sequence[Any]) -> list[list[Any]]:
        if not kept:
            made = settle(decider, conn, dockets)
            kept.extend(made[0])
            return made
        return [kept[:1] * len(docket.cases) for docket in dockets]

    mock.patch.object(Decider, "settle", settled_before).start()
    return create()


def measure(made: Installation, wanted: argparse.Namespace) -> dict[str, object]:
    """Every figure of the benchmark."""
    # Not above: the services import this module too, and these load what only installing takes.
    from tests.benchmarks.batch import batches
    from tests.benchmarks.decide import CONNECTIONS, WARM_SECONDS, decisions, median

    p50, per_second = defaultdict(list), defaultdict(list)
    environment = made.environment | {CACHE: WARM_SECONDS}
    with contextlib.ExitStack() as open_servers:
        bare = open_servers.enter_context(serving("tests.benchmarks.bare:create"))
        servers = {
            name: open_servers.enter_context(serving(factory, environment, "/healthz"))
            for name, factory in _FACTORIES.items()
        }
        n_each = wanted.one + wanted.many
        load(bare.port, bare_requests(500))
        # Everybody has customers of their own: what one service records the others would have to read.
        first_of = {name: at * wanted.rounds * n_each for at, name in enumerate(servers)}
        for name, server in servers.items():
            load(server.port, batches(first_of[name], wanted.rounds * n_each, wanted.customers))
        for number in range(wanted.rounds):
            bare_ms = load(bare.port, bare_requests(wanted.one)).quantile_ms(0.5)
            bare_rps = load(bare.port, bare_requests(wanted.many), CONNECTIONS).per_second
            for name, server in servers.items():
                first = first_of[name] + number * n_each
                one = load(server.port, decisions(first, wanted.one, wanted.customers))
                many = load(
                    server.port, decisions(first + wanted.one, wanted.many, wanted.customers), CONNECTIONS
                )
                assert set(one.statuses) == set(many.statuses) == {200}, (one.statuses, many.statuses)
                p50[name].append(one.quantile_ms(0.5) / bare_ms)
                per_second[name].append(many.per_second / bare_rps)
    return {
        "bench": "floor",
        "p50_over_bare": {name: median(ratios) for name, ratios in p50.items()},
        "rps_over_bare": {name: median(ratios) for name, ratios in per_second.items()},
        "rounds": wanted.rounds,
    }


def main(arguments: list[str]) -> int:
    """Measure, print the figures, then one line of JSON; there is no bar."""
    from tests.benchmarks.decide import installation, options, print_table

    wanted = options(__doc__, arguments)
    with installation(wanted) as made:
        print_table(measure(made, wanted))
    return 0
