"""kill -9 of a service that works on a plan: everybody is decided for once, and counted once.

    make chaos NAME=plan_kill [ARGS="--kills 20 --postgres"]

A plan is made for a few thousand customers, with fewer SMS a day than there are people who want one. The process that works
on it is killed at random moments and started again; the next one goes on when the first is known to be dead. In the
end every customer must have one decision, the plan must have counted what the database holds, and no capacity may be exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time as clock
from collections import Counter
from dataclasses import replace

import httpx
from sqlalchemy import Engine, select, update

from features.history.channels import load_channels
from features.history.tables import customers as customers_table
from features.history.tables import decisions, outbox, plans
from models.domain.campaign import PolicyName
from tests.chaos.decide_kill import CAMPAIGN, living, market
from tests.integration.conftest import Market

N_CUSTOMERS, N_SMS = 12_000, 400
# A life: from when the plan goes on to its end.
LONGEST_LIFE_SECONDS = 0.15


def main(arguments: list[str]) -> int:
    """Kill the service again and again; 1 where somebody was forgotten, decided for twice or miscounted."""
    parser = argparse.ArgumentParser(prog="plan_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--customers", type=int, default=N_CUSTOMERS)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with market(chosen.postgres) as made:
        found = kill(made, chosen.customers, chosen.kills, chosen.seed)
    sys.stdout.write(json.dumps({"chaos": "plan_kill", **found}) + "\n")
    wrong = ("forgotten", "twice", "miscounted", "over_capacity", "without_message")
    return int(found["status"] != "finished" or any(found[key] for key in wrong))


def kill(made: Market, n_customers: int, n_kills: int, seed: int = 1) -> dict[str, object]:
    """Kill the service that often while it works on a plan, then let it finish.

    Args:
        made: A market with a campaign.
        n_customers: More than are decided for before the last kill.
        n_kills: How often.
        seed: Of the moments.
    """
    people = [f"p-{number}" for number in range(n_customers)]
    made.customers(*people)
    made.campaign(CAMPAIGN, policy=PolicyName.GREEDY)
    with made.engine.connect() as conn:
        sms = load_channels(conn)["sms"]
    made.channel(replace(sms, capacity_per_day=N_SMS))
    moments = random.Random(seed)
    plan_id, n_killed, at = None, 0, []
    while True:
        with (
            living(made.engine) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client,
        ):
            if plan_id is None:
                plan_id = client.post("/v1/plans", json={"campaign_id": CAMPAIGN}).json()["plan_id"]
            before = _wait(client, plan_id, beyond=at[-1] if at else -1)
            if before["status"] == "finished" or n_killed == n_kills:
                _wait(client, plan_id)
                break
            clock.sleep(moments.uniform(0, LONGEST_LIFE_SECONDS))
            os.kill(server.pid, signal.SIGKILL)
        n_killed += 1
        at.append(_n_decided(made.engine, plan_id))
        # It would be taken to be dead a while later: nobody has to wait for that here.
        with made.engine.begin() as conn:
            conn.execute(update(plans).values(held_until=None))
    return {"backend": made.engine.dialect.name, "kills": n_killed, "killed_at": at} | inspect(
        made.engine, plan_id
    )


def inspect(engine: Engine, plan_id: str) -> dict[str, object]:
    """What is wrong with a plan that has ended."""
    with engine.connect() as conn:
        (plan,) = conn.execute(select(plans).where(plans.c.plan_id == plan_id)).all()
        rows = conn.execute(
            select(decisions.c.decision_id, decisions.c.customer_id, decisions.c.channel)
        ).all()
        people = set(conn.scalars(select(customers_table.c.customer_id)))
        messages = Counter(conn.scalars(select(outbox.c.decision_id)))
        by_day = Counter(
            (row.channel, row.send_at.date())
            for row in conn.execute(select(outbox.c.channel, outbox.c.send_at))
        )
    decided = Counter(row.customer_id for row in rows)
    contacts = Counter(row.channel for row in rows if row.channel is not None)
    return {
        "status": plan.status,
        "members": plan.n_members,
        "decided": plan.n_decided,
        "contacts": dict(contacts),
        "forgotten": len(people - decided.keys()),
        "twice": sum(n > 1 for n in decided.values()),
        "miscounted": int(plan.n_decided != len(rows)) + int(Counter(plan.contacts) != contacts),
        "over_capacity": sum(n > N_SMS for (channel, _), n in by_day.items() if channel == "sms"),
        "without_message": sum(messages[row.decision_id] != 1 for row in rows if row.channel is not None),
    }


def _wait(client: httpx.Client, plan_id: str, beyond: int | None = None) -> dict[str, object]:
    """The plan once it has ended, or is beyond so many decisions."""
    ends_at = clock.monotonic() + 120
    while clock.monotonic() < ends_at:
        plan: dict[str, object] = client.get(f"/v1/plans/{plan_id}").json()
        if plan["status"] not in ("forecasting", "running"):
            return plan
        if beyond is not None and int(str(plan["n_decided"])) > beyond:
            return plan
        clock.sleep(0.01)
    raise TimeoutError(f"the plan does not go on: {plan}")


def _n_decided(engine: Engine, plan_id: str) -> int:
    with engine.connect() as conn:
        return int(conn.scalar(select(plans.c.n_decided).where(plans.c.plan_id == plan_id)) or 0)
