"""However often and whenever rewards were settled, they and the outcomes are those of settling everything once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from sqlalchemy import Connection, Engine, Row, Table, delete, func, insert, select

from features.history.append import CustomerRecord, append_customers, append_decisions, append_interactions
from features.history.campaigns import save_campaign
from features.history.channels import seed_channels
from features.history.decisions import decision_row
from features.history.erase import erase_rows
from features.history.members import merge, split
from features.history.reached import reached
from features.history.rewards import settle_in_parts, settle_rewards
from features.history.tables import (
    channel_outcomes,
    customer_members,
    decisions,
    outcomes,
    reservations,
    rewards,
    settlement_marks,
    unsettled,
)
from models.domain.action import Action
from models.domain.campaign import Campaign, Content, Mode, Offer, SendWindow
from models.domain.channel import ContentKind
from models.domain.decision import Decision, Expected, Shadow
from models.domain.experiment import Arm, Experiment
from models.domain.interaction import Interaction, InteractionKind
from serving.store.release import release

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
PEOPLE = [f"c-{i}" for i in range(8)]
CAMPAIGNS = ("spring", "autumn")
# What a campaign counts, and what it does not.
KINDS = (
    *(InteractionKind.SENT, InteractionKind.DELIVERED, InteractionKind.OPENED, InteractionKind.CLICKED),
    *(InteractionKind.BOUNCED, InteractionKind.CONVERTED, InteractionKind.CONVERTED, InteractionKind.VISITED),
)


def campaign(campaign_id: str, margin_minor: float = 900.0) -> Campaign:
    return Campaign(
        campaign_id=campaign_id,
        send_window=SendWindow(starts_at=START, ends_at=START + timedelta(days=30)),
        slots=(time(9), time(18)),
        offers=(
            Offer(offer_id="ten", margin_minor=margin_minor, content={ContentKind.TEXT: Content(body="10")}),
        ),
        channels=("email", "sms"),
        experiment=Experiment(experiment_id=campaign_id),
        conversion_value_minor=1000.0,
        attribution_window_seconds=7 * 86_400,
    )


def decision(draw: random.Random, at: datetime) -> Decision:
    action = action_of(draw, at)
    expected = Expected(
        p_open=None, p_convert=None, p_convert_no_contact=None, uplift=None,
        cost_minor=draw.randrange(1, 9) if action else 0.0, net_value_minor=None,
    )  # fmt: skip
    shadow = None
    if draw.random() < 0.5:
        shadow = Shadow(
            policy="bandit",
            policy_version="1",
            action=action_of(draw, at),
            propensity=0.5,
            expected=expected,
        )
    return Decision(
        decision_id=f"d-{draw.getrandbits(60):x}",
        customer_id=draw.choice(PEOPLE),
        campaign_id=draw.choice(CAMPAIGNS),
        campaign_version=1,
        decided_at=at,
        action=action,
        propensity=0.5,
        expected=expected,
        alternatives=(),
        exclusions=(),
        arm=draw.choice(tuple(Arm)),
        mode=Mode.LIVE,
        policy="uniform",
        policy_version="1",
        degraded=(),
        explanation="",
        shadow=shadow,
        decided_with="d-other" if draw.random() < 0.1 else None,
    )


def action_of(draw: random.Random, at: datetime) -> Action | None:
    channel = draw.choice(("email", "sms", None))
    if channel is None:
        return None
    send_at = at + timedelta(hours=draw.randrange(48))
    return Action(
        offer="ten", channel=channel, slot=0, send_at=send_at, expires_at=send_at + timedelta(days=1)
    )


def known(conn: Connection) -> list[str]:
    """Ids of all decisions."""
    return list(conn.scalars(select(decisions.c.decision_id).order_by(decisions.c.decision_id)))


def decide(conn: Connection, draw: random.Random, now: datetime) -> None:
    """As a request does, which tells nobody."""
    made = decision(draw, now)
    person = conn.scalar(
        select(customer_members.c.person_id).where(customer_members.c.customer_id == made.customer_id)
    )
    conn.execute(
        insert(decisions).values(decision_row(replace(made, customer_id=person or made.customer_id)))
    )
    conn.execute(
        insert(reservations).values(
            decision_id=made.decision_id, resource="budget:spring", amount=1.0, reserved_at=now
        )
    )


def import_one(conn: Connection, draw: random.Random, now: datetime) -> None:
    """A decision of long ago."""
    append_decisions(conn, [decision(draw, now - timedelta(days=draw.randrange(3, 12)))])


def tell(conn: Connection, draw: random.Random, now: datetime) -> None:
    """A fact, at once or late, of the customer or of a decision."""
    made = known(conn)
    about = draw.choice(made) if made and draw.random() < 0.6 else None
    row = conn.execute(select(decisions).where(decisions.c.decision_id == about)).one_or_none()
    fact = Interaction(
        source="law",
        event_id=f"{draw.getrandbits(60):x}",
        customer_id=row.customer_id if row else draw.choice(PEOPLE),
        kind=draw.choice(KINDS),
        occurred_at=now - timedelta(hours=draw.choice((0, 1, 30, 200, 1_500))),
        channel=row.channel if row else None,
        decision_id=about,
        campaign_id=draw.choice((None, *CAMPAIGNS)) if row is None else None,
        value_minor=draw.choice((None, 250.0)),
    )
    append_interactions(conn, [fact], now)


def cancel(conn: Connection, draw: random.Random, now: datetime) -> None:
    """A decision that was taken back."""
    if made := known(conn):
        release(conn, [draw.choice(made)], now)


def join(conn: Connection, draw: random.Random, now: datetime) -> None:
    """Two people turn out to be one."""
    merge(conn, *draw.sample(PEOPLE[:5], 2), now)


def part(conn: Connection, draw: random.Random, now: datetime) -> None:
    """One of them was none of them."""
    absorbed = conn.scalars(
        select(customer_members.c.customer_id).where(customer_members.c.parent_id.is_not(None))
    ).all()
    if absorbed:
        split(conn, draw.choice(sorted(absorbed)), now)


def change(conn: Connection, draw: random.Random, now: datetime) -> None:
    """Another margin."""
    save_campaign(conn, campaign("spring", draw.choice((500.0, 900.0))), now)


def erase(conn: Connection, draw: random.Random, now: datetime) -> None:
    """Somebody leaves; their rows stay without a name."""
    one = draw.choice(PEOPLE[5:])
    erase_rows(conn, [one], now)


MOVES: tuple[Callable[[Connection, random.Random, datetime], None], ...] = (
    *(decide,) * 6, import_one, *(tell,) * 8, cancel, join, part, change, erase,
)  # fmt: skip


def held(conn: Connection, table: Table, *left_out: str) -> list[tuple[object, ...]]:
    columns = [column for column in table.c if column.name not in left_out]
    keys = list(table.primary_key.columns)
    return [
        tuple(round(value, 6) if isinstance(value, float) else value for value in row)
        for row in conn.execute(select(*columns).order_by(*keys))
    ]


def everything(conn: Connection) -> dict[str, list[tuple[object, ...]]]:
    return {
        "rewards": held(conn, rewards, "as_of"),
        "outcomes": held(conn, outcomes, "interaction_id"),
        "channels": held(conn, channel_outcomes),
    }


def chosen_first(conn: Connection) -> dict[tuple[str, str], str | None]:
    """What the optimiser chose at the first decision of each customer in their arm, by campaign and customer."""
    made: defaultdict[tuple[str, str], list[Row[tuple[object, ...]]]] = defaultdict(list)
    for row in conn.execute(select(decisions).order_by(decisions.c.decided_at, decisions.c.decision_id)):
        made[row.campaign_id, row.customer_id].append(row)
    arms = {key: min(row.arm for row in rows) for key, rows in made.items()}
    return {key: choice(next(row for row in rows if row.arm == arms[key])) for key, rows in made.items()}


def choice(row: Row[tuple[object, ...]]) -> str | None:
    said = row.document
    if said is None or said["decided_with"]:
        return None
    if said["shadow"]:
        action = said["shadow"]["action"]
    elif row.arm == Arm.TREATMENT:
        action = said["action"]
    else:
        return None
    return action["channel"] if action else ""


@pytest.fixture
def transaction(engine: Engine) -> Callable[[], AbstractContextManager[Connection]]:
    with engine.begin() as conn:
        seed_channels(conn, START)
        for name in CAMPAIGNS:
            save_campaign(conn, campaign(name), START)
        append_customers(
            conn, [CustomerRecord(customer_id=name, time_zone="UTC", created_at=START) for name in PEOPLE]
        )
    return engine.begin


@pytest.mark.parametrize("seed", range(6))
def test_settled_by_and_by_is_settled_at_once(
    engine: Engine, transaction: Callable[[], AbstractContextManager[Connection]], seed: int
) -> None:
    draw, now = random.Random(seed), START
    for _ in range(90):
        now += timedelta(seconds=draw.choice((1, 100, 1_000, 30_000)))
        with transaction() as conn:
            draw.choice(MOVES)(conn, draw, now)
        if draw.random() < 0.2:
            settle_in_parts(engine, now, draw.choice((None, *CAMPAIGNS)), seconds=draw.choice((0.0, 9.0)))
    now += timedelta(hours=draw.choice((0, 1, 300)))
    settle_in_parts(engine, now)
    with transaction() as conn:
        by_and_by = everything(conn)
        assert conn.scalar(select(func.count()).select_from(unsettled)) == 0
        for table in (rewards, outcomes, channel_outcomes, settlement_marks):
            conn.execute(delete(table))
        settle_rewards(conn, now)
        assert everything(conn) == by_and_by
        # And they are what they say: everybody is counted once a campaign, every decision once.
        people = select(decisions.c.campaign_id, decisions.c.customer_id).distinct().subquery()
        assert len(by_and_by["outcomes"]) == conn.scalar(select(func.count()).select_from(people)) > 0
        n_decisions = conn.scalar(select(func.sum(outcomes.c.n_decisions)))
        assert n_decisions == conn.scalar(select(func.count()).select_from(decisions))
        paid = select(func.sum(decisions.c.cost_minor)).where(decisions.c.channel.is_not(None), reached())
        assert conn.scalar(select(func.sum(outcomes.c.cost_minor))) == pytest.approx(conn.scalar(paid) or 0.0)
        kept = select(outcomes.c.campaign_id, outcomes.c.customer_id, outcomes.c.first_choice)
        found = {(row.campaign_id, row.customer_id): row.first_choice for row in conn.execute(kept)}
        assert found == chosen_first(conn)
        assert len(set(found.values())) > 1
