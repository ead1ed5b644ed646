"""CPU of one pure decision: 8 channels x 12 slots, features given, no HTTP and no database.

    python tests/benchmarks/core.py [--decisions 2000] [--simulated 1000000]

The response model is fitted on a simulated log; its forests are then replaced by ones of the largest size, 200
trees of 31 leaves, fitted on the same log. Every decision is for another customer, so that no cache is warm.
`--simulated` also takes that many decisions in batches, under campaigns whose rules are drawn at random, and holds
each against the plain rules.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from unittest import mock

import lightgbm
import numpy as np

import models.choose
from models.candidates import Standing, candidates, judge
from models.choice import Float32Array
from models.choose import Choices, choose
from models.domain.campaign import Campaign, Caps, Content, Offer, PolicyName, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind, IdentityKind, Touch
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, Customer, MessageClass, PastContact
from models.domain.eligibility import Limits, eligible
from models.domain.experiment import Experiment
from models.logged import LoggedRows
from models.policy.bandit import Bandit
from models.policy.events import response_events
from models.policy.registry import build_policies
from models.policy.segments import Segments
from models.response.boosting import Trees, sigmoid
from models.response.model import FittedResponse, fit_response
from serving.answer import Setting, to_decision
from serving.money import Currency
from tests.benchmarks.bars import exit_code

N_FEATURES = 60
N_LOGGED = 12_000
N_CUSTOMERS = 4_000
BATCH = 2_000
NOW = datetime(2026, 3, 28, 22, tzinfo=UTC)
ZONES = ("Asia/Taipei", "Asia/Tokyo", "Europe/Berlin", "America/New_York", "Australia/Sydney")
CHANNELS = {channel.name: replace(channel, cost_minor=1.0) for channel in DEFAULT_CHANNELS[:8]}
SLOTS = tuple(time(hour) for hour in range(0, 24, 2))
TEXT = Content(body="The spring collection is here.", subject="Spring", link_url="https://shop.example.com")
CAMPAIGN = Campaign(
    campaign_id="spring",
    send_window=SendWindow(starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=30)),
    slots=SLOTS,
    offers=(Offer(offer_id="coats", margin_minor=3_000.0, content=dict.fromkeys(ContentKind, TEXT)),),
    channels=tuple(CHANNELS),
    experiment=Experiment(experiment_id="spring"),
    conversion_value_minor=3_000.0,
    caps=Caps(contacts=4, contacts_per_channel=3),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that decisions are taken with."""

    response: FittedResponse
    bandit: Bandit
    features: np.ndarray
    people: tuple[Customer, ...]


def logged(rng: np.random.Generator, names: Sequence[str]) -> LoggedRows:
    """A randomised log of customers whose features decide what they open and buy."""
    n = N_LOGGED
    x = rng.normal(size=(n, len(names)))
    channel, slot = rng.integers(-1, len(CHANNELS), n), rng.integers(0, len(SLOTS), n)
    contacted = channel >= 0
    p_open = sigmoid(-1.5 + 0.5 * x[:, 0] + 0.6 * x[:, 1] * np.sin(slot / 2) + 0.3 * x[:, 2] * (channel % 3))
    opened = rng.random(n) < p_open
    converted = rng.random(n) < np.clip(0.03 + 0.02 * x[:, 3] + 0.1 * (opened & contacted), 0, 1)
    x[rng.random(x.shape) < 0.05] = np.nan
    return LoggedRows(
        offers=("coats",),
        channels=CAMPAIGN.channels,
        slots=SLOTS,
        feature_names=tuple(names),
        features=x,
        customer=np.arange(n),
        offer=np.where(contacted, 0, -1),
        channel=channel,
        slot=np.where(contacted, slot, -1),
        propensity=np.full(n, 1 / 97),
        decided_at=1.7e9 + 60.0 * np.arange(n),
        opened=np.where(contacted, opened, np.nan),
        clicked=np.where(contacted, opened & (rng.random(n) < 0.4), np.nan),
        converted=converted.astype(np.float64),
        value_minor=3_000.0 * converted,
        cost_minor=contacted.astype(np.float64),
        unsubscribed=(contacted & (rng.random(n) < 0.003)).astype(np.float64),
        randomised=np.ones(n, dtype=np.bool_),
    )


def forest(rows: Float32Array, label: np.ndarray) -> Trees:
    """The largest forest that a response model may have: 200 trees of 31 leaves."""
    settings = {
        "objective": "binary",
        "num_leaves": 31,
        "min_data_in_leaf": 5,
        "num_threads": 1,
        "verbose": -1,
    }
    grown = lightgbm.train(settings, lightgbm.Dataset(rows, label), num_boost_round=200)
    return Trees(grown.model_to_string())


