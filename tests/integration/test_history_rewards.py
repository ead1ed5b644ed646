"""Rewards, the funnel and the arms, worked by hand, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import count

import polars as pl
import pytest
from sqlalchemy import Connection, Engine, delete, func, insert, select

from features.history.append import CustomerRecord, append_customers, append_decisions, append_interactions
from features.history.campaigns import save_campaign
from features.history.channels import seed_channels
from features.history.export import MOMENT, frame
from features.history.report import ArmSums, FunnelRow, customer_sums, funnel
from features.history.rewards import settle_in_parts, settle_rewards
from features.history.sole import sole_holder
from features.history.tables import (
    customers,
    interactions,
    reservations,
    rewards,
    settlement_marks,
    unsettled,
)
from features.history.unsettled import count_waiting, next_part, note, strike_out
from models.domain.action import Action
from models.domain.campaign import Campaign, Content, Mode, Offer, SendWindow
from models.domain.channel import ContentKind
from models.domain.decision import Decision, Expected
from models.domain.errors import NotFoundError
from models.domain.experiment import Arm, Experiment
from models.domain.interaction import Interaction, InteractionKind

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
numbers = count()


def campaign(campaign_id: str = "spring") -> Campaign:
    return Campaign(
        campaign_id=campaign_id,
        send_window=SendWindow(starts_at=START, ends_at=START + 20 * DAY),
        slots=(time(9), time(18)),
        offers=(Offer(offer_id="ten", margin_minor=900.0, content={ContentKind.TEXT: Content(body="10")}),),
        channels=("email", "sms"),
        experiment=Experiment(experiment_id=campaign_id),
        conversion_value_minor=1000.0,
        attribution_window_seconds=7 * 86_400,
    )


def decide(
    conn: Connection,
    decision_id: str,
    customer_id: str,
    channel: str | None = "email",
    at: datetime = START,
    arm: Arm = Arm.TREATMENT,
    cost_minor: float = 2.0,
    campaign_id: str = "spring",
) -> None:
    action = None
    if channel:
        action = Action(offer="ten", channel=channel, slot=0, send_at=at + HOUR, expires_at=at + DAY)
    expected = Expected(
        p_open=None,
        p_convert=None,
        p_convert_no_contact=None,
        uplift=None,
        cost_minor=cost_minor if channel else 0.0,
        net_value_minor=None,
    )
    append_decisions(
        conn,
        [
            Decision(
                decision_id=decision_id,
                customer_id=customer_id,
                campaign_id=campaign_id,
                campaign_version=1,
                decided_at=at,
                action=action,
                propensity=0.5,
                expected=expected,
                alternatives=(),
                exclusions=(),
                arm=arm,
                mode=Mode.LIVE,
                policy="uniform",
                policy_version="1",
                degraded=(),
                explanation="",
            )
        ],
    )


def happen(
    conn: Connection,
    customer_id: str,
    kind: InteractionKind,
    at: datetime,
    received_at: datetime | None = None,
    **more: object,
) -> None:
    values = {"source": "test", "event_id": str(next(numbers)), "customer_id": customer_id, "kind": kind}
    append_interactions(conn, [Interaction(**values, occurred_at=at, **more)], received_at or at)


def reward(conn: Connection, decision_id: str) -> tuple[object, ...] | None:
    row = conn.execute(
        select(rewards.c.opened, rewards.c.clicked, rewards.c.converted, rewards.c.value_minor, rewards.c.final)
        .where(rewards.c.decision_id == decision_id)
    ).one_or_none()  # fmt: skip
    return None if row is None else tuple(row)


@pytest.fixture
def conn(engine: Engine):
    with engine.begin() as opened:
        seed_channels(opened, START)
        save_campaign(opened, campaign(), START)
        yield opened


def test_a_reward_sums_what_followed_inside_the_window(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    happen(conn, "c-1", InteractionKind.OPENED, START + 2 * HOUR, decision_id="d-1", channel="email")
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 2 * DAY, value_minor=250.5)
    happen(
        conn, "c-1", InteractionKind.CONVERTED, START + 3 * DAY
    )  # states no value: the offer's margin, 900
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 30 * DAY, value_minor=1.0)  # too late
    happen(conn, "c-1", InteractionKind.CONVERTED, START, value_minor=1.0)  # before the message
    assert settle_rewards(conn, START + 2 * DAY) == 1
    assert reward(conn, "d-1") == (True, False, True, 250.5, False)
    assert settle_rewards(conn, START + 8 * DAY) == 1
    assert reward(conn, "d-1") == (True, False, True, 1150.5, True)
    assert settle_rewards(conn, START + 9 * DAY) == 0


def test_a_conversion_that_names_no_decision_goes_to_the_latest_one(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    decide(conn, "d-2", "c-1", at=START + 2 * DAY)
    happen(conn, "c-1", InteractionKind.CONVERTED, START + DAY, value_minor=1.0)
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 3 * DAY, value_minor=20.0)
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 4 * DAY, value_minor=300.0, decision_id="d-1")
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 4 * DAY, value_minor=9.0, campaign_id="other")
    settle_rewards(conn, START + 5 * DAY)
    assert reward(conn, "d-1") == (False, False, True, 301.0, False)
    assert reward(conn, "d-2") == (False, False, True, 20.0, False)


def test_a_reward_says_whether_a_conversion_was_made_at_a_discount(conn: Connection) -> None:
    told = {
        "cheap": [{"price": "discounted"}],
        "full": [{"price": "full"}],
        "both": [{"price": "full"}, {"place": "web"}, {"price": "discounted"}],
        "untold": [{"place": "shop"}, {"price": "3.50"}],
        "nothing": [],
    }
    for name, conversions in told.items():
        decide(conn, name, f"c-{name}")
        for attributes in conversions:
            happen(conn, f"c-{name}", InteractionKind.CONVERTED, START + DAY, attributes=attributes)
        happen(conn, f"c-{name}", InteractionKind.PURCHASED, START + DAY, attributes={"price": "discounted"})
    settle_rewards(conn, START + 8 * DAY)
    found = dict(map(tuple, conn.execute(select(rewards.c.decision_id, rewards.c.discounted))))
    assert found == {"cheap": True, "full": False, "both": True, "untold": None, "nothing": None}
    # What is stored is what was settled: nothing changes when it is settled again.
    assert settle_rewards(conn, START + 9 * DAY) == 0


def test_a_late_conversion_corrects_a_final_reward(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    decide(conn, "d-2", "c-2")
    assert settle_rewards(conn, START + 10 * DAY) == 2
    assert reward(conn, "d-1") == (False, False, False, 0.0, True)
    happen(conn, "c-1", InteractionKind.CONVERTED, START + DAY, START + 11 * DAY, value_minor=70.0)
    assert settle_rewards(conn, START + 12 * DAY) == 1
    assert reward(conn, "d-1") == (False, False, True, 70.0, True)


def test_a_message_that_reached_nobody_has_no_reward(conn: Connection) -> None:
    for name in ("bounced", "failed", "suppressed"):
        decide(conn, name, f"c-{name}")
    decide(conn, "cancelled", "c-4")
    assert settle_rewards(conn, START + 2 * HOUR) == 4
    for name in ("bounced", "failed", "suppressed"):
        happen(conn, f"c-{name}", InteractionKind(name), START + 2 * HOUR, decision_id=name, channel="email")
        happen(conn, f"c-{name}", InteractionKind.CONVERTED, START + DAY)
    conn.execute(
        insert(reservations).values(
            decision_id="cancelled",
            resource="budget:spring",
            amount=1.0,
            reserved_at=START,
            released_at=START,
        )
    )
    note(conn, decision_ids=["cancelled"])
    assert settle_rewards(conn, START + 2 * DAY) == 4
    assert [reward(conn, name) for name in ("bounced", "failed", "suppressed", "cancelled")] == [None] * 4
    assert settle_rewards(conn, START + 9 * DAY) == 0


def test_a_conversion_after_a_bounce_stays_with_the_earlier_message(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    decide(conn, "d-2", "c-1", at=START + 2 * DAY)
    happen(
        conn, "c-1", InteractionKind.BOUNCED, START + 2 * DAY + 2 * HOUR, decision_id="d-2", channel="email"
    )
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 3 * DAY, value_minor=20.0)
    settle_rewards(conn, START + 4 * DAY)
    assert reward(conn, "d-1") == (False, False, True, 20.0, False)
    assert reward(conn, "d-2") is None


def test_what_a_channel_cannot_report_is_unknown(conn: Connection) -> None:
    decide(conn, "sms", "c-1", channel="sms")
    decide(conn, "nobody", "c-2", channel=None)
    happen(conn, "c-2", InteractionKind.CONVERTED, START + DAY)
    settle_rewards(conn, START + 2 * DAY)
    assert reward(conn, "sms") == (None, False, False, 0.0, False)  # SMS reports clicks, never opens
    assert reward(conn, "nobody") == (None, None, True, 1000.0, False)


def test_machine_made_opens_are_no_opens(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    happen(conn, "c-1", InteractionKind.OPENED, START + 2 * HOUR, decision_id="d-1", machine_made=True)
    settle_rewards(conn, START + DAY)
    assert reward(conn, "d-1") == (False, False, False, 0.0, False)
    assert [row.opened for row in funnel(conn)] == [0]


def test_only_the_campaign_that_was_asked_for_is_settled(conn: Connection) -> None:
    save_campaign(conn, campaign("autumn"), START)
    decide(conn, "d-1", "c-1")
    decide(conn, "d-2", "c-1", campaign_id="autumn")
    assert settle_rewards(conn, START + DAY, campaign_id="autumn") == 1
    assert reward(conn, "d-1") is None


def test_a_decision_of_an_unknown_campaign_is_told(conn: Connection) -> None:
    decide(conn, "d-1", "c-1", campaign_id="lost")
    with pytest.raises(NotFoundError, match="campaign_id == 'lost"):
        settle_rewards(conn, START + DAY)


def test_the_funnel_counts_each_decision_once(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    decide(conn, "d-2", "c-2")
    decide(conn, "d-3", "c-3", channel="sms", cost_minor=5.0)
    decide(conn, "d-4", "c-4", channel=None)
    for hour in (2, 3):
        happen(conn, "c-1", InteractionKind.OPENED, START + hour * HOUR, decision_id="d-1", channel="email")
    happen(conn, "c-1", InteractionKind.SENT, START + HOUR, decision_id="d-1", channel="email")
    happen(conn, "c-1", InteractionKind.CLICKED, START + 4 * HOUR, decision_id="d-1", channel="email")
    happen(conn, "c-1", InteractionKind.CONVERTED, START + DAY, value_minor=100.0)
    happen(conn, "c-2", InteractionKind.BOUNCED, START + 2 * HOUR, decision_id="d-2", channel="email")
    happen(conn, "c-3", InteractionKind.SENT, START + HOUR, decision_id="d-3", channel="sms")
    settle_rewards(conn, START + 2 * DAY)
    email = FunnelRow(
        channel="email",
        planned=2,
        sent=2,
        delivered=None,  # e-mail reports no deliveries; one opened mail says nothing of the others
        opened=1,
        clicked=1,
        converted=1,
        cost_minor=2.0,  # the bounced one costs nothing
        net_value_minor=98.0,
    )
    sms = FunnelRow(
        channel="sms",
        planned=1,
        sent=1,
        delivered=0,
        opened=None,
        clicked=0,
        converted=0,
        cost_minor=5.0,
        net_value_minor=-5.0,
    )
    assert funnel(conn) == [email, sms]
    assert funnel(conn, "spring") == [email, sms]
    assert funnel(conn, "other") == []


def test_arms_count_every_customer_whatever_reached_them(conn: Connection) -> None:
    decide(conn, "d-1", "c-1")
    decide(conn, "d-2", "c-1", at=START + 3 * DAY)
    decide(conn, "d-3", "c-2", channel=None, arm=Arm.HOLDOUT)
    decide(conn, "d-4", "c-3", arm=Arm.CONTROL)
    happen(conn, "c-1", InteractionKind.CONVERTED, START + DAY, value_minor=10.0)
    happen(
        conn, "c-1", InteractionKind.CONVERTED, START + 15 * DAY, decision_id="d-2"
    )  # 900: the offer's margin
    happen(conn, "c-1", InteractionKind.CONVERTED, START - DAY, value_minor=5.0)
    happen(conn, "c-1", InteractionKind.CONVERTED, START + 60 * DAY, value_minor=5.0)
    happen(conn, "c-1", InteractionKind.CONVERTED, START - 91 * DAY, value_minor=5.0)  # too long ago
    happen(conn, "c-2", InteractionKind.CONVERTED, START + DAY)
    happen(conn, "c-2", InteractionKind.CONVERTED, START - 20 * DAY)  # the campaign's value
    happen(conn, "c-3", InteractionKind.BOUNCED, START + 2 * HOUR, decision_id="d-4", channel="email")
    happen(conn, "c-3", InteractionKind.CONVERTED, START + DAY, value_minor=7.0)
    happen(conn, "c-3", InteractionKind.CONVERTED, START + DAY, value_minor=7.0, campaign_id="other")

    settle_rewards(conn, START + 70 * DAY)

    def sums(arm: Arm, value: float, cost: float, contacted: int, before: float = 0.0, n: int = 1) -> ArmSums:
        worth = value - cost
        return ArmSums(
            arm=arm,
            n_customers=1,
            n_decisions=n,
            n_contacted=contacted,
            n_converted=1,
            cost_minor=cost,
            net_value_minor=worth,
            net_value_squares=worth**2,
            before_minor=before,
            before_squares=before**2,
            before_by_value=before * worth,
            before_by_converted=before,
        )

    assert list(customer_sums(conn, "spring").arms.values()) == [
        sums(Arm.CONTROL, 7.0, 0.0, contacted=0),
        sums(Arm.HOLDOUT, 1000.0, 0.0, contacted=0, before=1000.0),
        sums(Arm.TREATMENT, 910.0, 4.0, contacted=1, before=5.0, n=2),
    ]
    assert customer_sums(conn, "other").arms == {}


def test_columns_keep_their_types_with_and_without_rows(conn: Connection) -> None:
    query = select(
        interactions.c.customer_id,
        interactions.c.occurred_at,
        interactions.c.value_minor,
        interactions.c.machine_made,
        interactions.c.attributes,
    ).order_by(interactions.c.occurred_at)
    empty = frame(conn, query)
    at = START + timedelta(microseconds=1)
    happen(conn, "c-1", InteractionKind.VISITED, at, attributes={"page": "/é"})
    happen(conn, "c-2", InteractionKind.PURCHASED, at + DAY, value_minor=0.1 + 0.2)
    full = frame(conn, query)
    assert dict(empty.schema) == dict(full.schema)
    assert full.schema["occurred_at"] == MOMENT
    assert full["occurred_at"].to_list() == [at, at + DAY]
    assert full["value_minor"].to_list() == [None, 0.1 + 0.2]
    assert full["machine_made"].to_list() == [False, False]
    assert full["attributes"].str.json_path_match("$.page").to_list() == ["/é", None]


def test_a_frame_of_customers_holds_their_attributes_as_json(conn: Connection) -> None:
    append_customers(
        conn,
        [
            CustomerRecord(
                customer_id="c-1", time_zone="UTC", created_at=START, attributes={"age": 41, "segment": "a"}
            )
        ],
    )
    found = frame(conn, select(customers.c.customer_id, customers.c.attributes))
    assert found.select(pl.col("attributes").str.json_path_match("$.age").cast(pl.Float64)).item() == 41.0


def test_settling_goes_on_where_it_ended_and_lets_others_write(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [f"c-{i}" for i in range(5)]
    with engine.begin() as conn:
        seed_channels(conn, START)
        save_campaign(conn, campaign(), START)
        for name in people:
            decide(conn, f"d-{name}", name)
    monkeypatch.setattr("features.history.rewards._AT_ONCE", 2)
    settled_by_turn = []
    for _ in range(3):
        finished = settle_in_parts(engine, START + DAY, seconds=0.0)
        # Between two parts nothing is locked: here it would wait for ever otherwise.
        with engine.begin() as conn:
            settled_by_turn.append((finished, _settled(conn), count_waiting(conn, "spring")))
            happen(conn, "c-0", InteractionKind.VISITED, START + DAY)
    assert settled_by_turn == [(False, 2, 3), (False, 4, 1), (False, 5, 0)]
    assert settle_in_parts(engine, START + DAY)


def test_however_much_is_new_a_look_ends_in_time_and_something_is_settled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as conn:
        seed_channels(conn, START)
        save_campaign(conn, campaign(), START)
        for number in range(6):
            decide(conn, f"d-{number}", f"c-{number}")
        conn.execute(delete(unsettled))  # those that an import brings are noted at once
    monkeypatch.setattr("features.history.marks._AT_ONCE", 2)
    settled_by_turn = []
    for _ in range(3):
        finished = settle_in_parts(engine, START + DAY, seconds=0.0)
        with engine.begin() as conn:
            settled_by_turn.append((finished, _settled(conn)))
    # A turn notes two of them, though more are new.
    assert settled_by_turn == [(False, 2), (False, 4), (False, 6)]
    assert settle_in_parts(engine, START + DAY)


def test_a_part_has_no_more_decisions_than_it_may_but_for_a_single_customer(engine: Engine) -> None:
    with engine.begin() as conn:
        seed_channels(conn, START)
        save_campaign(conn, campaign(), START)
        for name, n_decisions in (("c-1", 2), ("c-2", 1), ("c-3", 2), ("c-4", 4), ("c-5", 1)):
            for number in range(n_decisions):
                decide(conn, f"d-{name}-{number}", name)
        parts = []
        while (part := next_part(conn, "spring", 300, 3)) is not None:
            parts.append(part.customer_ids)
            strike_out(conn, part)
    assert parts == [("c-1", "c-2"), ("c-3",), ("c-4",), ("c-5",)]


def test_one_process_at_a_time_settles(engine: Engine) -> None:
    with engine.begin() as conn:
        seed_channels(conn, START)
        save_campaign(conn, campaign(), START)
        decide(conn, "d-1", "c-1")
    with sole_holder(engine, "settlement"):
        assert not settle_in_parts(engine, START + DAY, seconds=0.1)
    with engine.begin() as conn:
        assert _settled(conn) == 0
    assert settle_in_parts(engine, START + DAY, seconds=10.0)
    with engine.begin() as conn:
        assert _settled(conn) == 1


def test_the_last_minute_is_looked_at_again_and_nothing_is_written_where_nothing_is_new(
    engine: Engine,
) -> None:
    second = timedelta(seconds=1)
    with engine.begin() as conn:
        seed_channels(conn, START)
        save_campaign(conn, campaign(), START)
        for number, seconds in enumerate((-90, -61, -60, -59, 0)):
            decide(conn, f"d-{number}", f"c-{number}", at=START + seconds * second)
    assert settle_in_parts(engine, START)
    with engine.begin() as conn:
        assert _settled(conn) == 5
        assert conn.scalar(select(settlement_marks.c.decision_id)) == "d-2"
        # This is SQLite's only writer: who wants to write now waits for ever.
        assert settle_in_parts(engine, START)
    with engine.begin() as conn:
        decide(conn, "d-late", "c-late", at=START - 30 * second)
    assert settle_in_parts(engine, START)
    with engine.begin() as conn:
        assert reward(conn, "d-late") is not None


def _settled(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(rewards)).scalar_one()
