"""Judges once more, right before sending, whether a message may go out: hours may lie between decision and sending.

Contact points and content are read here, at the last moment, so none is kept in the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from jinja2 import UndefinedError
from sqlalchemy import Connection, select

from features.history.campaigns import latest_campaigns, load_campaign
from features.history.channels import load_channels
from features.history.prepared import Prepared, one_of
from features.history.query import load_customers, load_recipients
from features.history.tables import customers, decisions
from models.domain.action import ReasonCode
from models.domain.campaign import Campaign, Content
from models.domain.channel import Channel, IdentityKind
from models.domain.customer import Customer, zone
from models.domain.eligibility import unreachable
from models.domain.errors import NotFoundError
from models.domain.message import Message
from models.domain.slots import next_send_times
from serving.channels.contract import Links
from serving.content import ContentTooLongError, Person, personal
from serving.store.endings import ClaimedMessage, Ending, later, suppressed
from serving.templates import COUPON, REDEEM_LINK

_VERSIONS = Prepared(
    select(decisions.c.decision_id, decisions.c.campaign_id, decisions.c.campaign_version).where(
        one_of(decisions.c.decision_id, "ids")
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFacts:
    """What is known at the moment of sending; what is gone is absent.

    Attributes:
        customers: By id.
        channels: By name.
        campaigns: Latest version by id: what holds now.
        decided: By decision id, the campaign in the version that the decision used: what was promised.
        people: By customer id, what content may say of them.
        recipients: By customer and kind, what opens the contact point that is sealed until then.
        codes: By decision id, the code of what the offer gives.
    """

    customers: Mapping[str, Customer]
    channels: Mapping[str, Channel]
    campaigns: Mapping[str, Campaign]
    decided: Mapping[str, Campaign]
    people: Mapping[str, Person] = field(default_factory=dict)
    recipients: Mapping[tuple[str, IdentityKind], Callable[[], str]] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)


def read_send_facts(conn: Connection, claimed: Sequence[ClaimedMessage], now: datetime) -> SendFacts:
    """Read, in a few statements, what `judge` needs for these messages."""
    campaigns = {
        campaign.campaign_id: campaign
        for campaign in latest_campaigns(conn, sorted({each.campaign_id for each in claimed}))
    }
    version_of = _VERSIONS.rows(conn, ids=[each.decision_id for each in claimed])
    versions: dict[tuple[str, int], Campaign] = {}
    for campaign_id, version in {(campaign_id, version) for _, campaign_id, version in version_of}:
        with suppress(NotFoundError):
            versions[campaign_id, version] = load_campaign(conn, campaign_id, version)
    people = load_customers(conn, [each.customer_id for each in claimed], now)
    return SendFacts(
        customers=people,
        channels=load_channels(conn),
        campaigns=campaigns,
        decided={
            decision_id: versions[campaign_id, version]
            for decision_id, campaign_id, version in version_of
            if (campaign_id, version) in versions
        },
        people={
            row.customer_id: Person(row.customer_id, row.attributes)
            for row in conn.execute(
                select(customers.c.customer_id, customers.c.attributes).where(
                    customers.c.customer_id.in_(sorted({each.customer_id for each in claimed}))
                )
            )
        },
        recipients=load_recipients(conn, [person.customer_id for person in people.values()], now),
    )


def judge(claimed: ClaimedMessage, facts: SendFacts, links: Links, now: datetime) -> Message | Ending:
    """The message to send now, or why it is not to be sent: suppressed for good, or later.

    Args:
        claimed: The claim.
        facts: Read just before.
        links: Makes the tracked addresses that replace the content's own.
        now: Aware.

    Raises:
        ContactKeyError: the contact point cannot be opened.
    """
    campaign = facts.campaigns.get(claimed.campaign_id)
    channel = facts.channels.get(claimed.channel)
    customer = facts.customers.get(claimed.customer_id)
    decided = facts.decided.get(claimed.decision_id)
    content = _content(decided, claimed)
    if campaign is None or decided is None or content is None:
        return suppressed(claimed, now, "campaign_gone")
    if channel is None:
        return suppressed(claimed, now, "channel_gone")
    if customer is None:
        return suppressed(claimed, now, "customer_gone")
    if now >= min(claimed.expires_at, campaign.send_window.bounds(customer.time_zone)[1]):
        return suppressed(claimed, now, "expired")
    if reason := unreachable(channel, campaign.purpose, customer, now, claimed.content_kind):
        return suppressed(claimed, now, reason)
    if campaign.quiet_at(now.astimezone(zone(customer.time_zone)).time()):
        (quiet_until,) = next_send_times((campaign.quiet_hours.end,), customer.time_zone, now)
        return later(claimed, now, quiet_until, "quiet_hours", attempted=False)
    try:
        made = personal(
            decided,
            channel,
            claimed.offer_id,
            claimed.content_kind,
            content,
            facts.people.get(claimed.customer_id, Person(claimed.customer_id, {})),
            lambda number: links.click(claimed.message_id, number),
            _given(claimed, facts, links),
        )
    except UndefinedError:  # its fields have fallbacks: it can only be what the offer gives
        return suppressed(claimed, now, "gives_nothing")
    except ContentTooLongError:
        return suppressed(claimed, now, ReasonCode.CONTENT_TOO_LONG)
    return Message(
        message_id=claimed.message_id,
        decision_id=claimed.decision_id,
        customer_id=claimed.customer_id,
        campaign_id=claimed.campaign_id,
        offer_id=claimed.offer_id,
        channel=claimed.channel,
        identity_kind=channel.identity_kind,
        recipient=facts.recipients[customer.customer_id, channel.identity_kind](),
        content_kind=claimed.content_kind,
        content=made,
        send_at=claimed.send_at,
        expires_at=claimed.expires_at,
    )


def _given(claimed: ClaimedMessage, facts: SendFacts, links: Links) -> dict[str, str]:
    """What the message may say of what its offer gives; nothing where it gives nothing."""
    code = facts.codes.get(claimed.decision_id)
    return {} if code is None else {COUPON: code, REDEEM_LINK: links.redeem(claimed.message_id)}


def _content(campaign: Campaign | None, claimed: ClaimedMessage) -> Content | None:
    if campaign is None:
        return None
    for offer in campaign.offers:
        if offer.offer_id == claimed.offer_id:
            return offer.content.get(claimed.content_kind)
    return None
