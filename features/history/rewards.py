"""Settle what decisions turned out to be worth."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from math import inf
from time import monotonic, sleep

from sqlalchemy import Connection, Engine, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from features.history.among import among
from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.marks import newest_fact, note_changes
from features.history.outcomes import of_customers, working_out
from features.history.reached import released
from features.history.sales import net_value_told, of_this_redemption, repeats_of_sales
from features.history.sole import sole_holder
from features.history.tables import decisions, interactions, redemptions, rewards
from features.history.transactions import Transactions
from features.history.unsettled import next_part, strike_out
from models.domain.attribution import Attributable, attribute
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.errors import ConflictError, NotFoundError
from models.domain.interaction import NOT_REACHED, Interaction, InteractionKind
from models.domain.reward import Reward

_OF_REWARD = tuple(field.name for field in fields(Reward))
# What is written for so many customers holds up decisions for some ten milliseconds, and what they are worked out from takes
# some megabytes.
_AT_ONCE = 300
_MOST_DECISIONS = 5_000
_TURN_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Logged:
    """A decision as attribution sees it, whether it was cancelled, and the reward that is stored."""

    attributable: Attributable
    released: bool
    stored: Reward | None
    stored_closes_at: datetime | None

    @property
    def closes_at(self) -> datetime:
        """The end of the attribution window."""
        return self.attributable.starts_at + timedelta(seconds=self.attributable.window_seconds)


def settle_rewards(conn: Connection, as_of: datetime, campaign_id: str | None = None) -> int:
    """Work out the rewards of the decisions made by `as_of`, store those that changed, and what came of their customers.

    A fact that names a decision belongs to it. One that names none belongs, in each campaign that it may
    concern, to the customer's latest decision that had started by then and reached them. A decision whose
    reward is final is looked at again when a fact about its customer arrives later. A decision that reached
    nobody has no reward.

    Args:
        conn: In the caller's transaction: nobody else writes meanwhile. `settle_in_parts` lets them.
        as_of: Aware; later facts are ignored.
        campaign_id: Only this campaign; None for all.

    Returns:
        Number of rewards that are new, changed or taken back.

    Raises:
        NotFoundError: a decision names a campaign version, channel or offer that is not stored.
    """
    within = Transactions.within(conn)
    for _ in note_changes(within, as_of):
        pass
    return sum(_settle_noted(within, as_of, campaign_id))


def settle_in_parts(
    engine: Engine,
    as_of: datetime,
    campaign_id: str | None = None,
    *,
    seconds: float = inf,
) -> bool:
    """The same by a few customers at a time, each with transactions of their own: decisions are taken and recorded in between.

    One process at a time does it; another waits for its turn. What is settled stays settled, whenever it ends: the next one
    goes on from there.

    Args:
        engine: Of the history.
        as_of: Aware; later facts are ignored.
        campaign_id: Only this campaign; None for all.
        seconds: How long to wait and to go on: after that no further part is begun. One is settled, however much there is to
            note before.

    Returns:
        Whether nobody is left.

    Raises:
        NotFoundError: a decision names a campaign version, channel or offer that is not stored.
    """
    until = monotonic() + seconds
    with ExitStack() as held:
        while not _has_turn(held, engine):
            if monotonic() >= until:
                return False
            sleep(_TURN_SECONDS)
        transactions, all_noted = Transactions.of(engine), True
        for _ in note_changes(transactions, as_of):
            if monotonic() >= until:
                all_noted = False
                break
        for _ in _settle_noted(transactions, as_of, campaign_id):
            if monotonic() >= until:
                return False
    return all_noted


def _has_turn(held: ExitStack, engine: Engine) -> bool:
    try:
        held.enter_context(sole_holder(engine, "settlement"))
    except ConflictError:
        return False
    return True


def _settle_noted(transactions: Transactions, as_of: datetime, campaign_id: str | None) -> Iterator[int]:
    """Settle whoever is noted, part by part; how many rewards each part changed."""
    with transactions.reading() as conn:
        channels = load_channels(conn)
    campaigns: dict[str, _CampaignVersions] = {}
    while True:
        with transactions.reading() as conn:
            part = next_part(conn, campaign_id, _AT_ONCE, _MOST_DECISIONS)
            if part is None:
                return
            versions = campaigns.setdefault(part.campaign_id, _CampaignVersions(part.campaign_id))
            seen = newest_fact(conn)
            latest = versions.latest(conn)
            repeats = repeats_of_sales(conn, part.campaign_id, part.customer_ids)
            working = working_out(conn, latest, part.customer_ids, seen, repeats)
            logged = _load_decisions(conn, versions, channels, part.customer_ids, as_of)
            facts = _load_facts(conn, versions, part.customer_ids, logged, as_of, repeats)
        settled = _settle(logged, facts, as_of)
        with transactions.writing() as conn:
            n_changed = _store(conn, settled)
            for statement in working:
                conn.execute(statement)
            strike_out(conn, part)
        yield n_changed


class _CampaignVersions(dict[int, Campaign]):
    """Versions of one campaign, loaded when they are asked for."""

    def __init__(self, campaign_id: str) -> None:
        self.campaign_id = campaign_id

    def latest(self, conn: Connection) -> Campaign:
        """The one that holds now."""
        found = load_campaign(conn, self.campaign_id)
        return self.setdefault(found.version, found)

    def version(self, conn: Connection, version: int) -> Campaign:
        """The one that a decision names."""
        if version not in self:
            self[version] = load_campaign(conn, self.campaign_id, version)
        return self[version]


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
            rewards.c.closes_at,
        )
        .outerjoin_from(decisions, rewards, rewards.c.decision_id == decisions.c.decision_id)
        .where(of_customers(conn, campaigns.campaign_id, customer_ids), decisions.c.decided_at <= as_of)
    )
    found: defaultdict[str, list[_Logged]] = defaultdict(list)
    for row in rows:
        campaign = campaigns.version(conn, row.campaign_version)
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
        found[row.customer_id].append(_Logged(attributable, row.released, stored, row.closes_at))
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
    conn: Connection,
    campaigns: _CampaignVersions,
    customer_ids: Sequence[str],
    logged: Mapping[str, Sequence[_Logged]],
    as_of: datetime,
    repeats: Sequence[int],
) -> list[Interaction]:
    """What may count for the campaign of what those customers did or their decisions are named by, oldest first.

    Args:
        conn: Only read.
        campaigns: Of the campaign.
        customer_ids: Whose facts.
        logged: Their decisions.
        as_of: Later facts are ignored.
        repeats: Ids of facts that do not count: `features.history.sales`.
    """
    made = [each.attributable.decision_id for decided in logged.values() for each in decided]
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
            net_value_told().label("value_minor"),
            interactions.c.machine_made,
            interactions.c.attributes,
        )
        .outerjoin(redemptions, of_this_redemption())
        .where(
            or_(
                among(conn, interactions.c.customer_id, customer_ids),
                among(conn, interactions.c.decision_id, made),
            ),
            interactions.c.kind.in_(sorted(kinds)),
            interactions.c.occurred_at <= as_of,
            *([interactions.c.interaction_id.not_in(repeats)] if repeats else ()),
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
        latest = bisect_right(starts.get(fact.customer_id, ()), fact.occurred_at) - 1
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
        changed = (
            replace(reward, as_of=reward.as_of if each.stored is None else each.stored.as_of) != each.stored
        )
        n_changed += changed
        if changed or each.stored_closes_at is None:
            rows.append({name: getattr(reward, name) for name in _OF_REWARD} | {"closes_at": each.closes_at})
    if taken_back:
        conn.execute(delete(rewards).where(rewards.c.decision_id.in_(taken_back)))
    if rows:
        insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
        statement = insert(rewards)
        given = {name: statement.excluded[name] for name in rewards.c.keys() if name != "decision_id"}  # noqa: SIM118
        conn.execute(statement.on_conflict_do_update(index_elements=["decision_id"], set_=given), rows)
    return n_changed
