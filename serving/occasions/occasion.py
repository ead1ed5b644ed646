"""What makes a campaign decide for a customer by itself: a document beside the campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Annotated, ClassVar
from uuid import UUID, uuid5

from pydantic import StrictBool

from features.json_types import Whole
from models.domain.bounds import Within, check_bounds
from models.domain.errors import require
from models.domain.follow_up import LONGEST_WAIT_SECONDS
from models.domain.interaction import (
    LONGEST_ID,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_ATTRIBUTES,
    InteractionKind,
    require_text,
)

# Namespace of the decision ids; fixed for ever, or a restart would decide what was decided before.
_NAMESPACE = UUID("6b6f1f0e-2b62-5f0d-9a3c-4f0f3c1f8d51")
# A misspelt field is an error and not a default.
_STRICT = {"extra": "forbid"}
_MOST_UNLESS = 10
# What customers do of their own accord and seldom: `features.history.tables.SELDOM_KINDS`, by which facts are found.
SETS_OFF = frozenset(
    {
        InteractionKind.CALLED,
        InteractionKind.CONVERTED,
        InteractionKind.FOLLOWED,
        InteractionKind.ISSUE_RAISED,
        InteractionKind.PURCHASED,
        InteractionKind.REGISTERED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDate:
    """On a date of the customer, so many days before or after it.

    Attributes:
        attribute: Of the customer, holding a date, YYYY-MM-DD.
        every_year: On every anniversary, from the year after on; 29 February is 28 February in other years. Or else
            once, on the date itself.
        days: After it; before it where below zero.
        at: Local time of day of the customer.
    """

    __pydantic_config__: ClassVar = _STRICT

    attribute: str
    every_year: StrictBool = True
    days: Annotated[Whole, Within(-366, 366)] = 0
    at: time = time(9)

    def __post_init__(self) -> None:
        check_bounds(self, "occasion.date.")
        _require_attribute("occasion.date.attribute", self.attribute)
        require(
            self.at.tzinfo is None,
            "occasion.date.at",
            self.at.isoformat(),
            "must be a local time, without a time zone",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Facts of one kind.

    Attributes:
        attributes: That such a fact must have, among others.
    """

    __pydantic_config__: ClassVar = _STRICT

    kind: InteractionKind
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterFact:
    """So long after a fact, unless it was taken back meanwhile; facts that machines made never count.

    Attributes:
        fact: Which sets it off, each time.
        seconds: How long after it.
        unless: Any of these, of the same customer and later, takes it back.
    """

    __pydantic_config__: ClassVar = _STRICT

    fact: Fact
    seconds: Annotated[Whole, Within(0, LONGEST_WAIT_SECONDS)] = 0
    unless: tuple[Fact, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self, "occasion.after.")
        require(
            self.fact.kind in SETS_OFF,
            "occasion.after.fact.kind",
            self.fact.kind,
            f"must be one of {', '.join(sorted(SETS_OFF))}",
        )
        n = len(self.unless)
        require(n <= _MOST_UNLESS, "occasion.after.unless", n, f"must be at most {_MOST_UNLESS}")
        _require_attributes("occasion.after.fact.attributes", self.fact)
        for place, fact in enumerate(self.unless):
            _require_attributes(f"occasion.after.unless.{place}.attributes", fact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """For who referred a friend, once a friend: when that friend has bought or converted for the first time.

    The friend's registration names the referrer: `features.history.referrals`.

    Attributes:
        seconds: How long after the purchase or conversion.
    """

    __pydantic_config__: ClassVar = _STRICT

    seconds: Annotated[Whole, Within(0, LONGEST_WAIT_SECONDS)] = 0

    def __post_init__(self) -> None:
        check_bounds(self, "occasion.referral.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When a campaign is decided for a customer: on a date, after a fact, or for a referral.

    Attributes:
        campaign_id: What is decided.
        date: On a date of the customer.
        after: After a fact.
        referral: For who referred a friend.
        catch_up_days: What could not be decided when it was due is decided up to so many days late, and not later.
    """

    __pydantic_config__: ClassVar = _STRICT

    campaign_id: str
    date: OnDate | None = None
    after: AfterFact | None = None
    referral: Referral | None = None
    catch_up_days: Annotated[Whole, Within(1, 30)] = 3

    def __post_init__(self) -> None:
        check_bounds(self, "occasion.")
        require(bool(self.campaign_id), "occasion.campaign_id", self.campaign_id, "must not be empty")
        require_text("occasion.campaign_id", self.campaign_id, LONGEST_ID)
        given = [name for name in ("date", "after", "referral") if getattr(self, name) is not None]
        require(
            len(given) == 1, "occasion", ", ".join(given), "must have exactly one of date, after, referral"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An occurrence for one customer.

    Attributes:
        customer_id: Whom it is decided for.
        occurrence: Which one of this customer; at most 32 characters.
        due_at: Aware UTC.
    """

    customer_id: str
    occurrence: str
    due_at: datetime


def _require_attributes(where: str, fact: Fact) -> None:
    n = len(fact.attributes)
    require(n <= MOST_ATTRIBUTES, where, n, f"must be at most {MOST_ATTRIBUTES}")
    for name, value in fact.attributes.items():
        _require_attribute(where, name)
        require_text(f"{where}.{name}", value, LONGEST_TEXT)


def _require_attribute(where: str, name: str) -> None:
    require(bool(name), where, name, "must not be empty")
    require_text(where, name, LONGEST_NAME)
    # Both databases write the name of an attribute into a path, between double quotes.
    unquotable = {'"', "\\"} & set(name)
    require(not unquotable, where, name, "must have no double quote and no backslash")


def occurrence_id(name: str, customer_id: str, occurrence: str) -> str:
    """Id of the decision that an occasion takes: the same again gives the same, so that it is taken once."""
    return str(uuid5(_NAMESPACE, f"{name}/{customer_id}/{occurrence}"))
