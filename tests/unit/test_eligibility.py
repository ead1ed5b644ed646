"""Every reason for which an action is no candidate."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from models.domain.action import Exclusion, ReasonCode
from models.domain.campaign import Campaign, Caps, Content, Offer, QuietHours, SendWindow
from models.domain.channel import Channel, ContentKind, IdentityKind, Touch
from models.domain.customer import ConsentStatus, Customer, PastContact
from models.domain.eligibility import NO_LIMITS, Eligibility, Limits, eligible
from models.domain.errors import CampaignExpiredError
from models.domain.experiment import Experiment

NOW = datetime(2026, 3, 2, 1, tzinfo=UTC)  # 09:00 in Taipei
TEXT = {ContentKind.TEXT: Content(body="hello")}


def channel(name: str, kind: IdentityKind, touch: Touch = Touch.TECH) -> Channel:
    return Channel(
        name=name,
        touch=touch,
        identity_kind=kind,
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset(),
        cost_minor=1.0,
        cost_source="test",
    )


CHANNELS = {
    "email": channel("email", IdentityKind.EMAIL),
    "sms": channel("sms", IdentityKind.PHONE),
    "call": channel("call", IdentityKind.PHONE, Touch.HIGH),
}
CAMPAIGN = Campaign(
    campaign_id="spring",
    send_window=SendWindow(starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=10)),
    slots=(time(10), time(18), time(22)),
    offers=(
        Offer(offer_id="a", margin_minor=1_000.0, content=TEXT),
        Offer(offer_id="b", margin_minor=1_000.0, content=TEXT),
    ),
    channels=("email", "sms", "call"),
    experiment=Experiment(experiment_id="spring"),
    conversion_value_minor=1_000.0,
    quiet_hours=QuietHours(start=time(0), end=time(0)),
)
CUSTOMER = Customer(
    customer_id="c-1",
    time_zone="Asia/Taipei",
    identities={IdentityKind.EMAIL: "c1@example.com", IdentityKind.PHONE: "+886900000001"},
    consents={(name, "marketing"): ConsentStatus.GRANTED for name in CHANNELS},
)


def verdict(
    *,
    campaign: Campaign = CAMPAIGN,
    customer: Customer = CUSTOMER,
    limits: Limits = NO_LIMITS,
    **changed: Channel,
) -> Eligibility:
    return eligible(campaign, {**CHANNELS, **changed}, customer, NOW, limits)


def contacts(n: int, name: str = "email", campaign: str = "other", days_ago: float = 1) -> Customer:
    past = PastContact(channel=name, campaign_id=campaign, contacted_at=NOW - timedelta(days=days_ago))
    return replace(CUSTOMER, contacts=(past,) * n)


def consenting(status: ConsentStatus) -> Customer:
    return replace(CUSTOMER, consents={**CUSTOMER.consents, ("email", "marketing"): status})


def without_consent() -> Customer:
    return replace(CUSTOMER, consents={("sms", "marketing"): ConsentStatus.GRANTED})


WINDOWED = replace(CHANNELS["email"], provider_window_seconds=24 * 3_600)

REASONS: dict[ReasonCode, Callable[[], Eligibility]] = {
    ReasonCode.NO_IDENTITY: lambda: verdict(customer=replace(CUSTOMER, identities={})),
    ReasonCode.NO_CONSENT: lambda: verdict(customer=without_consent()),
    ReasonCode.UNSUBSCRIBED: lambda: verdict(customer=consenting(ConsentStatus.UNSUBSCRIBED)),
    ReasonCode.COMPLAINED: lambda: verdict(customer=consenting(ConsentStatus.COMPLAINED)),
    ReasonCode.CONTENT_KIND_UNSUPPORTED: lambda: verdict(
        email=replace(CHANNELS["email"], content_kinds=frozenset({ContentKind.VIDEO}))
    ),
    ReasonCode.CHANNEL_PINNED: lambda: verdict(campaign=replace(CAMPAIGN, pinned_channel="sms")),
    ReasonCode.CHANNEL_DOWN: lambda: verdict(limits=Limits(channels_down=frozenset({"email"}))),
    ReasonCode.QUIET_HOURS: lambda: verdict(
        campaign=replace(CAMPAIGN, quiet_hours=QuietHours(start=time(9), end=time(12)))
    ),
    ReasonCode.OUTSIDE_SEND_WINDOW: lambda: verdict(
        campaign=replace(
            CAMPAIGN,
            send_window=SendWindow(starts_at=NOW + timedelta(hours=2), ends_at=NOW + timedelta(days=1)),
        )
    ),
    ReasonCode.FREQUENCY_CAP: lambda: verdict(customer=contacts(3)),
    ReasonCode.CAMPAIGN_CAP: lambda: verdict(
        campaign=replace(CAMPAIGN, caps=Caps(contacts_per_campaign=1)),
        customer=contacts(1, campaign="spring", days_ago=300),
    ),
    ReasonCode.BUDGET_EXHAUSTED: lambda: verdict(limits=Limits(budget_left_minor=0.5)),
    ReasonCode.CAPACITY_EXHAUSTED: lambda: verdict(limits=Limits(capacity_left={"email": 0})),
    ReasonCode.PROVIDER_WINDOW: lambda: verdict(email=WINDOWED),
    ReasonCode.TOUCH_LEVEL: lambda: verdict(campaign=replace(CAMPAIGN, touch_levels=frozenset({Touch.HIGH}))),
    ReasonCode.COST_UNKNOWN: lambda: verdict(email=replace(CHANNELS["email"], cost_minor=None)),
}


def test_nothing_excludes_a_customer_who_has_agreed_to_everything() -> None:
    found = verdict()
    assert all(found.reason(o, c, s) is None for o in range(2) for c in range(3) for s in range(3))
    assert found.exclusions(CAMPAIGN) == ()


@pytest.mark.parametrize("reason", ReasonCode)
def test_every_reason_excludes_the_first_channel_at_the_first_slot(reason: ReasonCode) -> None:
    assert REASONS[reason]().reason(0, 0, 0) is reason


@pytest.mark.parametrize("reason", ReasonCode)
def test_every_reason_has_words_of_its_own(reason: ReasonCode) -> None:
    words = [Exclusion(reason=other).words for other in ReasonCode]
    assert words.count(Exclusion(reason=reason).words) == 1


def test_a_withdrawn_consent_is_no_consent_even_where_none_is_needed() -> None:
    free = replace(CHANNELS["email"], needs_consent=False)
    assert verdict(customer=without_consent(), email=free).channel[0] is None
    withdrawn = verdict(customer=consenting(ConsentStatus.WITHDRAWN), email=free)
    assert withdrawn.channel[0] is ReasonCode.NO_CONSENT


def test_consent_for_another_purpose_is_none() -> None:
    service = replace(CAMPAIGN, purpose="service")
    assert verdict(campaign=service).channel == (ReasonCode.NO_CONSENT,) * 3


def test_an_unsubscription_from_one_channel_leaves_the_others() -> None:
    assert verdict(customer=consenting(ConsentStatus.UNSUBSCRIBED)).channel[1:] == (None, None)


def test_the_provider_window_is_open_until_a_day_after_the_last_message() -> None:
    def replied(ago: timedelta) -> ReasonCode | None:
        return verdict(customer=replace(CUSTOMER, replied_at={"email": NOW - ago}), email=WINDOWED).channel[0]

    assert replied(timedelta(hours=24, seconds=-1)) is None
    assert replied(timedelta(hours=24)) is ReasonCode.PROVIDER_WINDOW


def test_the_cap_counts_contacts_of_all_channels_within_its_window() -> None:
    assert verdict(customer=contacts(2)).channel[0] is None
    assert verdict(customer=contacts(3, "sms")).channel[0] is ReasonCode.FREQUENCY_CAP
    assert verdict(customer=contacts(3, days_ago=7.1)).channel[0] is None


def test_a_cap_for_each_channel_leaves_the_other_channels() -> None:
    capped = replace(CAMPAIGN, caps=Caps(contacts=None, contacts_per_channel=2))
    assert verdict(campaign=capped, customer=contacts(2)).channel == (ReasonCode.FREQUENCY_CAP, None, None)


def test_a_planned_contact_counts_against_the_cap() -> None:
    assert verdict(customer=contacts(3, days_ago=-0.5)).channel[0] is ReasonCode.FREQUENCY_CAP


def test_a_budget_that_covers_one_more_message_is_not_exhausted() -> None:
    assert verdict(limits=Limits(budget_left_minor=1.0)).channel[0] is None


def test_quiet_hours_that_span_midnight_are_local_to_the_customer() -> None:
    quiet = replace(CAMPAIGN, quiet_hours=QuietHours(start=time(21), end=time(8)))
    assert verdict(campaign=quiet).slot == (None, None, ReasonCode.QUIET_HOURS)
    # The slots are local too, so that they are quiet or not for everybody alike.
    abroad = replace(CUSTOMER, time_zone="America/New_York")
    assert verdict(campaign=quiet, customer=abroad).slot == (None, None, ReasonCode.QUIET_HOURS)


def test_quiet_hours_leave_only_no_contact_where_every_slot_is_quiet() -> None:
    quiet = replace(CAMPAIGN, quiet_hours=QuietHours(start=time(9), end=time(23)))
    assert verdict(campaign=quiet).slot == (ReasonCode.QUIET_HOURS,) * 3


def test_quiet_hours_begin_at_their_start_and_are_over_at_their_end() -> None:
    quiet = replace(CAMPAIGN, quiet_hours=QuietHours(start=time(10), end=time(18)))
    assert verdict(campaign=quiet).slot == (ReasonCode.QUIET_HOURS, None, None)


def test_a_slot_at_the_very_end_of_the_send_window_is_outside() -> None:
    ten = datetime(2026, 3, 2, 2, tzinfo=UTC)  # 10:00 in Taipei
    until = replace(CAMPAIGN, send_window=SendWindow(starts_at=NOW - timedelta(days=1), ends_at=ten))
    assert verdict(campaign=until).slot == (ReasonCode.OUTSIDE_SEND_WINDOW,) * 3
    after = replace(CAMPAIGN, send_window=SendWindow(starts_at=ten, ends_at=ten + timedelta(hours=1)))
    assert verdict(campaign=after).slot[0] is None


def test_a_campaign_that_is_over_is_an_error_with_its_date() -> None:
    over = replace(CAMPAIGN, send_window=SendWindow(starts_at=NOW - timedelta(days=2), ends_at=NOW))
    with pytest.raises(CampaignExpiredError, match=r"spring.*closed at 2026-03-02T01:00:00\+00:00"):
        verdict(campaign=over)


def test_content_excludes_the_offer_and_not_the_channel() -> None:
    video = Offer(offer_id="v", margin_minor=1.0, content={ContentKind.VIDEO: Content(body="v")})
    mixed = replace(CAMPAIGN, offers=(CAMPAIGN.offers[0], video))
    found = verdict(campaign=mixed)
    assert found.reason(0, 0, 0) is None
    assert found.reason(1, 0, 0) is ReasonCode.CONTENT_KIND_UNSUPPORTED
    assert found.exclusions(mixed)[0] == Exclusion(
        reason=ReasonCode.CONTENT_KIND_UNSUPPORTED, offer="v", channel="email"
    )


def test_each_exclusion_is_told_once_at_its_widest() -> None:
    video = replace(CHANNELS["email"], content_kinds=frozenset({ContentKind.VIDEO}))
    quiet = replace(CAMPAIGN, quiet_hours=QuietHours(start=time(21), end=time(8)))
    found = verdict(campaign=quiet, customer=without_consent(), email=video)
    assert found.exclusions(quiet) == (
        Exclusion(reason=ReasonCode.NO_CONSENT, channel="email"),
        Exclusion(reason=ReasonCode.NO_CONSENT, channel="call"),
        Exclusion(reason=ReasonCode.QUIET_HOURS, slot=2),
    )
