"""What an offer gives, and under which terms: a document beside the campaign."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import StrictBool

from features.json_types import Number, Whole
from models.domain.bounds import NotEmpty, Within, check_bounds
from models.domain.errors import require
from models.domain.interaction import KNOWN_TIME, LONGEST_NAME, require_text
from serving.explain.catalogue import Language
from serving.routes.fields import AS_TEXT

Texts = Mapping[Language, str]
"""The same words by language; who reads another one gets English, else the first."""

LONGEST_CODE = 64
CODE_FORM = r"^[A-Za-z0-9._~-]+$"
"""What stands in an address as it is: a till asks for a code by its address."""

LONGEST_IN_BARS = 24
"""Characters of a code in Code 128. Each takes 11 modules; start, check and stop take 35, the quiet zones 20: 319 modules, of a
pixel each on a phone 360 px wide."""
TOO_LONG_FOR_BARS = f"must be at most {LONGEST_IN_BARS} characters with the picture code_128"

_LONGEST_TEXT = 500
_LARGEST = 2**31 - 1
_LONGEST_SECONDS = 10 * 366 * 86_400
_MOST_QUESTIONS = 30
_MOST_OPTIONS = 20
_MOST_SHOPS = 1_000
_MOST_PRIZES = 50


class IncentiveKind(StrEnum):
    """What is given."""

    COUPON = "coupon"
    SURVEY = "survey"
    POINTS = "points"
    LOTTERY = "lottery"


class CodeSource(StrEnum):
    """Where the codes of coupons come from."""

    SHARED = "shared"
    GENERATED = "generated"
    LIST = "list"


class CodePicture(StrEnum):
    """How a code is drawn for the scanner of a till."""

    QR = "qr"
    CODE_128 = "code_128"


class QuestionKind(StrEnum):
    """How a question is answered."""

    CHOICE = "choice"
    SEVERAL = "several"
    SCALE = "scale"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A code.

    Attributes:
        codes: One for everybody, one a decision that is made here, or one a decision from a list that was imported.
        code: The one for everybody.
        fallback: What is said once the list is empty: a code for everybody.
        picture: How it is drawn; None for letters alone.
    """

    codes: CodeSource
    code: str | None = None
    fallback: str | None = None
    picture: CodePicture | None = CodePicture.QR

    def __post_init__(self) -> None:
        for name, value, source in (
            ("code", self.code, CodeSource.SHARED),
            ("fallback", self.fallback, CodeSource.LIST),
        ):
            where = f"incentive.coupon.{name}"
            require(
                (value is not None) == (self.codes is source),
                where,
                value,
                f"must be given with {source} codes",
            )
            if value is not None:
                fits = len(value) <= LONGEST_CODE and re.match(CODE_FORM, value) is not None
                require(fits, where, value[:80], "must be letters, digits and . _ ~ -, at most 64")
                require(self.drawable(value), where, value, TOO_LONG_FOR_BARS)

    def drawable(self, code: str) -> bool:
        """Whether a phone is wide enough for the picture of that code."""
        return self.picture is not CodePicture.CODE_128 or len(code) <= LONGEST_IN_BARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A place, WGS-84.

    Attributes:
        latitude: Degrees north.
        longitude: Degrees east.
    """

    shop_id: str
    latitude: Annotated[Number, Within(-90, 90)]
    longitude: Annotated[Number, Within(-180, 180)]

    def __post_init__(self) -> None:
        check_bounds(self, "incentive.points.shops.")
        _require_id("incentive.points.shops.shop_id", self.shop_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Points, locked in time and place.

    Attributes:
        points: How many.
        from_seconds: They can be redeemed from so long after they were given.
        until_seconds: Until so long after they were given; None for no end.
        shops: Near which; none for everywhere.
        within_metres: How near.
        picture: How the code is drawn; None for letters alone.
    """

    points: Annotated[Whole, Within(1, 1_000_000_000)]
    from_seconds: Annotated[Whole, Within(0, _LONGEST_SECONDS)] = 0
    until_seconds: Annotated[Whole, Within(1, _LONGEST_SECONDS)] | None = None
    shops: tuple[Shop, ...] = ()
    within_metres: Annotated[Whole, Within(1, 20_100_000)] = 500
    picture: CodePicture | None = CodePicture.QR

    def __post_init__(self) -> None:
        check_bounds(self, "incentive.points.")
        require(
            self.until_seconds is None or self.from_seconds < self.until_seconds,
            "incentive.points.until_seconds",
            self.until_seconds,
            f"must be after from_seconds {self.from_seconds}",
        )
        _require_list("incentive.points.shops", [shop.shop_id for shop in self.shops], 0, _MOST_SHOPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prize:
    """What can be won.

    Attributes:
        number: How many there are.
        p_win: Chance of a ticket, as long as any is left.
        cost_minor: Of one, minor units.
    """

    prize_id: str
    title: Texts
    number: Annotated[Whole, Within(0, _LARGEST)]
    p_win: Annotated[Number, Within(0, 1)]
    cost_minor: Annotated[Number, Within(0, 1e15)] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "incentive.lottery.prizes.")
        _require_id("incentive.lottery.prizes.prize_id", self.prize_id)
        _require_texts("incentive.lottery.prizes.title", self.title)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lottery:
    """A draw."""

    prizes: tuple[Prize, ...]

    def __post_init__(self) -> None:
        _require_list("incentive.lottery.prizes", [prize.prize_id for prize in self.prizes], 1, _MOST_PRIZES)
        whole = sum(prize.p_win for prize in self.prizes)
        require(whole <= 1 + 1e-9, "incentive.lottery.prizes.p_win", whole, "must sum to at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One possible answer."""

    option_id: str
    text: Texts

    def __post_init__(self) -> None:
        _require_id("incentive.survey.questions.options.option_id", self.option_id)
        _require_texts("incentive.survey.questions.options.text", self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Attributes:
        options: Of a choice, or of several.
        least: Lower end of a scale.
        most: Upper end of a scale.
        required: Whether it must be answered.
    """

    question_id: str
    kind: QuestionKind
    text: Texts
    options: tuple[Option, ...] = ()
    least: Annotated[Whole, Within(0, 100)] = 1
    most: Annotated[Whole, Within(0, 100)] = 5
    required: StrictBool = True

    def __post_init__(self) -> None:
        place = "incentive.survey.questions"
        check_bounds(self, f"{place}.")
        _require_id(f"{place}.question_id", self.question_id)
        _require_texts(f"{place}.text", self.text)
        n_least, n_most = (
            (2, _MOST_OPTIONS) if self.kind in (QuestionKind.CHOICE, QuestionKind.SEVERAL) else (0, 0)
        )
        _require_list(f"{place}.options", [option.option_id for option in self.options], n_least, n_most)
        require(self.least < self.most, f"{place}.most", self.most, f"must be > least {self.least}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Questions; whoever has answered them has redeemed."""

    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        ids = [question.question_id for question in self.questions]
        _require_list("incentive.survey.questions", ids, 1, _MOST_QUESTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incentive:
    """What an offer gives: exactly one of coupon, survey, points and lottery.

    Attributes:
        title: What it is, for the customer.
        valid_from: Not redeemed before, aware; None for at once.
        valid_until: Not redeemed from then on, aware; None for no end.
        most_per_customer: Redemptions of one customer; None for no limit.
        most: Redemptions in all; None for no limit.
        cost_minor: Of one redemption, prizes aside, minor units.
    """

    title: Annotated[Texts, NotEmpty("must be given in at least one language")]
    valid_from: Annotated[datetime, KNOWN_TIME, AS_TEXT] | None = None
    valid_until: Annotated[datetime, KNOWN_TIME, AS_TEXT] | None = None
    most_per_customer: Annotated[Whole, Within(1, _LARGEST)] | None = 1
    most: Annotated[Whole, Within(1, _LARGEST)] | None = None
    cost_minor: Annotated[Number, Within(0, 1e15)] = 0.0
    coupon: Coupon | None = field(default=None)
    survey: Survey | None = field(default=None)
    points: Points | None = field(default=None)
    lottery: Lottery | None = field(default=None)

    def __post_init__(self) -> None:
        check_bounds(self, "incentive.")
        _require_texts("incentive.title", self.title)
        given = [kind for kind in IncentiveKind if getattr(self, kind) is not None]
        words = ", ".join(IncentiveKind)
        require(len(given) == 1, "incentive", ", ".join(given), f"must be exactly one of {words}")
        for name in ("valid_from", "valid_until"):
            moment: datetime | None = getattr(self, name)
            require(
                moment is None or moment.tzinfo is not None,
                f"incentive.{name}",
                "" if moment is None else moment.isoformat(),
                "must carry a time zone",
            )
        require(
            self.valid_from is None or self.valid_until is None or self.valid_from < self.valid_until,
            "incentive.valid_until",
            "" if self.valid_until is None else self.valid_until.isoformat(),
            "must be after valid_from",
        )
        require(
            self.lottery is None or self.valid_until is not None,
            "incentive.valid_until",
            None,
            "must be given with a lottery: its secret is told from then on",
        )

    @property
    def kind(self) -> IncentiveKind:
        """Which of the four it is."""
        return next(kind for kind in IncentiveKind if getattr(self, kind) is not None)

    @property
    def picture(self) -> CodePicture | None:
        """How its codes are drawn; None for letters alone, or where no till redeems them."""
        carrier = self.coupon or self.points
        return None if carrier is None else carrier.picture

    @property
    def expected_cost_minor(self) -> float:
        """Expected cost of one redemption, minor units, as long as every prize is left."""
        prizes = () if self.lottery is None else self.lottery.prizes
        return self.cost_minor + sum(prize.p_win * prize.cost_minor for prize in prizes)

    def opens_at(self, given_at: datetime) -> datetime:
        """From when on a voucher that was given then can be redeemed."""
        lock = timedelta(seconds=0 if self.points is None else self.points.from_seconds)
        return max(given_at + lock, self.valid_from or given_at)

    def lapses_at(self, given_at: datetime) -> datetime | None:
        """From when on it cannot be redeemed any more; None for never."""
        ends = [] if self.valid_until is None else [self.valid_until]
        if self.points is not None and self.points.until_seconds is not None:
            ends.append(given_at + timedelta(seconds=self.points.until_seconds))
        return min(ends, default=None)


def said(texts: Texts, language: Language) -> str:
    """The words in that language, else in English, else in any."""
    return texts.get(language) or texts.get(Language.ENGLISH) or next(iter(texts.values()))


def _require_id(place: str, value: str) -> None:
    plain = value.isascii() and value.replace("-", "").replace("_", "").isalnum()
    require(
        plain and len(value) <= LONGEST_NAME, place, value, "must be letters, digits, - and _, at most 64"
    )


def _require_texts(place: str, texts: Texts) -> None:
    require(bool(texts), place, "", "must be given in at least one language")
    for language, text in texts.items():
        where = f"{place}.{language}"
        require(bool(text.strip()), where, text, "must not be empty")
        require_text(where, text, _LONGEST_TEXT)


def _require_list(place: str, ids: Sequence[str], least: int, most: int) -> None:
    require(least <= len(ids) <= most, place, len(ids), f"must be {least} to {most}")
    twice = sorted(name for name, n in Counter(ids).items() if n > 1)
    require(not twice, place, ", ".join(twice), "must not repeat")