def fitted_world(
    seed: int, names: Sequence[str] = tuple(f"x{column}" for column in range(N_FEATURES))
) -> World:
    """A fitted response model with full forests, a bandit that has learned, and varied customers."""
    rng = np.random.default_rng(seed)
    rows = logged(rng, names)
    response = fit_response(rows, CHANNELS, attention_value_minor=500.0, seed=seed)
    x = rows.features.astype(np.float32)
    hour = np.array([slot.hour for slot in SLOTS])[rows.slot]
    angle = 2 * np.pi * hour / 24
    sent = rows.contacted
    by_channel = forest(np.column_stack([x, rows.channel])[sent].astype(np.float32), rows.opened[sent])
    by_slot = forest(
        np.column_stack([x, hour, np.sin(angle), np.cos(angle)])[sent].astype(np.float32), rows.opened[sent]
    )
    response.opens = replace(response.opens, by_channel=by_channel, by_slot=by_slot)
    response.convert = replace(
        response.convert, trees=forest(np.column_stack([x, sent]).astype(np.float32), rows.converted)
    )
    segments = Segments.by_quantile(rows.features, rows.feature_names, rows.feature_names[0])
    p_open = response.predict(rows.features, rows.grid, CHANNELS).p_open
    bandit = Bandit.fresh(CAMPAIGN.channels, SLOTS, segments).warm_start(
        response_events(rows, p_open, segments, CHANNELS)
    )
    features = rng.normal(size=(N_CUSTOMERS, len(names)))
    features[rng.random(features.shape) < 0.05] = np.nan
    draw = random.Random(seed)
    people = tuple(customer(f"c-{row}", draw) for row in range(N_CUSTOMERS))
    return World(response=response, bandit=bandit, features=features, people=people)


def customer(customer_id: str, draw: random.Random) -> Customer:
    """A customer with most accounts, most permissions, and a few contacts of late."""
    consents = {
        (name, "marketing"): ConsentStatus.GRANTED if draw.random() < 0.8 else draw.choice([*ConsentStatus])
        for name in CAMPAIGN.channels
        if draw.random() < 0.9
    }
    if draw.random() < 0.02:
        consents[EVERY_CHANNEL, "marketing"] = ConsentStatus.UNSUBSCRIBED
    return Customer(
        customer_id=customer_id,
        time_zone=draw.choice(ZONES),
        identities={kind: "x" for kind in IdentityKind if draw.random() < 0.8},
        consents=consents,
        contacts=tuple(
            PastContact(
                channel=draw.choice(CAMPAIGN.channels),
                campaign_id=draw.choice(["spring", "winter"]),
                contacted_at=NOW - timedelta(hours=draw.randrange(400)),
                message_class=draw.choice([*MessageClass]),
            )
            for _ in range(draw.randrange(6))
        ),
        replied_at={
            name: NOW - timedelta(hours=draw.randrange(72))
            for name in ("whatsapp", "messenger", "instagram")
            if draw.random() < 0.5
        },
    )


def decide(world: World, rows: Sequence[int], campaign: Campaign, now: datetime, limits: Limits) -> Choices:
    """Choose for some customers."""
    return choose(
        campaign,
        CHANNELS,
        [world.people[row] for row in rows],
        world.features[rows],
        world.response,
        build_policies(campaign, world.bandit),
        [f"{now.isoformat()}/{row}" for row in rows],
        now,
        limits,
    )


def one_by_one(world: World, n: int) -> list[float]:
    """CPU of each whole decision, its `Decision` included, in seconds."""
    policies = build_policies(CAMPAIGN, world.bandit)
    setting = Setting(
        campaign=CAMPAIGN,
        channels=CHANNELS,
        model_version="1",
        feature_names=world.response.feature_names,
        currency=Currency(),
        now=NOW,
    )
    spent = []
    for number in range(n):
        row = number % N_CUSTOMERS
        person, features = world.people[row], world.features[row : row + 1]
        before = clock.process_time()
        made = choose(CAMPAIGN, CHANNELS, [person], features, world.response, policies, [f"d-{number}"], NOW)
        to_decision(
            made,
            0,
            setting,
            decision_id=f"d-{number}",
            customer=person,
            features=features[0],
            degraded=(),
            dry_run=False,
        )
        spent.append(clock.process_time() - before)
    return spent


@contextmanager
def stopwatches() -> Iterator[Counter[str]]:
    """Seconds of CPU by stage, of the decisions taken meanwhile."""
    spent: Counter[str] = Counter()

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **named: Any) -> Any:
            before = clock.process_time()
            answer = function(*args, **named)
            spent[stage] += clock.process_time() - before
            return answer

        return measured

    here = sys.modules[__name__]
    with ExitStack() as patches:
        for where, name, stage in (
            (models.choose, "eligible", "eligibility"),
            (models.choose, "mask_of", "mask"),
            (FittedResponse, "predict", "predict"),
            (models.choose, "net_value", "value"),
            (Bandit, "distribution", "bandit"),
            (models.choose, "sample", "sample"),
            (here, "to_decision", "decision"),
        ):
            patches.enter_context(mock.patch.object(where, name, timed(stage, getattr(where, name))))
        yield spent


