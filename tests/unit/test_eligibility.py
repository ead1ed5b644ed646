"""Every reason for which an action is no candidate."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from models.domain.action import Exclusion, ReasonCode
from models.domain.campaign import Campaign, Caps, Content, Offer, QuietHours, SendWindow, content_for
from models.domain.channel import (
    DEFAULT_CHANNELS,
    Channel,
    ContentKind,
    IdentityKind,
    LengthUnit,
    TextLimit,
    Touch,
)
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, Customer, MessageClass, PastContact
from models.domain.eligibility import NO_LIMITS, Eligibility, Limits, eligible, unreachable
from models.domain.errors import CampaignExpiredError, InvalidInputError
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


def refusing(status: ConsentStatus, purpose: str = "marketing") -> Customer:
    return replace(CUSTOMER, consents={**CUSTOMER.consents, (EVERY_CHANNEL, purpose): status})


def without_consent() -> Customer:
    return replace(CUSTOMER, consents={("sms", "marketing"): ConsentStatus.GRANTED})


WINDOWED = replace(CHANNELS["email"], provider_window_seconds=24 * 3_600)

REASONS: dict[ReasonCode, Callable[[], Eligibility]] = {
    ReasonCode.NO_IDENTITY: lambda: verdict(customer=replace(CUSTOMER, identities={})),
    ReasonCode.NO_CONSENT: lambda: verdict(customer=without_consent()),
    ReasonCode.UNSUBSCRIBED: lambda: verdict(customer=consenting(ConsentStatus.UNSUBSCRIBED)),
    ReasonCode.COMPLAINED: lambda: verdict(customer=consenting(ConsentStatus.COMPLAINED)),
    ReasonCode.REFUSED: lambda: verdict(customer=refusing(ConsentStatus.UNSUBSCRIBED)),
    ReasonCode.CONTENT_KIND_UNSUPPORTED: lambda: verdict(
        email=replace(CHANNELS["email"], content_kinds=frozenset({ContentKind.VIDEO}))
    ),
    ReasonCode.CONTENT_TOO_LONG: lambda: verdict(
        email=replace(CHANNELS["email"], text_limits=(TextLimit(kind=ContentKind.TEXT, longest=4),))
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
    ReasonCode.CHANNEL_USED: lambda: verdict(limits=Limits(channels_used=frozenset({"email"}))),
    ReasonCode.OFFER_NOT_ASKED: lambda: verdict(limits=Limits(offers=frozenset({"other"}))),
    ReasonCode.NOT_AT_ONCE: lambda: verdict(limits=Limits(at_once=True)),
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


@pytest.mark.parametrize(
    "status", [ConsentStatus.WITHDRAWN, ConsentStatus.UNSUBSCRIBED, ConsentStatus.COMPLAINED]
)
def test_who_refuses_every_channel_is_left_alone_although_channels_were_agreed_to(
    status: ConsentStatus,
) -> None:
    assert verdict(customer=refusing(status)).channel == (ReasonCode.REFUSED,) * 3
    assert verdict(customer=refusing(status, purpose="service")).channel == (None,) * 3


def test_a_refusal_that_was_taken_back_closes_nothing_and_opens_nothing() -> None:
    assert verdict(customer=refusing(ConsentStatus.GRANTED)).channel == (None,) * 3
    never_asked = replace(CUSTOMER, consents={(EVERY_CHANNEL, "marketing"): ConsentStatus.GRANTED})
    assert verdict(customer=never_asked).channel == (ReasonCode.NO_CONSENT,) * 3


@pytest.mark.parametrize(
    ("unit", "apples"), [(LengthUnit.CHARACTERS, 8), (LengthUnit.UTF16_UNITS, 4), (LengthUnit.BYTES, 2)]
)
def test_a_text_may_be_as_long_as_its_provider_counts(unit: LengthUnit, apples: int) -> None:
    # An apple is 1 character, 2 UTF-16 units and 4 bytes of UTF-8.
    limited = replace(
        CHANNELS["email"], text_limits=(TextLimit(kind=ContentKind.TEXT, longest=8, unit=unit),)
    )

    def reason(n: int) -> ReasonCode | None:
        offer = replace(CAMPAIGN.offers[0], content={ContentKind.TEXT: Content(body="\U0001f34e" * n)})
        return verdict(campaign=replace(CAMPAIGN, offers=(offer,)), email=limited).reason(0, 0, 0)

    assert reason(apples) is None
    assert reason(apples + 1) is ReasonCode.CONTENT_TOO_LONG


def test_content_that_is_too_long_gives_way_to_shorter_content_of_another_kind() -> None:
    both = replace(
        CHANNELS["email"],
        content_kinds=frozenset({ContentKind.TEXT, ContentKind.TEMPLATE}),
        text_limits=(TextLimit(kind=ContentKind.TEMPLATE, longest=10),),
    )
    offer = replace(CAMPAIGN.offers[0], content={**TEXT, ContentKind.TEMPLATE: Content(body="x" * 11)})
    assert content_for(offer, both) == (ContentKind.TEXT, TEXT[ContentKind.TEXT])
    assert verdict(campaign=replace(CAMPAIGN, offers=(offer,)), email=both).reason(0, 0, 0) is None


def test_the_default_limits_are_those_that_the_providers_publish() -> None:
    limits = {
        (channel.name, limit.kind.value): (limit.longest, limit.unit.value)
        for channel in DEFAULT_CHANNELS
        for limit in channel.text_limits
    }
    assert limits["line", "text"] == (5_000, "utf16_units")
    assert limits["sms", "text"] == (1_600, "characters")
    assert limits["whatsapp", "template"] == (1_024, "characters")
    assert limits["instagram", "text"] == (1_000, "bytes")


def test_a_channel_has_one_limit_a_kind() -> None:
    twice = (TextLimit(kind=ContentKind.TEXT, longest=1),) * 2
    with pytest.raises(InvalidInputError, match="text_limits"):
        replace(CHANNELS["email"], text_limits=twice)


TEMPLATED = replace(
    WINDOWED,
    content_kinds=frozenset({ContentKind.TEXT, ContentKind.TEMPLATE}),
    kinds_outside_window=frozenset({ContentKind.TEMPLATE}),
)
TEMPLATE_OFFER = replace(
    CAMPAIGN.offers[1], content={**TEXT, ContentKind.TEMPLATE: Content(body="Hello {{1}}")}
)
# Offer a is free text, offer b also has a template.
WITH_TEMPLATE = replace(CAMPAIGN, offers=(CAMPAIGN.offers[0], TEMPLATE_OFFER))


def test_outside_the_provider_window_templates_go_out_and_free_text_does_not() -> None:
    found = verdict(campaign=WITH_TEMPLATE, email=TEMPLATED)
    assert found.channel[0] is None
    assert [found.reason(0, 0, s) for s in range(3)] == [ReasonCode.PROVIDER_WINDOW] * 3
    assert [found.reason(1, 0, s) for s in range(3)] == [None] * 3
    assert found.exclusions(WITH_TEMPLATE) == (
        Exclusion(reason=ReasonCode.PROVIDER_WINDOW, offer="a", channel="email"),
    )
    text_alone = replace(TEMPLATED, kinds_outside_window=frozenset())
    assert verdict(email=text_alone).channel[0] is ReasonCode.PROVIDER_WINDOW


def test_the_provider_window_is_judged_when_the_message_would_go_out() -> None:
    # They wrote at 13:00 the day before; it is 09:00. Slots: 10:00, 18:00 and 22:00.
    replied = replace(CUSTOMER, replied_at={"email": NOW - timedelta(hours=20)})
    found = verdict(customer=replied, campaign=WITH_TEMPLATE, email=TEMPLATED)
    assert [found.reason(0, 0, s) for s in range(3)] == [None, *[ReasonCode.PROVIDER_WINDOW] * 2]
    assert [found.reason(1, 0, s) for s in range(3)] == [None] * 3
    assert found.exclusions(WITH_TEMPLATE) == tuple(
        Exclusion(reason=ReasonCode.PROVIDER_WINDOW, offer="a", channel="email", slot=s) for s in (1, 2)
    )
    plain = verdict(customer=replied, email=WINDOWED)
    assert [plain.reason(0, 0, s) for s in range(3)] == [None, *[ReasonCode.PROVIDER_WINDOW] * 2]


def test_content_and_permission_to_send_follow_the_provider_window() -> None:
    assert content_for(TEMPLATE_OFFER, TEMPLATED, in_window=False) == (
        ContentKind.TEMPLATE,
        Content(body="Hello {{1}}"),
    )
    assert content_for(CAMPAIGN.offers[0], TEMPLATED, in_window=False) is None
    for kind, reason in ((ContentKind.TEMPLATE, None), (ContentKind.TEXT, ReasonCode.PROVIDER_WINDOW)):
        assert unreachable(TEMPLATED, "marketing", CUSTOMER, NOW, kind) is reason


SERVICE = replace(CAMPAIGN, message_class=MessageClass.TRANSACTIONAL)


def test_marketing_caps_do_not_bind_a_transactional_message_unless_they_say_so() -> None:
    assert verdict(campaign=SERVICE, customer=contacts(3)).channel == (None,) * 3
    everything = replace(SERVICE, caps=Caps(contacts=3, message_classes=frozenset(MessageClass)))
    assert verdict(campaign=everything, customer=contacts(3)).channel == (ReasonCode.FREQUENCY_CAP,) * 3


def test_a_transactional_message_does_not_use_up_the_marketing_cap() -> None:
    served = replace(
        CUSTOMER,
        contacts=tuple(
            replace(one, message_class=MessageClass.TRANSACTIONAL) for one in contacts(3).contacts
        ),
    )
    assert verdict(customer=served).channel == (None,) * 3
    everything = replace(CAMPAIGN, caps=Caps(contacts=3, message_classes=frozenset(MessageClass)))
    assert verdict(campaign=everything, customer=served).channel == (ReasonCode.FREQUENCY_CAP,) * 3


def test_the_cap_of_the_campaign_itself_binds_whatever_its_message_class() -> None:
    once = replace(SERVICE, caps=Caps(contacts_per_campaign=1))
    assert (
        verdict(campaign=once, customer=contacts(1, campaign="spring")).channel
        == (ReasonCode.CAMPAIGN_CAP,) * 3
    )


def test_the_cap_of_the_campaign_remembers_contacts_of_long_ago() -> None:
    once = replace(CAMPAIGN, caps=Caps(contacts_per_campaign=1))
    for before, reason in (({"spring": 1}, ReasonCode.CAMPAIGN_CAP), ({"other": 9}, None)):
        assert (
            verdict(campaign=once, customer=replace(CUSTOMER, earlier_contacts=before)).channel[0] is reason
        )


def test_a_rolling_window_is_no_longer_than_contacts_are_known_one_by_one() -> None:
    assert Caps(window_seconds=31 * 86_400).window_seconds == 2_678_400
    with pytest.raises(InvalidInputError, match=r"window_seconds == 2678401, must be in \[1, 2678400\]"):
        Caps(window_seconds=2_678_401)


def test_a_channel_can_have_a_cap_of_its_own() -> None:
    capped = replace(CAMPAIGN, caps=Caps(contacts=None, contacts_per_channel=2, contacts_on={"email": 1}))
    assert verdict(campaign=capped, customer=contacts(1)).channel == (ReasonCode.FREQUENCY_CAP, None, None)
    assert verdict(campaign=capped, customer=contacts(1, "sms")).channel == (None,) * 3
    with pytest.raises(InvalidInputError, match=r"caps.contacts_on.sms == -1, must be >= 0"):
        Caps(contacts_on={"sms": -1})


def test_quiet_hours_do_not_bind_a_transactional_message_unless_they_say_so() -> None:
    quiet = QuietHours(start=time(9), end=time(23))
    assert verdict(campaign=replace(SERVICE, quiet_hours=quiet)).slot == (None,) * 3
    strict = replace(quiet, message_classes=frozenset(MessageClass))
    assert verdict(campaign=replace(SERVICE, quiet_hours=strict)).slot == (ReasonCode.QUIET_HOURS,) * 3


def test_a_send_window_in_local_time_opens_with_each_customers_own_clock() -> None:
    # 2 March, 12:00 to 20:00, by the clock on the wall: only the slot at 18:00 lies within.
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    window = SendWindow(starts_at=noon, ends_at=noon + timedelta(hours=8), in_local_time=True)
    outside = ReasonCode.OUTSIDE_SEND_WINDOW
    for zone in ("Asia/Taipei", "America/New_York", "Pacific/Auckland"):
        found = verdict(
            campaign=replace(CAMPAIGN, send_window=window), customer=replace(CUSTOMER, time_zone=zone)
        )
        # In Auckland it is 14:00 on 2 March, in New York 20:00 on 1 March, when 22:00 comes round first.
        assert found.slot == (outside, None, outside), zone


def test_a_send_window_in_local_time_closes_for_everybody_after_the_last_clock() -> None:
    window = SendWindow(
        starts_at=NOW - timedelta(days=2), ends_at=NOW - timedelta(hours=11), in_local_time=True
    )
    assert window.closes_at == NOW + timedelta(hours=1)
    assert (
        verdict(campaign=replace(CAMPAIGN, send_window=window)).slot == (ReasonCode.OUTSIDE_SEND_WINDOW,) * 3
    )
    over = replace(window, ends_at=NOW - timedelta(hours=12))
    with pytest.raises(CampaignExpiredError):
        verdict(campaign=replace(CAMPAIGN, send_window=over))


def test_a_slot_that_the_change_to_summer_time_skips_is_judged_by_what_the_clock_shows_then() -> None:
    # Berlin, 29 March 2026: the clock goes from 02:00 to 03:00, so the slot of 02:30 falls at 03:00.
    night = datetime(2026, 3, 28, 22, tzinfo=UTC)
    campaign = replace(
        CAMPAIGN,
        slots=(time(2, 30),),
        quiet_hours=QuietHours(start=time(0), end=time(3)),
        send_window=SendWindow(starts_at=night, ends_at=night + timedelta(days=2)),
    )
    customer = replace(CUSTOMER, time_zone="Europe/Berlin")
    found = eligible(campaign, CHANNELS, customer, night)
    assert found.send_at == (datetime(2026, 3, 29, 1, tzinfo=UTC),)
    assert found.slot == (None,)
    next_day = eligible(campaign, CHANNELS, customer, night + timedelta(days=1))
    assert next_day.slot == (ReasonCode.QUIET_HOURS,)


def test_a_local_send_window_that_opens_in_the_skipped_hour_opens_when_the_clock_has_jumped() -> None:
    opens = datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
    window = SendWindow(starts_at=opens, ends_at=opens + timedelta(hours=21), in_local_time=True)
    # 03:00 summer time is 01:00 UTC; 23:30 summer time is 21:30 UTC: the day has an hour less.
    assert window.bounds("Europe/Berlin") == (
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 3, 29, 21, 30, tzinfo=UTC),
    )
