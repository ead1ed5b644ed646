"""The profile of a segment as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from serving.explain.phrases import percent
from serving.money import Currency
from serving.profile.campaign import CampaignProfile
from serving.profile.segment import SegmentProfile
from serving.profile.traits import Traits


def lines(profile: SegmentProfile, currency: Currency) -> Iterator[str]:
    """Everything that the profile says, a line each."""
    yield (
        f"{profile.name} (version {profile.version}): {profile.n_members:,} of {profile.n_customers:,} customers"
    )
    if profile.description:
        yield profile.description
    yield ""
    yield from _traits(profile.traits)
    yield ""
    yield f"Can be reached for {profile.purpose}: account and permission"
    for one in profile.channels:
        yield (
            f"  {one.channel:<12} {_share(one.share_members):>7} of {one.n_read:,} members, "
            f"{_share(one.share_customers):>7} of all customers ({one.n_customers_read:,} looked at)"
        )
    if profile.campaign is not None:
        yield ""
        yield from _campaign(profile.campaign, currency)


def _traits(found: Traits | None) -> Iterator[str]:
    if found is None:
        yield "There are no features yet: run `nextchannel materialize`."
        return
    if found.nothing is not None:
        yield found.nothing
    for one in found.told:
        yield f"- {one.sentence}"
    yield (
        f"({found.n_features} features of {found.n_members:,} members and {found.n_others:,} others; "
        f"{found.confidence:.0%} certain for all together)"
    )


def _campaign(found: CampaignProfile, currency: Currency) -> Iterator[str]:
    yield f"Campaign {found.campaign_id}: {found.n_customers:,} members decided for"
    if found.members_as_of is not None:
        yield f"Members as of {found.members_as_of:%Y-%m-%d %H:%M} UTC, before it began: {found.n_members:,}"
    if not found.up_to_date:
        yield f"Still counting: {found.n_waiting:,} customers or more wait."
    for row in found.funnel:
        opened = "not reported" if row.opened is None else f"{row.opened:,}"
        yield (
            f"  {row.channel:<12} planned {row.planned:,}, sent {row.sent:,}, opened {opened}, "
            f"converted {row.converted:,}, cost {currency.words(row.cost_minor)}"
        )
    for hour in found.hours:
        share = hour.opened
        yield (
            f"  {hour.hour:02}:00  {percent(share.value)} of {share.n:,} opened "
            f"[{percent(share.low)}, {percent(share.high)}]"
        )
    if found.withheld is not None:
        yield found.withheld
        return
    for one in found.differences or ():
        money, difference = currency.words, one.difference
        yield (
            f"  {one.arm} - {one.other}: {money(difference.value)} a customer, always-valid "
            f"[{money(difference.always_low)}, {money(difference.always_high)}]"
        )
    yield str(found.verdict)
    yield found.caution


def _share(share: float | None) -> str:
    return "-" if share is None else percent(share)
