"""A simulated history as the files that `nextchannel import` reads: something to try things out on."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from features.history.documents import to_document
from models.domain.channel import Channel
from models.domain.decision import Decision
from models.domain.interaction import Interaction
from training.simulator.history import SimulatedHistory, simulate_history
from training.simulator.market import Market


def export_history(market: Market, folder: Path, now: datetime, rng: np.random.Generator) -> None:
    """Write what a company would have kept: two months of behaviour, four weeks of randomised contact.

    Files: `campaign.json` (still open), `customers.csv`, `decisions.csv`, `interactions.csv`, and `audience.csv` with
    everybody. Existing files of these names are replaced.

    Args:
        market: A fresh one; it is moved on.
        folder: Made where it does not exist.
        now: Aware; the history ends here.
        rng: Source of chance.
    """
    history = simulate_history(market, now, rng)
    people = _customers(history, tuple(market.channels().values()))
    facts = [fact for fact in history.interactions if fact.occurred_at <= now]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.json").write_text(
        json.dumps(to_document(history.campaign), indent=2) + "\n", encoding="utf-8"
    )
    _write(folder / "customers.csv", people)
    _write(folder / "decisions.csv", map(_decision, history.log.decisions()))
    _write(folder / "interactions.csv", map(_interaction, facts))
    _write(folder / "audience.csv", ({"customer_id": name} for name in market.customer_ids()))


def _customers(history: SimulatedHistory, channels: Sequence[Channel]) -> list[dict[str, object]]:
    points: dict[str, dict[str, str]] = defaultdict(dict)
    for identity in history.identities:
        points[identity.customer_id][identity.kind.value] = identity.value
    for consent in history.consents:
        points[consent.customer_id][f"consent_{consent.channel}"] = consent.status.value
    kinds = sorted({channel.identity_kind.value for channel in channels})
    columns = [*kinds, *(f"consent_{channel.name}" for channel in channels)]
    return [
        {
            "customer_id": person.customer_id,
            "time_zone": person.time_zone,
            "created_at": person.created_at.isoformat(),
            **{column: points[person.customer_id].get(column, "") for column in columns},
            **{f"attr_{name}": value for name, value in person.attributes.items()},
        }
        for person in history.customers
    ]


def _decision(decision: Decision) -> dict[str, object]:
    action = decision.action
    return {
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "campaign_id": decision.campaign_id,
        "decided_at": decision.decided_at.isoformat(),
        "offer_id": action.offer if action else "",
        "channel": action.channel if action else "",
        "slot": action.slot if action else "",
        "send_at": action.send_at.isoformat() if action else "",
        "propensity": decision.propensity,
        "cost_minor": decision.expected.cost_minor,
        "policy": decision.policy,
        "policy_version": decision.policy_version,
    }


def _interaction(fact: Interaction) -> dict[str, object]:
    return {
        "source": fact.source,
        "event_id": fact.event_id,
        "customer_id": fact.customer_id,
        "kind": fact.kind.value,
        "occurred_at": fact.occurred_at.isoformat(),
        "channel": fact.channel or "",
        "campaign_id": fact.campaign_id or "",
        "offer_id": fact.offer_id or "",
        "decision_id": fact.decision_id or "",
        "value_minor": "" if fact.value_minor is None else fact.value_minor,
        "machine_made": str(fact.machine_made).lower(),
    }


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, fieldnames=list(row))
                writer.writeheader()
            writer.writerow(row)
