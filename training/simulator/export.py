"""A simulated history as the files that `nextchannel import` reads: something to try things out on."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from features.history.documents import to_document
from models.domain.decision import Decision
from models.domain.interaction import Interaction
from training.simulator.market import Market
from training.simulator.randomised import randomised_log

_PRIOR_DAYS = 60
_WARM_UP_DAYS = 28
# The attribution window of the last decisions has closed by then.
_SETTLING_DAYS = 8
_DECISIONS_PER_CUSTOMER = 3
_NO_CONTACT_SHARE = 0.2


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
    warm_up_at = now - timedelta(days=_SETTLING_DAYS + _WARM_UP_DAYS)
    begins_at = warm_up_at - timedelta(days=_PRIOR_DAYS)
    campaign = market.campaign(warm_up_at, days=400)
    people, prior = _customers(market, begins_at), market.prior_history(begins_at, _PRIOR_DAYS)
    log = randomised_log(
        market,
        campaign,
        warm_up_at,
        days=_WARM_UP_DAYS,
        decisions_per_day=max(1, market.n_customers * _DECISIONS_PER_CUSTOMER // _WARM_UP_DAYS),
        no_contact_share=_NO_CONTACT_SHARE,
        rng=rng,
    )
    facts = [fact for fact in (*prior, *log.interactions) if fact.occurred_at <= now]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.json").write_text(
        json.dumps(to_document(campaign), indent=2) + "\n", encoding="utf-8"
    )
    _write(folder / "customers.csv", people)
    _write(folder / "decisions.csv", map(_decision, log.decisions()))
    _write(folder / "interactions.csv", map(_interaction, facts))
    _write(folder / "audience.csv", ({"customer_id": name} for name in market.customer_ids()))


def _customers(market: Market, now: datetime) -> list[dict[str, object]]:
    points: dict[str, dict[str, str]] = defaultdict(dict)
    for identity in market.identities(now):
        points[identity.customer_id][identity.kind.value] = identity.value
    for consent in market.consents(now):
        points[consent.customer_id][f"consent_{consent.channel}"] = consent.status.value
    kinds = sorted({channel.identity_kind.value for channel in market.channels().values()})
    columns = [*kinds, *(f"consent_{name}" for name in market.channels())]
    return [
        {
            "customer_id": person.customer_id,
            "time_zone": person.time_zone,
            "created_at": person.created_at.isoformat(),
            **{column: points[person.customer_id].get(column, "") for column in columns},
            **{f"attr_{name}": value for name, value in person.attributes.items()},
        }
        for person in market.customers(now)
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
