"""What the hot path keeps or takes a shorter way to is what the plain way gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.campaign import Campaign, Content, Offer, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind
from models.domain.eligibility import outline_of, slot_reasons
from models.domain.experiment import Experiment
from models.domain.slots import next_send_times

START = datetime(2026, 3, 20, tzinfo=UTC)
CHANNELS = tuple(channel for channel in DEFAULT_CHANNELS if channel.name in ("email", "sms"))
CAMPAIGN = Campaign(
    campaign_id="spring",
    send_window=SendWindow(starts_at=START - timedelta(days=1), ends_at=START + timedelta(days=30)),
    slots=(time(2, 30), time(9), time(15), time(21, 30)),
    offers=(Offer(offer_id="coats", margin_minor=100.0, content={ContentKind.TEXT: Content(body="Coats")}),),
    channels=tuple(channel.name for channel in CHANNELS),
    experiment=Experiment(experiment_id="spring"),
    conversion_value_minor=100.0,
    quiet_hours=QuietHours(start=time(21), end=time(8)),
)


@settings(max_examples=60, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 20 * 24 * 60), min_size=1, max_size=8),
    # Berlin changes its clocks on 29 March 2026, New York did on 8 March, Taipei never does.
    time_zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Taipei", "Australia/Lord_Howe"]),
)
def test_slots_that_are_remembered_are_those_worked_out_anew(minutes, time_zone):
    outline = outline_of(CAMPAIGN, CHANNELS)
    for minute in minutes:
        now = START + timedelta(minutes=minute, microseconds=minute % 3 - 1)
        known = outline.slots_in(time_zone, now)
        fresh = next_send_times(CAMPAIGN.slots, time_zone, now)
        assert known.send_at == fresh
        assert known.reasons == slot_reasons(CAMPAIGN, time_zone, fresh)


def test_a_changed_campaign_or_channel_has_an_outline_of_its_own():
    first = outline_of(CAMPAIGN, CHANNELS)
    assert outline_of(CAMPAIGN, CHANNELS) is first
    assert outline_of(replace(CAMPAIGN, slots=(time(12),)), CHANNELS) is not first
    speechless = tuple(replace(channel, content_kinds=frozenset()) for channel in CHANNELS)
    assert all(reason is not None for reason in outline_of(CAMPAIGN, speechless).offer_channel[0])
    assert all(reason is None for reason in outline_of(CAMPAIGN, CHANNELS).offer_channel[0])
