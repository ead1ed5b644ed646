"""Codes, distances, draws and survey answers, by known answers and laws."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import combinations
from string import ascii_letters, digits

import pytest
import zxingcpp
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from models.domain.errors import InvalidInputError
from serving.explain.catalogue import Language
from serving.incentives.codes import ALPHABET, make_code, shown_form
from serving.incentives.distance import Position, great_circle, nearest
from serving.incentives.incentive import (
    LONGEST_CODE,
    LONGEST_IN_BARS,
    CodePicture,
    CodeSource,
    Coupon,
    Incentive,
    Lottery,
    Points,
    Prize,
    Question,
    QuestionKind,
    Shop,
    Survey,
    said,
)
from serving.incentives.lottery import commitment, draw, make_secret
from serving.incentives.pictures import WIDTH_PX, as_png, as_svg
from serving.incentives.standing import VoucherStanding, in_time
from serving.incentives.survey import checked_answers
from serving.incentives.words import WORDS, language_of

EN = {Language.ENGLISH: "x"}
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POSITIONS = st.builds(Position, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180))


def test_codes_have_no_look_alikes_and_are_all_different():
    assert len(ALPHABET) == 31
    assert not set("0O1IL") & set(ALPHABET)
    made = {make_code() for _ in range(5_000)}
    assert len(made) == 5_000
    assert all(shown_form(code.replace("-", "").lower()) == code for code in made)


@given(
    code=st.text(ascii_letters + digits + "._~-", min_size=1, max_size=LONGEST_IN_BARS),
    picture=st.sampled_from(CodePicture),
)
@example(code="~" * LONGEST_CODE, picture=CodePicture.QR)
@example(code="0" * LONGEST_IN_BARS, picture=CodePicture.CODE_128)
def test_a_picture_is_no_wider_than_a_phone_and_is_read_as_it_was_drawn(code, picture):
    image = Image.open(BytesIO(as_png(picture, code)))
    assert image.width <= WIDTH_PX
    (read,) = zxingcpp.read_barcodes(image.convert("L"), try_invert=False)
    assert read.text == code
    assert float(re.findall(r' width="([0-9.]+)"', as_svg(picture, code, "x"))[0]) <= WIDTH_PX


@given(place=st.integers(0, 11), other=st.sampled_from(ALPHABET))
def test_one_wrong_character_is_no_code(place, other):
    plain = make_code().replace("-", "")
    typed = plain[:place] + other + plain[place + 1 :]
    assert (shown_form(typed) is None) == (typed != plain)


def test_two_exchanged_characters_are_no_code():
    plain = make_code().replace("-", "")
    for one, other in combinations(range(12), 2):
        characters = list(plain)
        characters[one], characters[other] = characters[other], characters[one]
        typed = "".join(characters)
        assert (shown_form(typed) is None) == (typed != plain)


# Kilometres of the geodesic of WGS-84 by Vincenty's formula; the sphere is within .6 % of it.
@pytest.mark.parametrize(
    ("one", "other", "kilometres"),
    [
        ((51.5074, -0.1278), (48.8566, 2.3522), 343.9),  # London, Paris
        ((40.7128, -74.0060), (51.5074, -0.1278), 5_585.2),  # New York, London
        ((25.0330, 121.5654), (35.6762, 139.6503), 2_095.5),  # Taipei, Tokyo
        ((0.0, 179.5), (0.0, -179.5), 111.3),  # over the date line
        ((90.0, 0.0), (-90.0, 77.0), 20_003.9),  # pole to pole
    ],
)
def test_distances_between_known_cities(one, other, kilometres):
    between = great_circle(
        Position(latitude=one[0], longitude=one[1]), Position(latitude=other[0], longitude=other[1])
    )
    assert between / 1_000 == pytest.approx(kilometres, rel=0.006)


@given(POSITIONS, POSITIONS)
def test_a_distance_is_the_same_both_ways_and_never_more_than_half_round(one, other):
    assert great_circle(one, other) == pytest.approx(great_circle(other, one), abs=1e-6)
    assert 0 <= great_circle(one, other) <= 20_015_200
    assert great_circle(one, one) == 0


def test_the_nearest_shop_counts_and_its_distance_is_rounded():
    shops = [Shop(shop_id="far", latitude=1, longitude=0), Shop(shop_id="near", latitude=0.01, longitude=0)]
    near = nearest(shops, Position(latitude=0, longitude=0))
    # 0.01 degrees of a circle of 40,030 km are 1,112 m.
    assert (near.shop_id, round(near.metres), near.rounded_metres) == ("near", 1_112, 1_100)


@given(st.binary(min_size=32, max_size=32), st.uuids(), st.lists(st.floats(0, 0.2), min_size=1, max_size=5))
def test_a_draw_follows_from_secret_and_decision_alone(secret, decision, chances):
    prizes = [Prize(prize_id=f"p{n}", title=EN, number=1, p_win=chance) for n, chance in enumerate(chances)]
    first = draw(secret.hex(), str(decision), prizes)
    assert first == draw(secret.hex(), str(decision), prizes)
    assert first is None or first in {prize.prize_id for prize in prizes if prize.p_win > 0}
    assert len(commitment(secret.hex())) == 64


def test_prizes_are_drawn_as_often_as_their_chances_say():
    prizes = [
        Prize(prize_id="rare", title=EN, number=1, p_win=0.1),
        Prize(prize_id="usual", title=EN, number=1, p_win=0.3),
    ]
    secret = "5c" * 32
    drawn = [draw(secret, f"d{n}", prizes) for n in range(10_000)]
    # Four standard errors of a share: 4 * sqrt(.1 * .9 / 10,000) = .012, of the other .018.
    assert drawn.count("rare") / 10_000 == pytest.approx(0.1, abs=0.012)
    assert drawn.count("usual") / 10_000 == pytest.approx(0.3, abs=0.0184)
    assert make_secret() != make_secret()


def test_terms_hold_from_the_later_beginning_until_the_earlier_end():
    locked = Incentive(
        title=EN,
        points=Points(points=1, from_seconds=3_600, until_seconds=7_200),
        valid_until=NOON + 1.5 * HOUR,
    )
    assert (locked.opens_at(NOON), locked.lapses_at(NOON)) == (NOON + HOUR, NOON + 1.5 * HOUR)
    assert locked.lapses_at(NOON - HOUR) == NOON + HOUR
    assert in_time(locked, NOON, NOON + HOUR - timedelta(microseconds=1)) is VoucherStanding.TOO_EARLY
    assert in_time(locked, NOON, NOON + HOUR) is VoucherStanding.VALID
    assert in_time(locked, NOON, NOON + 1.5 * HOUR) is VoucherStanding.EXPIRED


def test_what_a_draw_costs_is_expected_over_its_prizes():
    prizes = tuple(
        Prize(prize_id=name, title=EN, number=1, p_win=chance, cost_minor=cost)
        for name, chance, cost in (("a", 0.01, 5_000.0), ("b", 0.2, 100.0))
    )
    made = Incentive(title=EN, valid_until=NOON, cost_minor=3.0, lottery=Lottery(prizes=prizes))
    assert made.expected_cost_minor == pytest.approx(3.0 + 50.0 + 20.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Incentive(title=EN),
        lambda: Incentive(title=EN, points=Points(points=1), coupon=Coupon(codes=CodeSource.GENERATED)),
        lambda: Incentive(title=EN, lottery=Lottery(prizes=(Prize(prize_id="a", title=EN, number=1, p_win=1),))),
        lambda: Lottery(prizes=(Prize(prize_id="a", title=EN, number=1, p_win=0.6),) * 1
                        + (Prize(prize_id="b", title=EN, number=1, p_win=0.6),)),
        lambda: Points(points=1, from_seconds=5, until_seconds=5),
        lambda: Shop(shop_id="s", latitude=91, longitude=0),
        lambda: Question(question_id="q", kind=QuestionKind.CHOICE, text=EN),
        lambda: Question(question_id="q q", kind=QuestionKind.TEXT, text=EN),
        lambda: Survey(questions=()),
    ],
)  # fmt: skip
def test_terms_that_contradict_themselves_are_refused(make):
    with pytest.raises(InvalidInputError):
        make()


def test_answers_that_are_not_required_may_be_left_out():
    survey = Survey(
        questions=(
            Question(question_id="why", kind=QuestionKind.TEXT, text=EN, required=False),
            Question(question_id="much", kind=QuestionKind.SCALE, text=EN),
        )
    )
    assert checked_answers(survey, {"why": "", "much": 5}) == {"much": 5}
    for wrong in ({}, {"much": 6}, {"much": "5"}, {"much": 5, "why": "x" * 2_001}, {"much": 5, "who": "me"}):
        with pytest.raises(InvalidInputError):
            checked_answers(survey, wrong)


def test_every_language_says_everything_and_a_text_falls_back_to_english():
    for words in WORDS.values():
        assert set(words.standing) == set(VoucherStanding)
        assert [name for name, text in words.standing.items() if not text] == [VoucherStanding.VALID]
        assert "{moment}" in words.opens
        assert "{moment}" in words.lapses
        assert "{moment}" in words.redeemed
        assert "{n}" in words.points
        assert "{question}" in words.wrong
    assert [language_of(locale) for locale in ("zh-TW", "ja", "fr", "")] == [
        Language.CHINESE,
        Language.JAPANESE,
        Language.ENGLISH,
        Language.ENGLISH,
    ]
    assert said({Language.JAPANESE: "あ"}, Language.CHINESE) == "あ"
    assert said({Language.JAPANESE: "あ", Language.ENGLISH: "a"}, Language.CHINESE) == "a"
