"""Follow-ups through the whole path: decide, send, hear or not, decide again."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from random import Random

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from features.history.append import append_interactions
from features.history.channels import load_channels, seed_channels
from features.history.decisions import load_decision
from features.history.tables import conversations, follow_ups, outbox
from models.domain.campaign import Content, Offer, PolicyName, QuietHours
from models.domain.channel import ContentKind
from models.domain.decision import Decision
from models.domain.errors import InvalidInputError
from models.domain.follow_up import FollowUpRule, Trigger
from models.domain.interaction import Interaction, InteractionKind
from models.domain.machine_made import MachineRules
from serving.app import create_app
from serving.channels.console import ConsoleAdapter
from serving.channels.contract import FinalRefusalError
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.followups.runner import FollowUpRunner
from serving.receipts import advance
from serving.request import DecisionRequest
from serving.store.handover import activate, cancel_overtaken

NOW = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)  # 14:00 in Taipei
AT_THREE = NOW + timedelta(hours=1)
UNOPENED = (FollowUpRule(on=Trigger.UNOPENED, after_seconds=3 * 3600),)


class Refusing(ConsoleAdapter):
    """Takes everything but messages of the channels named."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.refuses: set[str] = set()
        super().__init__(self.stream)

    async def send(self, message):
        if message.channel in self.refuses:
            raise FinalRefusalError("550 no such user")
        return await super().send(message)


# People of these tests answer in the moment in which a message goes out, as only machines do.
AT_ONCE = MachineRules(within_seconds=0.0)


class Play:
    """A market whose clock the test turns, with a sender and a runner of follow-ups."""

    def __init__(self, market, links) -> None:
        self.market = market
        self.service = market.service()
        self.provider = Refusing()
        with market.engine.connect() as conn:
            channels = load_channels(conn)
        self.sender = Dispatcher(
            market.engine, dict.fromkeys(channels, self.provider), links, DispatchSettings(), Random(1)
        )
        self.runner = FollowUpRunner(market.engine, self.service.decider, lambda: market.now)
        self._n_facts = 0

    def decide(self, customer_id: str, campaign_id: str = "spring") -> Decision:
        self.service.snapshots.reload()
        return self.service.decider.decide(
            DecisionRequest(campaign_id=campaign_id, customer_id=customer_id), self.market.now
        )

    def at(self, moment: datetime) -> int:
        """Turn the clock, decide what is due, send what is due; how many follow-ups were decided."""
        self.market.now = moment
        n_decided = self.runner.run_due()
        asyncio.run(self.sender.run_once(moment))
        return n_decided

    def hear(self, kind: str, decision: Decision | None, customer_id: str = "ada", **more: object) -> None:
        self._n_facts += 1
        fact = Interaction(
            source="test",
            event_id=str(self._n_facts),
            customer_id=customer_id,
            kind=InteractionKind(kind),
            occurred_at=self.market.now,
            decision_id=None if decision is None else decision.decision_id,
            **more,
        )
        with self.market.engine.begin() as conn:
            append_interactions(conn, [fact], self.market.now, AT_ONCE)
            advance(conn, [fact], self.market.now)

    def sent(self) -> list[str]:
        return [json.loads(line)["channel"] for line in self.provider.stream.getvalue().splitlines()]

    def children(self, parent: Decision) -> list[Decision]:
        with self.market.engine.connect() as conn:
            names = conn.scalars(
                select(follow_ups.c.follow_up_id).where(
                    follow_ups.c.parent_id == parent.decision_id, follow_ups.c.status == "decided"
                )
            ).all()
            return [load_decision(conn, name) for name in names]

    def statuses(self) -> Counter[str]:
        with self.market.engine.connect() as conn:
            return Counter(conn.scalars(select(follow_ups.c.status)))


@pytest.fixture
def play(engine: Engine, links, market_on: Callable) -> Play:
    with engine.begin() as conn:
        seed_channels(conn, NOW - timedelta(days=1))
    market = market_on(engine, NOW)
    market.customers("ada")
    yield (made := Play(market, links))
    made.service.stop()


def by_cost(play: Play, **changes: object) -> None:
    """The cheapest channel first: push, then e-mail, then SMS; sent at 15:00 local time, or 18:00."""
    play.market.campaign(policy=PolicyName.CHEAPEST_FIRST, **changes)


def test_who_opens_never_gets_the_fallback(play):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.at(first.action.send_at)
    play.hear("opened", first)
    assert [play.at(AT_THREE + timedelta(hours=n)) for n in range(1, 9)] == [0] * 8
    assert len(play.sent()) == 1
    assert play.statuses() == {"cancelled": 1}


def test_who_does_not_open_gets_it_once_on_another_channel(play):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.at(first.action.send_at)
    due_at = first.action.send_at + timedelta(hours=3)
    assert play.at(due_at - timedelta(seconds=1)) == 0
    assert play.at(due_at) == 1
    for hour in range(1, 48, 5):
        play.at(due_at + timedelta(hours=hour))
    assert len(play.sent()) == len(set(play.sent())) == 2
    (second,) = play.children(first)
    assert second.parent_id == first.decision_id
    assert second.action.channel != first.action.channel
    assert 0 < second.propensity <= 1
    used = [one.channel for one in second.exclusions if one.reason == "channel_used"]
    assert used == [first.action.channel]


