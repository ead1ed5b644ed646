"""A segment said in figures and words: one profile for the page, the terminal and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from features.feature_list import FeatureList
from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.rewards import settle_in_parts
from features.segments.drawn import draw
from features.segments.everybody import split
from features.segments.reach import reachable
from features.segments.store import load_segment
from models.choice import BoolArray
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from serving.explain.catalogue import Catalogue, Language
from serving.money import Currency
from serving.profile.campaign import CampaignProfile, campaign_profile
from serving.profile.traits import Traits, read_features, traits
from serving.reading import FeatureSource
from serving.report import SETTLING_SECONDS
from serving.store.availability import reaching_the_store

# Members, and as many others, whom features, accounts and permissions are read of: a difference of 0.2 standard deviations is
# ten standard errors then, and a share is known to 1.4 percentage points.
MOST_READ = 5_000
PURPOSE = "marketing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReach:
    """Who can be contacted on a channel: those who have the account and whose permission allows it.

    Attributes:
        n_read: Members who were looked at; all of them where there are no more than 5,000.
        n_reachable: Of these, those who can be contacted.
        share_members: `n_reachable / n_read`; None without members.
        n_customers_read: Customers who were looked at, members and others.
        share_customers: Of all customers, members and others weighted by how many there are; None without customers.
    """

    channel: str
    n_read: int
    n_reachable: int
    share_members: float | None
    n_customers_read: int
    share_customers: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentProfile:
    """A segment at one moment.

    Attributes:
        n_members: Who belong to it.
        n_customers: Everybody who is known, members and others.
        language: Of the sentences.
        purpose: What permissions were looked at for.
        traits: What sets the members apart; None where there are no features yet.
        channels: Those that are switched on, or that the campaign uses, in order of name.
        campaign: What a campaign did with them; None where none was asked for.
    """

    name: str
    version: int
    description: str
    as_of: datetime
    n_members: int
    n_customers: int
    language: Language
    purpose: str
    traits: Traits | None
    channels: tuple[ChannelReach, ...]
    campaign: CampaignProfile | None


@dataclass(frozen=True, kw_only=True)
class Profiler:
    """Looks at segments.

    Attributes:
        engine: The history.
        source: The online store; None where there is none.
        currency: How money is written.
        settling_seconds: How long to wait for what of a campaign is not counted yet.
    """

    engine: Engine
    source: FeatureSource | None
    currency: Currency
    settling_seconds: float = SETTLING_SECONDS

    def profile(
        self,
        name: str,
        now: datetime,
        words: Catalogue,
        features: FeatureList | None,
        campaign_id: str | None = None,
    ) -> SegmentProfile:
        """Look at a segment. Decisions are taken meanwhile.

        Args:
            name: Of the segment.
            now: Aware.
            words: The language.
            features: The list of features that was defined last; None before the first.
            campaign_id: What it did with the members is worked out too.

        Raises:
            NotFoundError: there is no such segment or campaign.
            InvalidInputError: the segment compares a feature that is not there.
            StoreUnavailableError: the database cannot be reached.
        """
        with reaching_the_store():
            with read_only(self.engine).connect() as conn:
                segment = load_segment(conn, name)
                campaign = None if campaign_id is None else load_campaign(conn, campaign_id)
            up_to_date = campaign is not None and settle_in_parts(
                self.engine, now, campaign_id, seconds=self.settling_seconds
            )
            with read_only(self.engine).connect() as conn:
                found, others = split(conn, segment, now, features)
                inside, outside = draw(name, found, MOST_READ), draw(name, others, MOST_READ)
                purpose = PURPOSE if campaign is None else campaign.purpose
                members_reached, others_reached = (
                    reachable(conn, _channels(conn, campaign), purpose, drawn, now)
                    for drawn in (inside, outside)
                )
                campaigned = (
                    None
                    if campaign is None
                    else campaign_profile(conn, segment, campaign, features, now, up_to_date=up_to_date)
                )
        told = None
        if features is not None and self.source is not None:
            told = traits(
                segment,
                features,
                read_features(self.source, features, inside, now),
                read_features(self.source, features, outside, now),
                words,
                self.currency,
            )
        return SegmentProfile(
            name=name,
            version=segment.version,
            description=segment.description,
            as_of=now,
            n_members=len(found),
            n_customers=len(found) + len(others),
            language=words.language,
            purpose=purpose,
            traits=told,
            channels=tuple(
                _channel_reach(channel, reached, others_reached[channel], len(found), len(others))
                for channel, reached in members_reached.items()
            ),
            campaign=campaigned,
        )


def _channels(conn: Connection, campaign: Campaign | None) -> list[Channel]:
    """Those that a campaign uses, else all that are switched on."""
    known = load_channels(conn)
    if campaign is None:
        return [channel for channel in known.values() if channel.enabled]
    return [channel for name, channel in known.items() if name in campaign.channels]


def _channel_reach(
    channel: str, inside: BoolArray, outside: BoolArray, n_members: int, n_others: int
) -> ChannelReach:
    n_expected = sum(
        n * float(reached.mean()) for n, reached in ((n_members, inside), (n_others, outside)) if len(reached)
    )
    return ChannelReach(
        channel=channel,
        n_read=len(inside),
        n_reachable=int(inside.sum()),
        share_members=float(inside.mean()) if len(inside) else None,
        n_customers_read=len(inside) + len(outside),
        share_customers=n_expected / (n_members + n_others) if n_members + n_others else None,
    )
