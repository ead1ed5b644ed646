"""The one place where timers and receipts meet: a conversation's row, which both lock.

A conversation begins with a message of a campaign that has follow-up rules, or with an event. Its follow-ups are rows
that wait:

    waiting --decided-->   the re-decision is written, in the same transaction
            --cancelled--> answered, or as many steps as the campaign allows
            --dropped-->   it cannot be decided: the campaign has closed, the customer is gone

Whoever writes an outcome locks, in this order, the message's row of the outbox and the conversation's row, and then
looks at *all* facts of the conversation (`advance`). Whoever decides a follow-up locks the conversation and looks
again (`permitted`); whoever claims its message does so once more (`answered`). So a read that is committed before the
claim means that no fallback is sent, and one that is committed after it means that the fallback was under way: there
is no third outcome, whatever the order.

The caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Table, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from features.history.campaigns import list_campaigns, load_campaign
from features.history.prepared import Prepared, one_of
from features.history.tables import conversations, decisions, follow_ups, interactions, outbox
from models.domain.campaign import Campaign
from models.domain.follow_up import (
    ANSWERS,
    EVENTS,
    SET_OFF_BY,
    TAKEN_BACK_BY,
    FollowUpRule,
    Trigger,
    follow_up_id,
)
from models.domain.interaction import Interaction, InteractionKind

# What the outbox names as the provider of a message that the caller of its decision has sent.
CALLER = "caller"
_ANSWERED = "answered"
_NOT_TAKEN = frozenset({InteractionKind.FAILED, InteractionKind.BOUNCED})
# What of a decision's facts follow-ups look at.
ANSWERING = frozenset().union(*ANSWERS.values(), *SET_OFF_BY.values(), _NOT_TAKEN)
# What counts whoever reports it, for whatever decision.
_OF_PERSON = frozenset({InteractionKind.CONVERTED, InteractionKind.PURCHASED, InteractionKind.REGISTERED})
_TRIGGER_OF = {kind: trigger for trigger, kind in EVENTS.items()}
# Those of some decisions that are fallbacks; asked at every claim.
_FALLBACKS = Prepared(
    select(follow_ups.c.follow_up_id, follow_ups.c.conversation_id, follow_ups.c.trigger).where(
        one_of(follow_ups.c.follow_up_id, "ids"), follow_ups.c.trigger.in_(sorted({*ANSWERS, *EVENTS}))
    )
)
CONCERNING_PERSON = _OF_PERSON | frozenset(_TRIGGER_OF)


class FollowUpStatus(StrEnum):
    """Where a follow-up stands."""

    WAITING = "waiting"
    DECIDED = "decided"
    CANCELLED = "cancelled"
    DROPPED = "dropped"


_OPEN = frozenset({FollowUpStatus.WAITING, FollowUpStatus.DECIDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpStep:
    """A follow-up that is due, as the decision sees it.

    Attributes:
        follow_up_id: Also the id of the decision.
        parent_id: The decision that it follows; None after an event.
        channels_used: Channels that it leaves out.
        offers: Offers to choose from; none stands for all.
        by_caller: Whether the caller sent the message before it, and so sends this one.
        at_once: Whether its message goes out at once.
    """

    follow_up_id: str
    conversation_id: str
    parent_id: str | None
    customer_id: str
    campaign_id: str
    trigger: Trigger
    channels_used: frozenset[str] = frozenset()
    offers: tuple[str, ...] = ()
    by_caller: bool = False

    @property
    def at_once(self) -> bool:
        """After an answer or an event there is nothing to wait for."""
        return self.trigger not in ANSWERS


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledMessage:
    """A message that the outbox has settled: `sent` tells whether the provider took it."""

    decision_id: str
    customer_id: str
    channel: str
    sent: bool
    at: datetime


def begin(
    conn: Connection, settled: Sequence[tuple[SettledMessage, Campaign]], reports_delivery: Collection[str]
) -> None:
    """Start the timers of messages that were just settled, and catch up with receipts that were faster.

    Args:
        conn: In the transaction that settles them; their rows of the outbox are locked.
        settled: With the campaign that each was decided for; one without follow-up rules is passed over.
        reports_delivery: Channels whose silence about delivery means that there was none.
    """
    ruled = [(message, campaign) for message, campaign in settled if campaign.follow_ups]
    if not ruled:
        return
    known = _conversations_of(conn, [message.decision_id for message, _ in ruled])
    begun = [
        {
            "conversation_id": message.decision_id,
            "customer_id": message.customer_id,
            "began_at": message.at,
            "n_steps": 0,
            "most_steps": campaign.most_follow_ups,
        }
        for message, campaign in ruled
        if message.decision_id not in known
    ]
    _insert(conn, conversations, "conversation_id", begun)
    place = {message.decision_id: known.get(message.decision_id, message.decision_id) for message, _ in ruled}
    locked = _lock(conn, place.values())
    timers = [
        _waiting(
            locked[place[message.decision_id]],
            message.decision_id,
            number,
            campaign,
            message.at + timedelta(seconds=rule.after_seconds),
        )
        for message, campaign in ruled
        if message.sent
        for number, rule in enumerate(campaign.follow_ups)
        if rule.on in ANSWERS and (rule.on is not Trigger.UNDELIVERED or message.channel in reports_delivery)
    ]
    _insert(conn, follow_ups, "follow_up_id", timers)
    _advance(conn, locked, max(message.at for message, _ in ruled))


def note(conn: Connection, facts: Sequence[Interaction], now: datetime) -> None:
    """What follows from facts that were appended in this transaction.

    The messages' rows of the outbox are locked; `serving.receipts.advance` does both.
    """
    answering = {
        fact.decision_id
        for fact in facts
        if fact.decision_id is not None and fact.kind in ANSWERING and not fact.machine_made
    }
    touched = set(_conversations_of(conn, answering).values())
    if bought := {fact.customer_id for fact in facts if fact.kind in _OF_PERSON}:
        touched |= set(
            conn.scalars(
                select(conversations.c.conversation_id)
                .join(follow_ups, follow_ups.c.conversation_id == conversations.c.conversation_id)
                .where(
                    conversations.c.customer_id.in_(sorted(bought)), follow_ups.c.status.in_(sorted(_OPEN))
                )
            )
        )
    if touched:
        _advance(conn, _lock(conn, touched), now)
    events = [fact for fact in facts if fact.kind in _TRIGGER_OF and not fact.machine_made]
    if events:
        _begin_by_events(conn, events)


def due(conn: Connection, now: datetime, limit: int) -> list[FollowUpStep]:
    """Follow-ups whose time has come, the longest due first. Several readers may get the same: one decides it."""
    rows = conn.execute(
        select(follow_ups)
        .where(follow_ups.c.status == FollowUpStatus.WAITING, follow_ups.c.due_at <= now)
        .order_by(follow_ups.c.due_at, follow_ups.c.follow_up_id)
        .limit(limit)
    ).all()
    used: dict[str, set[str]] = {}
    theirs: set[str] = set()
    if rows:
        parents = sorted({row.parent_id for row in rows if row.parent_id is not None})
        theirs.update(
            conn.scalars(
                select(outbox.c.decision_id).where(
                    outbox.c.decision_id.in_(parents), outbox.c.provider == CALLER
                )
            )
        )
        members = _decisions_of(conn, {row.conversation_id for row in rows})
        named = conn.execute(
            select(decisions.c.decision_id, decisions.c.channel).where(
                decisions.c.decision_id.in_(sorted(members)), decisions.c.channel.is_not(None)
            )
        )
        for decision_id, channel in named:
            used.setdefault(members[decision_id], set()).add(channel)
    return [
        FollowUpStep(
            follow_up_id=row.follow_up_id,
            conversation_id=row.conversation_id,
            parent_id=row.parent_id,
            customer_id=row.customer_id,
            campaign_id=row.campaign_id,
            trigger=Trigger(row.trigger),
            channels_used=(
                frozenset(used.get(row.conversation_id, ())) if row.trigger in ANSWERS else frozenset()
            ),
            offers=tuple(row.offers),
            by_caller=row.parent_id in theirs,
        )
        for row in rows
    ]


def permitted(conn: Connection, step: FollowUpStep, now: datetime) -> bool:
    """Whether the follow-up is to be decided still; locks its conversation until the transaction ends.

    One that is not is settled here.
    """
    conversation = _lock(conn, [step.conversation_id])[step.conversation_id]
    row = conn.execute(select(follow_ups).where(follow_ups.c.follow_up_id == step.follow_up_id)).one()
    if row.status != FollowUpStatus.WAITING:
        return False
    reason = None
    if conversation.n_steps >= conversation.most_steps:
        reason = "as many steps as the campaign allows"
    elif _facts_of(conn, {step.conversation_id: conversation})[step.conversation_id].ends(step.trigger):
        reason = _ANSWERED
    if reason is not None:
        settle(conn, step.follow_up_id, FollowUpStatus.CANCELLED, reason, now)
    return reason is None


def decided(conn: Connection, step: FollowUpStep, now: datetime) -> None:
    """The decision is written in this transaction, which has asked `permitted`."""
    settle(conn, step.follow_up_id, FollowUpStatus.DECIDED, None, now)
    conn.execute(
        update(conversations)
        .where(conversations.c.conversation_id == step.conversation_id)
        .values(n_steps=conversations.c.n_steps + 1)
    )


def settle(conn: Connection, name: str, status: FollowUpStatus, reason: str | None, now: datetime) -> bool:
    """Settle a follow-up; whether it was waiting."""
    settled = conn.execute(
        update(follow_ups)
        .where(follow_ups.c.follow_up_id == name, follow_ups.c.status == FollowUpStatus.WAITING)
        .values(status=status, reason=reason, settled_at=now)
    )
    return settled.rowcount == 1


def answered(conn: Connection, decision_ids: Collection[str]) -> set[str]:
    """Which of these decisions are fallbacks whose conversation has been answered: their message must not go out.

    Locks the conversations, so that no answer comes between this and the commit of the claim.
    """
    rows = _FALLBACKS.rows(conn, ids=sorted(decision_ids))
    if not rows:
        return set()
    facts = _facts_of(conn, _lock(conn, {conversation_id for _, conversation_id, _ in rows}))
    return {name for name, conversation_id, trigger in rows if facts[conversation_id].ends(Trigger(trigger))}


@dataclass(slots=True)
class _Facts:
    """What has happened in one conversation.

    Attributes:
        by_decision: First moment of each kind, by decision.
        of_person: What the customer did since it began, wherever: purchases and the like.
    """

    by_decision: dict[str, dict[InteractionKind, datetime]] = field(default_factory=dict)
    of_person: set[InteractionKind] = field(default_factory=set)

    def ends(self, trigger: Trigger) -> bool:
        """Whether silence is broken, or the event taken back."""
        kinds = ANSWERS.get(trigger) or TAKEN_BACK_BY.get(trigger, frozenset())
        seen = {kind for known in self.by_decision.values() for kind in known} | self.of_person
        return not kinds.isdisjoint(seen)

    def due_at(self, rule: FollowUpRule, decision_id: str, now: datetime) -> datetime | None:
        """When the rule is due after that decision, as far as facts tell; None where there is only its timer."""
        seen = self.by_decision.get(decision_id, {})
        if rule.on in SET_OFF_BY:
            moments = [seen[kind] for kind in SET_OFF_BY[rule.on] if kind in seen]
            return min(moments) + timedelta(seconds=rule.after_seconds) if moments else None
        lost = rule.on in ANSWERS and not _NOT_TAKEN.isdisjoint(seen) and not self.ends(rule.on)
        return now if lost else None  # what reached nobody will not be answered


def _advance(conn: Connection, locked: Mapping[str, Row[Any]], now: datetime) -> None:
    """Bring locked conversations to where their facts say that they are; the order of the facts does not matter."""
    facts = _facts_of(conn, locked)
    known = {
        row.follow_up_id: row
        for row in conn.execute(select(follow_ups).where(follow_ups.c.conversation_id.in_(sorted(locked))))
    }
    for row in known.values():
        if row.status in _OPEN and facts[row.conversation_id].ends(Trigger(row.trigger)):
            if row.status == FollowUpStatus.WAITING:
                settle(conn, row.follow_up_id, FollowUpStatus.CANCELLED, _ANSWERED, now)
            else:
                _hasten_message(conn, row.follow_up_id, now)
    members = _decisions_of(conn, locked)
    new = []
    for decision_id, campaign in campaigns_of(conn, members).items():
        conversation = locked[members[decision_id]]
        of_conversation = facts[members[decision_id]]
        for number, rule in enumerate(campaign.follow_ups):
            due_at = of_conversation.due_at(rule, decision_id, now)
            if due_at is None:
                continue
            waiting = known.get(follow_up_id(decision_id, number))
            if waiting is None:
                new.append(_waiting(conversation, decision_id, number, campaign, due_at))
            elif waiting.status == FollowUpStatus.WAITING and due_at < waiting.due_at:
                conn.execute(
                    update(follow_ups)
                    .where(follow_ups.c.follow_up_id == waiting.follow_up_id)
                    .values(due_at=due_at)
                )
    _insert(conn, follow_ups, "follow_up_id", new)


def _hasten_message(conn: Connection, decision_id: str, now: datetime) -> None:
    """The message of a fallback that nobody needs any more is looked at now, and suppressed by whoever claims it.

    One that somebody holds at this moment is passed over: its claimant finds the answer.
    """
    idle = (
        select(outbox.c.message_id)
        .where(outbox.c.decision_id == decision_id, outbox.c.status == "pending", outbox.c.due_at > now)
        .with_for_update(skip_locked=True)
    )
    conn.execute(update(outbox).where(outbox.c.message_id.in_(idle)).values(due_at=now))


def _begin_by_events(conn: Connection, events: Sequence[Interaction]) -> None:
    """An event sets off the rules of every campaign that waits for it, once while one of them still waits."""
    ruled = [
        (campaign, number, rule)
        for campaign in list_campaigns(conn)
        for number, rule in enumerate(campaign.follow_ups)
        if rule.on in EVENTS
    ]
    waiting = {
        (row.customer_id, row.campaign_id, row.trigger)
        for row in conn.execute(
            select(follow_ups.c.customer_id, follow_ups.c.campaign_id, follow_ups.c.trigger).where(
                follow_ups.c.customer_id.in_(sorted({fact.customer_id for fact in events})),
                follow_ups.c.status == FollowUpStatus.WAITING,
            )
        )
    }
    begun: list[dict[str, object]] = []
    timers: list[dict[str, object]] = []
    for fact in sorted(events, key=lambda fact: (fact.source, fact.event_id)):
        trigger = _TRIGGER_OF[fact.kind]
        for campaign, number, rule in ruled:
            key = fact.customer_id, rule.campaign_id or campaign.campaign_id, str(trigger)
            if rule.on is not trigger or key in waiting:
                continue
            waiting.add(key)
            cause = f"{fact.source}/{fact.event_id}/{campaign.campaign_id}"
            name = follow_up_id(cause, number)
            begun.append(
                {
                    "conversation_id": name,
                    "customer_id": fact.customer_id,
                    "began_at": fact.occurred_at,
                    "n_steps": 0,
                    "most_steps": 1 + campaign.most_follow_ups,
                }
            )
            timers.append(
                {
                    "follow_up_id": name,
                    "conversation_id": name,
                    "parent_id": None,
                    "customer_id": fact.customer_id,
                    "campaign_id": key[1],
                    "trigger": trigger,
                    "offers": list(rule.offers),
                    "due_at": fact.occurred_at + timedelta(seconds=rule.after_seconds),
                    "status": FollowUpStatus.WAITING,
                }
            )
    _insert(conn, conversations, "conversation_id", begun)
    _insert(conn, follow_ups, "follow_up_id", timers)


def _waiting(
    conversation: Row[Any], decision_id: str, number: int, campaign: Campaign, due_at: datetime
) -> dict[str, object]:
    rule = campaign.follow_ups[number]
    return {
        "follow_up_id": follow_up_id(decision_id, number),
        "conversation_id": conversation.conversation_id,
        "parent_id": decision_id,
        "customer_id": conversation.customer_id,
        "campaign_id": rule.campaign_id or campaign.campaign_id,
        "trigger": rule.on,
        "offers": list(rule.offers),
        "due_at": due_at,
        "status": FollowUpStatus.WAITING,
    }


def _insert(conn: Connection, table: Table, key: str, rows: Sequence[dict[str, object]]) -> None:
    """Add rows, in order of their keys; one that is there already stays."""
    if not rows:
        return
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    conn.execute(insert(table).on_conflict_do_nothing(), sorted(rows, key=lambda row: str(row[key])))


def _lock(conn: Connection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """The conversations, locked in order of their ids until the transaction ends."""
    rows = conn.execute(
        select(conversations)
        .where(conversations.c.conversation_id.in_(sorted(set(names))))
        .order_by(conversations.c.conversation_id)
        .with_for_update()
    )
    return {row.conversation_id: row for row in rows}


def _conversations_of(conn: Connection, decision_ids: Collection[str]) -> dict[str, str]:
    """The conversation of each decision that has one."""
    if not decision_ids:
        return {}
    asked = sorted(decision_ids)
    followed = conn.execute(
        select(follow_ups.c.follow_up_id, follow_ups.c.conversation_id).where(
            follow_ups.c.follow_up_id.in_(asked)
        )
    )
    first = conn.scalars(
        select(conversations.c.conversation_id).where(conversations.c.conversation_id.in_(asked))
    )
    return {name: name for name in first} | {row.follow_up_id: row.conversation_id for row in followed}


def _decisions_of(conn: Connection, names: Iterable[str]) -> dict[str, str]:
    """The conversation of each of the decisions that those conversations consist of."""
    known = sorted(names)
    rows = conn.execute(
        select(follow_ups.c.follow_up_id, follow_ups.c.conversation_id).where(
            follow_ups.c.conversation_id.in_(known), follow_ups.c.status == FollowUpStatus.DECIDED
        )
    )
    return {name: name for name in known} | {row.follow_up_id: row.conversation_id for row in rows}


def campaigns_of(conn: Connection, decision_ids: Collection[str]) -> dict[str, Campaign]:
    """The campaign of each decision, in the version that it was decided for."""
    rows = conn.execute(
        select(decisions.c.decision_id, decisions.c.campaign_id, decisions.c.campaign_version)
        .where(decisions.c.decision_id.in_(sorted(decision_ids)))
        .order_by(decisions.c.decision_id)
    ).all()
    versions = {
        key: load_campaign(conn, *key) for key in {(row.campaign_id, row.campaign_version) for row in rows}
    }
    return {row.decision_id: versions[row.campaign_id, row.campaign_version] for row in rows}


def _facts_of(conn: Connection, locked: Mapping[str, Row[Any]]) -> dict[str, _Facts]:
    """What happened in each conversation; what machines did is left out."""
    found = {name: _Facts() for name in locked}
    members = _decisions_of(conn, locked)
    answers = conn.execute(
        select(interactions.c.decision_id, interactions.c.kind, func.min(interactions.c.occurred_at))
        .where(
            interactions.c.decision_id.in_(sorted(members)),
            interactions.c.kind.in_(sorted(ANSWERING)),
            ~interactions.c.machine_made,
        )
        .group_by(interactions.c.decision_id, interactions.c.kind)
    )
    for decision_id, kind, first_at in answers:
        found[members[decision_id]].by_decision.setdefault(decision_id, {})[InteractionKind(kind)] = first_at
    of_person = conn.execute(
        select(conversations.c.conversation_id, interactions.c.kind)
        .join(interactions, interactions.c.customer_id == conversations.c.customer_id)
        .where(
            conversations.c.conversation_id.in_(sorted(locked)),
            interactions.c.occurred_at >= conversations.c.began_at,
            interactions.c.kind.in_(sorted(_OF_PERSON)),
        )
    )
    for name, kind in of_person:
        found[name].of_person.add(InteractionKind(kind))
    return found
