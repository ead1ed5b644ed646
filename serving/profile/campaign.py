"""What a campaign did with the members of a segment: funnel, hours, and what it earned beyond doing nothing.

What it earned is a fair comparison of arms only among customers whom the campaign did not choose: so members are those who
belonged to the segment just before its first decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from features.feature_list import FeatureList
from features.history.hours import opened_by_hour
from features.history.report import FunnelRow, customer_sums, funnel
from features.history.unsettled import count_waiting
from features.segments.everybody import members
from features.segments.language import Segment
from features.segments.then import before_campaign, known_now_only
from models.domain.campaign import Campaign
from models.evaluation.experiment import SampleRatio
from models.evaluation.share import CountedShare, counted_share
from serving.arms import CONFIDENCE, ArmReport
from serving.compared import DifferenceReport, compare

ONE_IN_TWENTY = (
    "Of twenty segments in which a campaign changes nothing, one seems to show an effect by chance. Decide which segments to "
    "look at before the campaign, and try what is found afterwards in another one."
)
_NOBODY = "Nobody has been decided for yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class HourReport:
    """Messages that went out at one hour.

    Attributes:
        hour: Of the customer's own day, 0 to 23.
        opened: How many of them were opened, with Wilson's interval.
    """

    hour: int
    opened: CountedShare


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignProfile:
    """A campaign among the members of a segment.

    Attributes:
        members_as_of: Just before the campaign's first decision; None where it has none.
        n_members: Who belonged to the segment then.
        n_customers: Of these, those whom the campaign decided for, as far as they are counted.
        up_to_date: Whether all that is known is counted.
        n_waiting: Customers, members or not, about whom something new is not counted yet.
        funnel: Of the members, one row a channel.
        hours: At which hours of their own day members opened, of channels that report opens. Who was written to at which hour was
            chosen, so hours differ in their customers too.
        arms: Of the members; None where `withheld`.
        differences: Between arms; None where `withheld`.
        sample_ratio: Whether arms have the sizes that were planned; None where `withheld`.
        verdict: In a sentence; None where `withheld`.
        withheld: Why arms are not compared; None where they are.
        caution: What whoever looks at many segments should know.
    """

    campaign_id: str
    campaign_version: int
    simulated: bool
    confidence: float
    members_as_of: datetime | None
    n_members: int
    n_customers: int
    up_to_date: bool
    n_waiting: int
    funnel: tuple[FunnelRow, ...]
    hours: tuple[HourReport, ...]
    arms: tuple[ArmReport, ...] | None
    differences: tuple[DifferenceReport, ...] | None
    sample_ratio: SampleRatio | None
    verdict: str | None
    withheld: str | None
    caution: str


def campaign_profile(
    conn: Connection,
    segment: Segment,
    campaign: Campaign,
    features: FeatureList | None,
    now: datetime,
    *,
    up_to_date: bool,
) -> CampaignProfile:
    """Look at the campaign among the members.

    Args:
        conn: Only read.
        segment: Whose members.
        campaign: In its latest version.
        features: The list of features; needed where the segment compares one.
        now: Aware.
        up_to_date: Whether its rewards were settled to the end.
    """
    campaign_id = campaign.campaign_id
    then = before_campaign(conn, campaign_id)
    found = [] if then is None else members(conn, segment, then, features)
    compared = compare(customer_sums(conn, campaign_id, found).arms, campaign.experiment, len(found))
    withheld = _NOBODY if then is None else _why_withheld(known_now_only(segment, features))
    return CampaignProfile(
        campaign_id=campaign_id,
        campaign_version=campaign.version,
        simulated=campaign.simulated,
        confidence=CONFIDENCE,
        members_as_of=then,
        n_members=len(found),
        n_customers=compared.n_customers,
        up_to_date=up_to_date,
        n_waiting=count_waiting(conn, campaign_id),
        funnel=tuple(funnel(conn, campaign_id, found)),
        hours=tuple(
            HourReport(hour=one.hour, opened=counted_share(one.n_opened, one.n_messages, CONFIDENCE))
            for one in opened_by_hour(conn, campaign_id, found, now)
        ),
        arms=None if withheld else compared.arms,
        differences=None if withheld else compared.differences,
        sample_ratio=None if withheld else compared.sample_ratio,
        verdict=None if withheld else compared.verdict,
        withheld=withheld,
        caution=ONE_IN_TWENTY,
    )


def _why_withheld(now_only: list[str]) -> str | None:
    if not now_only:
        return None
    return (
        f"The arms are not compared: the condition asks for {', '.join(now_only)}, which is known as it is now and not as it was "
        "before the campaign. The campaign may have changed who belongs to the segment, differently in each arm."
    )
