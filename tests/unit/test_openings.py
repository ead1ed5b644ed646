from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from models.domain.action import ReasonCode
from models.domain.campaign import Campaign, Caps, Content, Offer, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind, IdentityKind, Touch
from models.domain.customer import ConsentStatus, Customer, PastContact
from models.domain.eligibility import Limits, eligible
from models.domain.experiment import Experiment
from models.explanation.openings import Opening, find_openings

NOW = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
CHANNELS = {channel.name: replace(channel, cost_minor=1.0) for channel in DEFAULT_CHANNELS}
CHANNELS["whatsapp"] = replace(CHANNELS["whatsapp"], provider_window_seconds=86_400)
CAMPAIGN = Campaign(
    campaign_id="spring",
    send_window=SendWindow(starts_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=9)),
    slots=(time(9),),
    offers=(
        Offer(offer_id="coats", margin_minor=3000.0, content={ContentKind.TEXT: Content(body="Coats.")}),
    ),
    channels=("email", "line", "whatsapp", "sms"),
    experiment=Experiment(experiment_id="spring"),
    conversion_value_minor=3000.0,
    caps=Caps(contacts=2),
)
ADA = Customer(
    customer_id="ada",
    time_zone="Asia/Taipei",
    identities={IdentityKind.EMAIL: "ada@example.com", IdentityKind.PHONE: "1"},
    consents={("email", "marketing"): ConsentStatus.GRANTED, ("sms", "marketing"): ConsentStatus.GRANTED},
)


def openings(customer: Customer = ADA, campaign: Campaign = CAMPAIGN, limits: Limits | None = None):
    """Those of the channels that are excluded for the customer."""
    reasons = eligible(campaign, CHANNELS, customer, NOW, limits or Limits()).channel
    excluded = {name: r for name, r in zip(campaign.channels, reasons, strict=True) if r is not None}
    return {one.channel: one.without for one in find_openings(campaign, CHANNELS, customer, NOW, excluded)}


def test_an_account_alone_does_not_open_a_channel_that_needs_consent_too():
    assert openings()["line"] == (ReasonCode.NO_IDENTITY, ReasonCode.NO_CONSENT)


def test_every_reason_in_the_way_is_named_in_turn():
    assert openings()["whatsapp"] == (
        ReasonCode.NO_IDENTITY,
        ReasonCode.NO_CONSENT,
        ReasonCode.PROVIDER_WINDOW,
    )


def test_a_customer_who_unsubscribed_or_complained_is_not_an_opening():
    for status in (ConsentStatus.UNSUBSCRIBED, ConsentStatus.COMPLAINED):
        gone = replace(ADA, consents=ADA.consents | {("sms", "marketing"): status})
        assert "sms" not in openings(gone)


def test_consent_opens_nothing_for_a_customer_who_has_had_enough():
    contacts = tuple(PastContact(channel="email", campaign_id="x", contacted_at=NOW) for _ in range(2))
    assert openings(replace(ADA, contacts=contacts)) == {}


def test_what_is_scarce_down_or_set_by_the_campaign_can_open():
    spent = Limits(budget_left_minor=0.0)
    assert openings(limits=spent)["sms"] == (ReasonCode.BUDGET_EXHAUSTED,)
    assert openings(limits=Limits(channels_down=frozenset({"sms"})))["sms"] == (ReasonCode.CHANNEL_DOWN,)
    assert openings(limits=Limits(capacity_left={"sms": 0}))["sms"] == (ReasonCode.CAPACITY_EXHAUSTED,)
    pinned = replace(CAMPAIGN, pinned_channel="email")
    assert openings(campaign=pinned)["sms"] == (ReasonCode.CHANNEL_PINNED,)
    by_hand = replace(CAMPAIGN, touch_levels=frozenset({Touch.HIGH}))
    assert openings(campaign=by_hand)["email"] == (ReasonCode.TOUCH_LEVEL,)


@pytest.mark.parametrize("reason", [ReasonCode.COST_UNKNOWN, ReasonCode.FREQUENCY_CAP])
def test_reasons_that_nobody_can_wish_away_open_nothing(reason):
    assert find_openings(CAMPAIGN, CHANNELS, ADA, NOW, {"sms": reason}) == ()


def test_an_opening_says_which_channel_and_without_what():
    (one,) = find_openings(CAMPAIGN, CHANNELS, ADA, NOW, {"sms": ReasonCode.CHANNEL_DOWN})
    assert one == Opening(channel="sms", without=(ReasonCode.CHANNEL_DOWN,))
