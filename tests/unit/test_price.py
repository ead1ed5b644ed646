"""What a message costs on a channel that charges by the segment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from models.domain.campaign import Campaign, Content, Offer, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, Channel, ContentKind, CostUnit
from models.domain.experiment import Experiment
from models.domain.price import message_cost, priced

BY_NAME = {channel.name: channel for channel in DEFAULT_CHANNELS}
SMS = BY_NAME["sms"]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def campaign(*contents: Content, **changes: object) -> Campaign:
    made = Campaign(
        campaign_id="spring",
        send_window=SendWindow(starts_at=NOW, ends_at=NOW + timedelta(days=1)),
        slots=(time(9),),
        offers=tuple(
            Offer(offer_id=f"o{number}", margin_minor=100.0, content={ContentKind.TEXT: content})
            for number, content in enumerate(contents)
        ),
        channels=("sms",),
        experiment=Experiment(experiment_id="spring"),
        conversion_value_minor=100.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def n_segments(made: Campaign, channel: Channel = SMS) -> float:
    cost = priced(made, channel).cost_minor
    assert cost is not None
    return round(cost / 1.45, 9)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content(body="a" * 160), 1),
        (Content(body="a" * 161), 2),
        (Content(body="春" * 70), 1),
        (Content(body="春" * 71), 2),
        # The tracked link is longer than the address that it stands for: 79 + line break + 80 = 160, 80 makes 161.
        (Content(body="a" * 79, link_url="https://s.example"), 1),
        (Content(body="a" * 80, link_url="https://s.example"), 2),
        (Content(body="a" * 79 + " https://s.example"), 1),
        (Content(body="a" * 80 + " https://s.example"), 2),
        # An address that the words hold already is not added again.
        (Content(body="a" * 79 + " https://s.example", link_url="https://s.example"), 1),
    ],
)
def test_the_parts_of_the_text_with_its_tracked_link_are_charged(content: Content, expected: int) -> None:
    assert n_segments(campaign(content)) == expected


def test_the_longest_offer_and_language_count() -> None:
    short, long = Content(body="a"), Content(body="a" * 400)  # 400 / 153: 3 segments
    assert n_segments(campaign(short, long)) == 3
    assert n_segments(campaign(replace(short, locales={"zh-Hant": Content(body="春" * 71)}))) == 2


def test_fields_count_as_their_fallbacks() -> None:
    body = "{{ name | title }}" + "a" * 159
    assert n_segments(campaign(Content(body=body), fields={"name": "x"})) == 1
    assert n_segments(campaign(Content(body=body), fields={"name": "xy"})) == 2


def test_a_price_once_worked_out_stays() -> None:
    made = campaign(Content(body="a" * 161))
    assert priced(made, priced(made, SMS)) == priced(made, SMS)


@pytest.mark.parametrize("name", ["email", "whatsapp", "push"])
def test_other_channels_cost_what_they_cost(name: str) -> None:
    made = campaign(Content(body="a" * 1_000))
    assert BY_NAME[name].cost_unit is CostUnit.MESSAGE
    assert priced(made, BY_NAME[name]) is BY_NAME[name]
    assert message_cost(BY_NAME[name], "a" * 1_000) == BY_NAME[name].cost_minor
