"""Logged decisions with their outcomes, as arrays: what everything learns from and is judged on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import time

import numpy as np
from numpy.typing import NDArray

from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid
from models.domain.errors import PropensityError, require

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRows:
    """One row a decision; only decisions whose outcome is known well enough to learn from.

    A decision whose message reached nobody is not here. Machine-made outcomes do not count.

    Attributes:
        offers: Offer ids that `offer` points into.
        channels: Channel names that `channel` points into.
        slots: Local times of day that `slot` points into.
        feature_names: Names of the columns of `features`.
        features: Features as of the decision, shape (n, F); NaN where missing.
        customer: Number of the customer, equal for rows of one person, shape (n,).
        offer: Index of the offer, -1 for no contact, shape (n,).
        channel: Index of the channel, -1 for no contact, shape (n,).
        slot: Index of the slot, -1 for no contact, shape (n,).
        propensity: Probability of the logged action, shape (n,), in (0, 1].
        decided_at: Seconds since 1970, shape (n,).
        opened: 1, 0, or NaN where unknown (no contact, or a channel that cannot tell), shape (n,).
        clicked: The same for clicks.
        converted: 1 or 0, shape (n,).
        value_minor: Value of the conversions, minor units, shape (n,).
        cost_minor: Cost of the contact, minor units, shape (n,).
        unsubscribed: 1 where the contact was followed by an unsubscription or complaint, else 0, shape (n,).
        randomised: Whether the action was drawn by a policy that did not look at the customer's
            features (a warm-up or holdout), shape (n,).
        opened_after: Moment of the first open after the start, as a share of the attribution window; NaN where there
            was none or it is unknown, shape (n,). None where the log tells no moments.
        converted_after: The same of the first conversion.
        discounted: 1 where the row's conversion was made at a discount, 0 where at the full price, NaN where there was none or that
            is unknown, shape (n,). None where the log tells no prices.
    """

    offers: tuple[str, ...]
    channels: tuple[str, ...]
    slots: tuple[time, ...]
    feature_names: tuple[str, ...]
    features: FloatArray
    customer: IntArray
    offer: IntArray
    channel: IntArray
    slot: IntArray
    propensity: FloatArray
    decided_at: FloatArray
    opened: FloatArray
    clicked: FloatArray
    converted: FloatArray
    value_minor: FloatArray
    cost_minor: FloatArray
    unsubscribed: FloatArray
    randomised: BoolArray
    opened_after: FloatArray | None = None
    converted_after: FloatArray | None = None
    discounted: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.features)
        for field in (*_ARRAYS, *self._told):
            shape = getattr(self, field).shape
            require(shape == (n,), field, shape, f"must have shape ({n},)")
        require(
            self.features.shape == (n, len(self.feature_names)),
            "features",
            self.features.shape,
            f"must have shape ({n}, {len(self.feature_names)})",
        )
        wrong = ~((self.propensity > 0) & (self.propensity <= 1))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise PropensityError("propensity", float(self.propensity[row]), f"must be in (0, 1] (row {row})")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def _told(self) -> tuple[str, ...]:
        """What this log tells beyond what every log does."""
        return tuple(name for name in _MORE if getattr(self, name) is not None)

    @property
    def grid(self) -> ActionGrid:
        """Axes of the rows' actions."""
        return ActionGrid(self.offers, self.channels, self.slots)

    @property
    def contacted(self) -> BoolArray:
        """Whether the row's action is a contact, shape (n,)."""
        return np.asarray(self.channel >= 0)

    @property
    def action(self) -> IntArray:
        """Flat index of the row's action in `grid`, shape (n,)."""
        _, n_channels, n_slots = self.grid.shape
        flat = (self.offer * n_channels + self.channel) * n_slots + self.slot
        return np.where(self.contacted, flat, self.grid.no_contact)

    @property
    def net_value_minor(self) -> FloatArray:
        """`value_minor - cost_minor`, shape (n,)."""
        return self.value_minor - self.cost_minor

    def take(self, rows: IntArray | BoolArray) -> LoggedRows:
        """The same, of some rows."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in (*_ARRAYS, *self._told, "features"):
            chosen[name] = chosen[name][rows]
        return LoggedRows(**chosen)


_ARRAYS = (
    "customer", "offer", "channel", "slot", "propensity", "decided_at", "opened", "clicked", "converted",
    "value_minor", "cost_minor", "unsubscribed", "randomised",
)  # fmt: skip
_MORE = ("opened_after", "converted_after", "discounted")
