"""Every language says the same things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, time
from string import Formatter

import pytest

from features.feature_list import FeatureList, describe_channels
from models.domain.action import REASON_WORDS, Action, Exclusion, ReasonCode
from models.domain.campaign import PolicyName
from models.domain.channel import DEFAULT_CHANNELS
from models.explanation.flips import FlipKind
from serving.explain.catalogue import Absence, Catalogue, Language, Span
from serving.explain.explanation import KnownFlip
from serving.explain.feature_words import feature_words
from serving.explain.languages import CATALOGUES
from serving.explain.phrases import local_time, span, tidy
from serving.explain.told import Teller
from serving.money import Currency
from serving.occasions.cause import CauseKind
from serving.occasions.occasion import SETS_OFF

ENGLISH = CATALOGUES[Language.ENGLISH]
EVERY = pytest.mark.parametrize("words", CATALOGUES.values(), ids=list(CATALOGUES))
SEND_AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
WINNER = Action(offer="coats", channel="line", slot=0, send_at=SEND_AT, expires_at=SEND_AT)


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def templates(words: Catalogue) -> dict[str, str]:
    """Every text of a catalogue by the path to it, but the names of channels and policies."""
    found = {}
    for field in fields(words):
        value = getattr(words, field.name)
        if isinstance(value, str):
            found[field.name] = value
        elif isinstance(value, Mapping) and field.name not in ("channels", "policies"):
            found |= {f"{field.name}.{key}": text for key, text in value.items()}
    return found


@EVERY
def test_every_language_has_every_text_with_the_same_placeholders(words):
    ours, english = templates(words), templates(ENGLISH)
    assert set(ours) == set(english)
    for name, text in english.items():
        assert placeholders(ours[name]) == placeholders(text), name
        assert ours[name].strip(), name


@EVERY
def test_every_code_has_words(words):
    assert set(words.reasons) == set(ReasonCode)
    assert set(words.flips) == set(FlipKind)
    assert set(words.absences) == set(Absence)
    assert set(words.occasions) == set(CauseKind)
    assert set(words.facts) == SETS_OFF
    assert set(words.spans) == set(Span)
    assert (len(words.weekdays), len(words.months)) == (7, 12)
    assert len(set(words.reasons.values())) == len(ReasonCode)


def test_english_reasons_are_defined_once():
    assert ENGLISH.reasons is REASON_WORDS


@pytest.mark.parametrize("language", [Language.CHINESE, Language.JAPANESE])
def test_usual_channels_and_all_policies_have_names_and_no_english_is_left(language):
    words = CATALOGUES[language]
    assert {channel.name for channel in DEFAULT_CHANNELS} - {"console"} <= set(words.channels)
    assert set(PolicyName) <= set(words.policies)
    for name, text in templates(words).items():
        if name in ("language", "moment", "own_name"):
            continue
        assert not re.search(r"[A-Za-z]{2,}", re.sub(r"\{\w+\}", "", text)), f"{name}: {text}"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (Language.ENGLISH, "Mon 2 Mar 20:00"),
        (Language.CHINESE, "3 月 2 日（週一）20:00"),  # noqa: RUF001
        (Language.JAPANESE, "3月2日（月）20:00"),  # noqa: RUF001
    ],
)
def test_moments_are_on_the_customers_clock_in_the_languages_order(language, said):
    assert local_time(SEND_AT, "Asia/Taipei", CATALOGUES[language]) == said


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            Language.ENGLISH,
            "With consent, LINE would be worth 0.12 USD more: coats by LINE at Mon 2 Mar 20:00.",
        ),
        (
            Language.CHINESE,
            "若取得顧客同意，改用 LINE 可多賺 0.12 USD：3 月 2 日（週一）20:00 的 LINE「coats」。",  # noqa: RUF001
        ),
        (
            Language.JAPANESE,
            "お客様の同意があれば、LINEのほうが0.12 USD多い利益を見込めます：3月2日（月）20:00のLINE「coats」。",  # noqa: RUF001
        ),
    ],
)
def test_what_a_consent_would_be_worth_is_said(language, said):
    flip = KnownFlip(
        kind=FlipKind.OPENED,
        winner=WINNER,
        channel="line",
        without=(ReasonCode.NO_CONSENT,),
        gain_minor=12.0,
    )
    assert Teller(CATALOGUES[language], Currency()).flip(flip, "Asia/Taipei") == said


def test_a_cost_and_a_time_that_would_flip_the_decision_are_said():
    teller = Teller(ENGLISH, Currency())
    cost = KnownFlip(
        kind=FlipKind.COST_BELOW, winner=WINNER, channel="line", threshold_minor=2.1, present_minor=5.0
    )
    assert teller.flip(cost, "Asia/Taipei") == (
        "If a message by LINE cost less than 0.021 USD (now 0.05 USD), coats by LINE at Mon 2 Mar 20:00 would win."
    )
    late = KnownFlip(kind=FlipKind.NOT_BEFORE, winner=None, threshold_at=SEND_AT)
    assert teller.flip(late, "Asia/Taipei") == (
        "If it could only go out after Mon 2 Mar 20:00, no contact would win."
    )


@EVERY
def test_exclusions_name_their_place(words):
    teller = Teller(words, Currency())
    slots = (time(9), time(22, 30))
    said = teller.exclusion(Exclusion(reason=ReasonCode.QUIET_HOURS, slot=1), slots)
    assert "22:30" in said
    assert words.reasons[ReasonCode.QUIET_HOURS] in said
    assert "#1" in teller.exclusion(Exclusion(reason=ReasonCode.QUIET_HOURS, slot=1), ())
    pair = Exclusion(reason=ReasonCode.CONTENT_KIND_UNSUPPORTED, offer="coats", channel="sms")
    for channel in words.channels:
        place = teller.exclusion(Exclusion(reason=ReasonCode.NO_CONSENT, channel=channel), slots)
        assert place.startswith(words.channel(channel).strip())
    assert words.channel("sms") in teller.exclusion(pair, slots)
    assert "coats" in teller.exclusion(pair, slots)
    assert words.everywhere in teller.exclusion(Exclusion(reason=ReasonCode.FREQUENCY_CAP), slots)


def test_ideographs_are_not_torn_apart_and_latin_words_keep_their_space():
    assert tidy("改為 不聯絡。 LINE ，用 LINE 「好」") == "改為不聯絡。LINE，用 LINE「好」"  # noqa: RUF001
    assert tidy(" LINE ：好") == "LINE：好"  # noqa: RUF001
    assert tidy("as  it was") == "as  it was"


@EVERY
def test_every_feature_that_every_installation_has_is_called_by_words(words):
    features = FeatureList(channels=describe_channels(DEFAULT_CHANNELS), attributes=())
    said = [feature_words(name, words) for name in features.names]
    assert not [name for name, text in zip(features.names, said, strict=True) if text == name]
    assert len(set(said)) == len(said)
    assert feature_words("attr_age", words) == "attr_age"


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (Language.ENGLISH, "open rate in 90 days (email)"),
        (Language.CHINESE, "電子郵件近 90 天開啟率"),
        (Language.JAPANESE, "過去90日の開封率（メール）"),  # noqa: RUF001
    ],
)
def test_a_feature_says_its_window_and_its_channel(language, said):
    assert feature_words("open_rate_90d_email", CATALOGUES[language]) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1, "1 second"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (7_200, "2 hours"),
        (86_400, "1 day"),
        (14 * 86_400, "14 days"),
    ],
)
def test_a_span_is_told_in_its_largest_whole_unit(seconds, said):
    assert span(seconds, ENGLISH) == said