def test_a_machines_open_is_no_answer(play):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.at(first.action.send_at)
    play.hear("opened", first, machine_made=True)
    assert play.at(first.action.send_at + timedelta(hours=3)) == 1


@pytest.mark.parametrize("kind", ["clicked", "replied", "unsubscribed"])
def test_a_click_a_reply_or_leaving_answers_a_message_whose_opens_are_unknowable(play, kind):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.at(first.action.send_at)
    play.hear(kind, first)
    assert play.at(first.action.send_at + timedelta(hours=3)) == 0


def test_an_open_between_the_fallbacks_decision_and_its_sending_stops_it(play):
    by_cost(play, follow_ups=UNOPENED, slots=(time(9), time(15)))
    first = play.decide("ada")
    play.at(first.action.send_at)
    due_at = first.action.send_at + timedelta(hours=3)
    assert play.at(due_at) == 1
    (second,) = play.children(first)
    assert second.action.send_at > due_at  # tomorrow morning
    play.hear("opened", first)
    play.at(due_at + timedelta(seconds=1))
    with play.market.engine.connect() as conn:
        row = conn.execute(select(outbox).where(outbox.c.decision_id == second.decision_id)).one()
    assert (row.status, row.detail) == ("suppressed", "answered")
    play.at(second.action.send_at)
    assert len(play.sent()) == 1


def test_at_most_so_many_steps(play):
    by_cost(play, follow_ups=UNOPENED, most_follow_ups=1)
    first = play.decide("ada")
    for hour in range(0, 72, 3):
        play.at(first.action.send_at + timedelta(hours=hour))
    assert len(play.sent()) == 2
    by_cost(play, follow_ups=UNOPENED, most_follow_ups=2, campaign_id="long")
    play.market.customers("bob")
    start = play.market.now
    play.decide("bob", "long")
    for hour in range(0, 96, 3):
        play.at(start + timedelta(hours=hour))
    assert len(play.sent()) == 5
    assert len(set(play.sent()[2:])) == 3


def test_an_answer_to_the_first_message_ends_the_wait_for_the_second(play):
    by_cost(play, follow_ups=UNOPENED, most_follow_ups=2)
    first = play.decide("ada")
    for hour in range(5):
        play.at(first.action.send_at + timedelta(hours=hour))
    (second,) = play.children(first)
    play.at(second.action.send_at)
    assert len(play.sent()) == 2
    play.hear("opened", first)
    for hour in range(0, 48, 5):
        play.at(second.action.send_at + timedelta(hours=hour))
    assert len(play.sent()) == 2


def test_what_reached_nobody_is_followed_at_once(play):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.provider.refuses.add(first.action.channel)
    play.at(first.action.send_at)
    assert play.sent() == []
    assert play.at(first.action.send_at + timedelta(seconds=1)) == 1


def test_undelivered_follows_only_where_the_channel_would_have_said(play):
    by_cost(
        play,
        follow_ups=(FollowUpRule(on=Trigger.UNDELIVERED, after_seconds=60),),
        channels=("sms", "email"),
        pinned_channel=None,
    )
    first = play.decide("ada")
    assert first.action.channel == "email"
    play.at(first.action.send_at)
    assert play.at(first.action.send_at + timedelta(hours=1)) == 0  # e-mail does not report deliveries
    play.hear("bounced", first)
    assert play.at(first.action.send_at + timedelta(hours=1)) == 1
    (second,) = play.children(first)
    assert second.action.channel == "sms"


def sale(play: Play) -> None:
    words = {ContentKind.TEXT: Content(body="Ten per cent off, today only.", subject="Sale")}
    play.market.campaign(
        "sale",
        offers=(Offer(offer_id="ten_off", margin_minor=100.0, content=words),),
        policy=PolicyName.CHEAPEST_FIRST,
    )


def test_who_opens_gets_another_campaigns_offer_at_once(play):
    sale(play)
    by_cost(play, follow_ups=(FollowUpRule(on=Trigger.OPENED, campaign_id="sale"),))
    first = play.decide("ada")
    play.at(first.action.send_at)
    opened_at = first.action.send_at + timedelta(minutes=7)
    play.market.now = opened_at
    play.hear("opened", first)
    play.hear("opened", first)
    assert play.at(opened_at + timedelta(seconds=1)) == 1
    (second,) = play.children(first)
    assert (second.campaign_id, second.action.offer) == ("sale", "ten_off")
    assert second.action.send_at == opened_at + timedelta(seconds=1)
    assert len(play.sent()) == 2


def test_an_answer_at_night_is_followed_when_the_quiet_hours_are_over(play):
    sale(play)
    play.market.campaign(
        "sale", quiet_hours=QuietHours(start=time(15), end=time(8)), policy=PolicyName.CHEAPEST_FIRST
    )
    by_cost(play, follow_ups=(FollowUpRule(on=Trigger.OPENED, campaign_id="sale"),))
    first = play.decide("ada")
    play.at(first.action.send_at)
    play.hear("opened", first)
    play.at(first.action.send_at + timedelta(seconds=1))
    (second,) = play.children(first)
    assert second.action.send_at == NOW + timedelta(hours=19)  # nine in the morning
    assert len(play.sent()) == 1


