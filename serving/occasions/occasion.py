"""What makes a campaign decide for a customer by itself: a document beside the campaign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from typing import Annotated, ClassVar
from uuid import UUID, uuid5

from models.domain.bounds import Within, check_bounds
from models.domain.errors import require
from models.domain.interaction import LONGEST_ID, LONGEST_NAME, require_text

# Namespace of the decision ids; fixed for ever, or a restart would decide what was decided before.
_NAMESPACE = UUID("6b6f1f0e-2b62-5f0d-9a3c-4f0f3c1f8d51")
# A misspelt field is an error and not a default.
_STRICT = {"extra": "forbid"}


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
    every_year: bool = True
    days: Annotated[int, Within(-366, 366)] = 0
    at: time = time(9)

    def __post_init__(self) -> None:
        check_bounds(self, "occasion.date.")
        require(bool(self.attribute), "occasion.date.attribute", self.attribute, "must not be empty")
        require_text("occasion.date.attribute", self.attribute, LONGEST_NAME)
        # Both databases write the name of an attribute into a path, between double quotes.
        require(
            not {'"', "\\"} & set(self.attribute),
            "occasion.date.attribute",
            self.attribute,
            "must have no double quote and no backslash",
        )
        require(
            self.at.tzinfo is None,
            "occasion.date.at",
            self.at.isoformat(),
            "must be a local time, without a time zone",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When a campaign is decided for a customer.

    Attributes:
        campaign_id: What is decided.
        date: On a date of the customer.
        catch_up_days: What could not be decided when it was due is decided up to so many days late, and not later.
    """

    __pydantic_config__: ClassVar = _STRICT

    campaign_id: str
    date: OnDate
    catch_up_days: Annotated[int, Within(1, 30)] = 3

    def __post_init__(self) -> None:
        check_bounds(self, "occasion.")
        require(bool(self.campaign_id), "occasion.campaign_id", self.campaign_id, "must not be empty")
        require_text("occasion.campaign_id", self.campaign_id, LONGEST_ID)


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


def occurrence_id(name: str, customer_id: str, occurrence: str) -> str:
    """Id of the decision that an occasion takes: the same again gives the same, so that it is taken once."""
    return str(uuid5(_NAMESPACE, f"{name}/{customer_id}/{occurrence}"))
