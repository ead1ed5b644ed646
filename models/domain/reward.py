"""What a decision turned out to be worth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """Realised net value of one decision.

    Attributes:
        opened: Whether the message was opened; None where the channel cannot tell.
        clicked: Whether a link was followed; None where the channel cannot tell.
        converted: Whether a conversion fell into the attribution window.
        value_minor: Value of the conversions, minor units.
        cost_minor: Cost of the contact, minor units.
        final: Whether the attribution window has closed.
        opened_at: Moment of the first open, or click where no open was told; None where there was none.
        converted_at: Moment of the first conversion.
        discounted: Whether a conversion was made at a discount; None where there was none, or none of them tells its price.
    """

    decision_id: str
    opened: bool | None
    clicked: bool | None
    converted: bool
    value_minor: float
    cost_minor: float
    final: bool
    as_of: datetime
    opened_at: datetime | None = None
    converted_at: datetime | None = None
    discounted: bool | None = None

    @property
    def net_value_minor(self) -> float:
        """`value_minor - cost_minor`."""
        return self.value_minor - self.cost_minor
