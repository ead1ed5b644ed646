"""Settle what decisions turned out to be worth."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Connection,
    and_,
    delete,
    exists,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.moments import earlier
from features.history.query import in_chunks
from features.history.reached import reached, released
from features.history.tables import decisions, interactions, rewards
from models.domain.attribution import Attributable, attribute
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.errors import NotFoundError
from models.domain.interaction import NOT_REACHED, Interaction, InteractionKind
from models.domain.reward import Reward

_CUSTOMERS_A_CHUNK = 2_000
# A fact may be committed a little after the moment at which it was received.
_COMMIT_DELAY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Logged:
    """A decision as attribution sees it, whether it was cancelled, and the reward that is stored."""

    attributable: Attributable
    released: bool
    stored: Reward | None


def settle_rewards(conn: Connection, as_of: datetime, campaign_id: str | None = None) -> int:
    """Work out the rewards of the decisions made by `as_of`, and store those that changed.

    A fact that names a decision belongs to it. One that names none belongs, in each campaign that it may
    concern, to the customer's latest decision that had started by then and reached them. A decision whose
    reward is final is looked at again when a fact about its customer arrives later. A decision that reached
    nobody has no reward.

    Args:
        conn: In the caller's transaction.
        as_of: Aware; later facts are ignored.
        campaign_id: Only this campaign; None for all.

    Returns:
        Number of rewards that are new, changed or taken back.

    Raises:
        NotFoundError: a decision names a campaign version, channel or offer that is not stored.
    """
    named = select(decisions.c.campaign_id).distinct().order_by(decisions.c.campaign_id)
    if campaign_id is not None:
        named = named.where(decisions.c.campaign_id == campaign_id)
    channels = load_channels(conn)
    n_changed = 0
    for name in conn.scalars(named).all():
        campaigns = _CampaignVersions(conn, name)
        for customer_ids in in_chunks(_customers_to_settle(conn, name, as_of), _CUSTOMERS_A_CHUNK):
            logged = _load_decisions(conn, campaigns, channels, customer_ids, as_of)
            facts = _load_facts(conn, campaigns, customer_ids, as_of)
            n_changed += _store(conn, _settle(logged, facts, as_of))
    return n_changed


class _CampaignVersions(dict[int, Campaign]):
    """Versions of one campaign, loaded when they are asked for."""

    def __init__(self, conn: Connection, campaign_id: str) -> None:
        self.campaign_id = campaign_id
        self._conn = conn

    def __missing__(self, version: int) -> Campaign:
        self[version] = load_campaign(self._conn, self.campaign_id, version)
        return self[version]


def _customers_to_settle(conn: Connection, campaign_id: str, as_of: datetime) -> list[str]:
    """Who has a decision without a final reward, or one that facts which came later may change."""
    arrived = exists().where(
        interactions.c.customer_id == decisions.c.customer_id,
        interactions.c.occurred_at >= decisions.c.decided_at,
        interactions.c.received_at >= earlier(conn, rewards.c.as_of, _COMMIT_DELAY),
    )
    query = (
        select(decisions.c.customer_id)
        .distinct()
        .outerjoin_from(decisions, rewards, rewards.c.decision_id == decisions.c.decision_id)
        .where(
            decisions.c.campaign_id == campaign_id,
            decisions.c.decided_at <= as_of,
            or_(and_(rewards.c.decision_id.is_(None), reached()), ~rewards.c.final, arrived),
        )
        .order_by(decisions.c.customer_id)
    )
    return list(conn.scalars(query))


def _load_decisions(
    conn: Connection,
    campaigns: _CampaignVersions,
    channels: Mapping[str, Channel],
    customer_ids: Sequence[str],
    as_of: datetime,
) -> dict[str, list[_Logged]]:
    """All decisions of those customers in the campaign, by customer, in order of their start."""
    rows = conn.execute(
        select(
            decisions.c.decision_id,
            decisions.c.customer_id,
            decisions.c.campaign_version,
            decisions.c.decided_at,
            decisions.c.send_at,
            decisions.c.channel,
            decisions.c.offer_id,
            decisions.c.cost_minor,
            released().label("released"),
            rewards.c.opened,
            rewards.c.clicked,
            rewards.c.converted,
            rewards.c.value_minor,
            rewards.c.cost_minor.label("settled_cost_minor"),
            rewards.c.final,
            rewards.c.as_of,
            rewards.c.opened_at,
            rewards.c.converted_at,
            rewards.c.discounted,
        )
        .outerjoin_from(decisions, rewards, rewards.c.decision_id == decisions.c.decision_id)
        .where(
            decisions.c.campaign_id == campaigns.campaign_id,
            decisions.c.customer_id.in_(customer_ids),
            decisions.c.decided_at <= as_of,
        )
    )
    found: defaultdict[str, list[_Logged]] = defaultdict(list)
    for row in rows:
        campaign = campaigns[row.campaign_version]
        stored = row.as_of and Reward(
            decision_id=row.decision_id,
            opened=row.opened,
            clicked=row.clicked,
            converted=row.converted,
            value_minor=row.value_minor,
            cost_minor=row.settled_cost_minor,
            final=row.final,
            as_of=row.as_of,
            opened_at=row.opened_at,
            converted_at=row.converted_at,
            discounted=row.discounted,
        )
        attributable = Attributable(
            decision_id=row.decision_id,
            customer_id=row.customer_id,
            campaign_id=campaign.campaign_id,
            channel=None if row.channel is None else _channel(channels, row.channel),
            starts_at=row.send_at or row.decided_at,
            window_seconds=campaign.attribution_window_seconds,
            cost_minor=row.cost_minor,
            default_value_minor=_default_value(campaign, row.offer_id),
            conversion_kind=campaign.conversion_kind,
        )
        found[row.customer_id].append(_Logged(attributable, row.released, stored))
    for decided in found.values():
        decided.sort(key=lambda each: (each.attributable.starts_at, each.attributable.decision_id))
    return found


def _channel(channels: Mapping[str, Channel], name: str) -> Channel:
    if name not in channels:
        raise NotFoundError("channel", name)
    return channels[name]


def _default_value(campaign: Campaign, offer_id: str | None) -> float:
    if offer_id is None:
        return campaign.conversion_value_minor
    for offer in campaign.offers:
        if offer.offer_id == offer_id:
            return offer.margin_minor
    raise NotFoundError("offer_id", offer_id)


def _load_facts(
    conn: Connection, campaigns: _CampaignVersions, customer_ids: Sequence[str], as_of: datetime
) -> list[Interaction]:
    """What those customers did that may count for the campaign, oldest first."""
    kinds = {InteractionKind.OPENED, InteractionKind.CLICKED} | NOT_REACHED
    kinds |= {campaign.conversion_kind for campaign in campaigns.values()}
    rows = conn.execute(
        select(
            interactions.c.source,
            interactions.c.event_id,
            interactions.c.customer_id,
            interactions.c.kind,
            interactions.c.occurred_at,
            interactions.c.channel,
            interactions.c.campaign_id,
            interactions.c.decision_id,
            interactions.c.value_minor,
            interactions.c.machine_made,
            interactions.c.attributes,
        )
        .where(
            interactions.c.customer_id.in_(customer_ids),
            interactions.c.kind.in_(sorted(kinds)),
            interactions.c.occurred_at <= as_of,
        )
        .order_by(interactions.c.occurred_at, interactions.c.interaction_id)
    )
    facts = []
    for row in rows:
        values = row._asdict()
        facts.append(Interaction(**(values | {"kind": InteractionKind(row.kind)})))
    return facts


def _settle(
    logged: Mapping[str, Sequence[_Logged]], facts: Sequence[Interaction], as_of: datetime
) -> list[tuple[_Logged, Reward | None]]:
    """The reward of every decision, each from the facts that no other decision has a better claim to."""
    unreached = {fact.decision_id for fact in facts if fact.kind in NOT_REACHED}
    unreached |= {
        each.attributable.decision_id for decided in logged.values() for each in decided if each.released
    }
    claimants = {
        customer_id: [each.attributable for each in decided if each.attributable.decision_id not in unreached]
        for customer_id, decided in logged.items()
    }
    starts = {
        customer_id: [claimant.starts_at for claimant in decided]
        for customer_id, decided in claimants.items()
    }
    claimed: defaultdict[str, list[Interaction]] = defaultdict(list)
    for fact in facts:
        if fact.decision_id is not None:
            claimed[fact.decision_id].append(fact)
            continue
        latest = bisect_right(starts[fact.customer_id], fact.occurred_at) - 1
        if latest >= 0:
            claimed[claimants[fact.customer_id][latest].decision_id].append(fact)
    settled: list[tuple[_Logged, Reward | None]] = []
    for each in (each for decided in logged.values() for each in decided):
        decision_id = each.attributable.decision_id
        reward = None
        if decision_id not in unreached:
            reward = attribute(each.attributable, claimed[decision_id], as_of)
        settled.append((each, reward))
    return settled


def _store(conn: Connection, settled: Sequence[tuple[_Logged, Reward | None]]) -> int:
    taken_back = [
        each.attributable.decision_id
        for each, reward in settled
        if each.stored is not None and reward is None
    ]
    n_changed = len(taken_back)
    rows = []
    for each, reward in settled:
        if reward is None:
            continue
        row = {name: getattr(reward, name) for name in rewards.c.keys()}  # noqa: SIM118
        changed = each.stored is None or any(
            row[name] != getattr(each.stored, name) for name in row if name != "as_of"
        )
        n_changed += changed
        # A final reward that was looked at again must say so, or it would be looked at for ever.
        if changed or reward.final:
            rows.append(row)
    if taken_back:
        conn.execute(delete(rewards).where(rewards.c.decision_id.in_(taken_back)))
    if rows:
        insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        statement = insert(rewards)
        given = {name: statement.excluded[name] for name in rewards.c.keys() if name != "decision_id"}  # noqa: SIM118
        conn.execute(statement.on_conflict_do_update(index_elements=["decision_id"], set_=given), rows)
    return n_changed