def crowd(world: World) -> dict[str, float]:
    """Seconds of CPU to judge 100,000 customers: from `Customer` objects, and from arrays; masks included."""
    people = world.people * (100_000 // N_CUSTOMERS)
    start = clock.process_time()
    candidates(CAMPAIGN, CHANNELS, people, NOW).mask  # noqa: B018 - what it costs is what is asked
    from_objects = clock.process_time() - start
    standing = Standing.of(CAMPAIGN, CHANNELS, people, NOW)
    start = clock.process_time()
    judge(CAMPAIGN, CHANNELS, standing, NOW).mask  # noqa: B018
    return {"objects": round(from_objects, 3), "arrays": round(clock.process_time() - start, 3)}


def any_campaign(draw: random.Random) -> Campaign:
    """The campaign under rules drawn at random."""
    classes = frozenset(draw.sample([*MessageClass], draw.choice([1, 2])))
    return replace(
        CAMPAIGN,
        policy=draw.choice([PolicyName.BANDIT, PolicyName.GREEDY, PolicyName.UNIFORM]),
        experiment=Experiment(experiment_id="spring", holdout_share=0.05, control_share=0.1),
        message_class=draw.choice([*MessageClass]),
        pinned_channel=draw.choice([None, None, *CAMPAIGN.channels]),
        touch_levels=draw.choice([frozenset(Touch), frozenset({Touch.TECH})]),
        quiet_hours=QuietHours(start=time(draw.randrange(24)), end=time(8), message_classes=classes),
        caps=Caps(
            contacts=draw.choice([None, 2, 4]),
            contacts_on={draw.choice(CAMPAIGN.channels): draw.randrange(2)},
            contacts_per_campaign=draw.choice([None, 1]),
            message_classes=classes,
        ),
        send_window=replace(CAMPAIGN.send_window, in_local_time=draw.random() < 0.5),
        offers=(
            replace(
                CAMPAIGN.offers[0],
                content={
                    kind: replace(TEXT, body="x" * draw.choice([10, 1_200, 3_000]))
                    for kind in draw.sample([*ContentKind], 3)
                },
            ),
        ),
    )


def simulated(world: World, n: int, seed: int) -> dict[str, float]:
    """Take n decisions in batches and hold each against the plain rules."""
    draw = random.Random(seed)
    found = {"decisions": 0, "contacts": 0, "ineligible": 0, "furthest_sum_from_1": 0.0}
    while found["decisions"] < n:
        campaign = any_campaign(draw)
        limits = Limits(
            budget_left_minor=draw.choice([None, 0.5]) if draw.random() < 0.1 else None,
            capacity_left={draw.choice(CAMPAIGN.channels): draw.randrange(2)},
            channels_down=frozenset(draw.sample(CAMPAIGN.channels, draw.randrange(2))),
        )
        now = NOW + timedelta(minutes=draw.randrange(20 * 24 * 60))
        rows = draw.sample(range(N_CUSTOMERS), min(BATCH, n - found["decisions"]))
        choices = decide(world, rows, campaign, now, limits)
        sums = choices.probabilities.sum(axis=1)
        found["furthest_sum_from_1"] = max(found["furthest_sum_from_1"], float(np.abs(sums - 1).max()))
        found["decisions"] += len(rows)
        for row, action in zip(rows, choices.action.tolist(), strict=True):
            place = choices.grid.unravel(action)
            if place is not None:
                found["contacts"] += 1
                verdict = eligible(campaign, CHANNELS, world.people[row], now, limits)
                found["ineligible"] += verdict.reason(*place) is not None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, then one line of JSON; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=2_000, help="measured one by one")
    parser.add_argument("--simulated", type=int, default=20_000, help="taken in batches and checked")
    parser.add_argument("--seed", type=int, default=11)
    wanted = parser.parse_args(argv)
    world = fitted_world(wanted.seed)
    one_by_one(world, 200)
    spent = np.array(one_by_one(world, wanted.decisions)) * 1_000
    with stopwatches() as stages:
        measured = sum(one_by_one(world, wanted.decisions))
    stages["rest"] = measured - sum(stages.values())
    by_stage = {stage: round(1_000 * seconds / wanted.decisions, 4) for stage, seconds in stages.items()}
    checked = simulated(world, wanted.simulated, wanted.seed)
    figures = {
        "bench": "core",
        "cpu_ms_per_decision": round(float(spent.mean()), 3),
        "cpu_ms_p50": round(float(np.median(spent)), 3),
        "stages": by_stage,
        "customers_100k_cpu_s": crowd(world),
        "simulated": checked,
    }
    sys.stdout.write(
        f"{wanted.decisions} decisions, {len(CHANNELS)} channels x {len(SLOTS)} slots, CPU ms each\n"
    )
    for stage, ms in by_stage.items():
        sys.stdout.write(f"  {stage:<12} {ms:8.3f}\n")
    sys.stdout.write(f"  {'whole':<12} {figures['cpu_ms_per_decision']:8.3f}\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