def test_another_offer_of_the_same_campaign_may_follow(play):
    by_cost(play, follow_ups=(FollowUpRule(on=Trigger.CLICKED, offers=("boots",)),))
    first = play.decide("ada")
    play.at(first.action.send_at)
    play.hear("clicked", first)
    play.at(first.action.send_at + timedelta(seconds=1))
    (second,) = play.children(first)
    assert second.action.offer == "boots"
    assert "offer_not_asked" in {one.reason for one in second.exclusions}


def test_an_abandoned_cart_is_followed_once_unless_it_is_bought(play):
    rule = FollowUpRule(on=Trigger.CART_ABANDONED, after_seconds=1800)
    by_cost(play, follow_ups=(rule,), campaign_id="cart")
    play.market.customers("bob")
    for customer in ("ada", "bob"):
        play.hear("cart_abandoned", None, customer)
        play.hear("cart_abandoned", None, customer)
    play.market.now = NOW + timedelta(minutes=10)
    play.hear("purchased", None, "bob")
    play.service.snapshots.reload()
    assert play.at(NOW + timedelta(minutes=29)) == 0
    assert play.at(NOW + timedelta(minutes=30)) == 1
    assert play.statuses() == {"decided": 1, "cancelled": 1}
    assert len(play.sent()) == 1  # at once, at half past two


def test_a_follow_up_of_a_campaign_that_has_closed_is_dropped(play):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.at(first.action.send_at)
    assert play.at(NOW + timedelta(days=40)) == 0
    assert play.statuses() == {"dropped": 1}


def test_timers_survive_a_restart(play, links):
    by_cost(play, follow_ups=UNOPENED)
    first = play.decide("ada")
    play.at(first.action.send_at)
    play.service.stop()
    again = Play(play.market, links)
    again.service.snapshots.reload()
    assert again.at(first.action.send_at + timedelta(hours=3)) == 1
    again.service.stop()


def test_the_holdout_has_no_conversation(play):
    campaign = play.market.campaign(policy=PolicyName.CHEAPEST_FIRST, follow_ups=UNOPENED)
    play.market.campaign(
        policy=PolicyName.CHEAPEST_FIRST,
        follow_ups=UNOPENED,
        experiment=replace(campaign.experiment, holdout_share=1.0, control_share=0.0),
    )
    assert play.decide("ada").action is None
    for hour in range(0, 24, 4):
        play.at(NOW + timedelta(hours=hour))
    with play.market.engine.connect() as conn:
        assert conn.execute(select(conversations)).all() == []


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"on": Trigger.UNOPENED}, "follow_ups.after_seconds"),
        ({"on": Trigger.CLICKED, "after_seconds": -1}, "follow_ups.after_seconds"),
        ({"on": Trigger.CLICKED}, "follow_ups.offers"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, field):
    with pytest.raises(InvalidInputError) as caught:
        FollowUpRule(**rule)
    assert caught.value.field == field


@pytest.fixture
def handed_over(play) -> Decision:
    """A message that its caller has sent at its time; silence of three hours calls for another."""
    by_cost(play, follow_ups=UNOPENED)
    play.service.snapshots.reload()
    request = DecisionRequest(campaign_id="spring", customer_id="ada", hold=True)
    first = play.service.decider.decide(request, play.market.now)
    play.at(first.action.send_at)
    with play.market.engine.begin() as conn:
        activate(conn, first.decision_id, play.market.now)
    return first


def test_who_sent_the_message_sends_what_follows_it_too(play, handed_over):
    assert play.at(AT_THREE + timedelta(hours=3)) == 1
    (second,) = play.children(handed_over)
    assert play.at(second.action.send_at + timedelta(minutes=1)) == 0
    assert play.sent() == [], "nothing goes out by itself"
    # That it is theirs to send, and until when, the caller finds in the list.
    listed = TestClient(create_app(play.service)).get("/v1/decisions", params={"message_status": "held"})
    (row,) = listed.json()["decisions"]
    assert (row["decision_id"], row["parent_id"]) == (second.decision_id, handed_over.decision_id)
    assert datetime.fromisoformat(row["expires_at"]) == second.action.expires_at
    assert cancel_overtaken(play.market.engine, play.market.now) == 0
    with play.market.engine.begin() as conn:
        assert activate(conn, second.decision_id, play.market.now).state == "sent"


def test_an_answer_takes_a_held_follow_up_back(play, handed_over):
    play.at(AT_THREE + timedelta(hours=3))
    (second,) = play.children(handed_over)
    play.hear("opened", handed_over)
    assert cancel_overtaken(play.market.engine, play.market.now) == 1
    with play.market.engine.connect() as conn:
        (message,) = conn.execute(select(outbox).where(outbox.c.decision_id == second.decision_id))
    assert (message.status, message.detail) == (
        "cancelled",
        "answered before anybody said that it went out",
    )
