"""What a conversion that contact caused brings, by offer, as a share of the offer's margin.

    worth(offer) = (value of what its contacts caused - what its discount gave away)
                   / (number of conversions they caused * margin)

A margin is a mean over all buyers. Those whom contact moves spend less than that, and those whom a discount moves spend less
than those whom something new does. Which conversions were caused is not known one by one, but softly: the early sign
(`models.response.lag`) has mean 1 over caused conversions and mean 0 over the others, whatever they are worth, so that
both sums are without bias. A conversion at a discount that contact did *not* cause would have come anyway, at the full
price: one less the early sign counts them, and each gives `discount / (1 - discount)` of its value away
(`models.response.discount`). The figures of the offers are shrunk to each other and to 1 by how well each is known:

    worth(o) = 1 + m + d(o),   m ~ N(0, doubt^2),  d(o) ~ N(0, doubt^2),   seen(o) ~ N(worth(o), variance(o))

It is one number an offer, not one a customer: that was learned too, and choices lost by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.logged import LoggedRows
from models.response.discount import fit_discount
from models.response.lag import Lag, early_signs

# Before any conversion the margins are believed, give or take this share, all of them together and each by itself.
_DOUBT = 0.15
# Values beyond are not those of other customers but of another unit (revenue, say, where margins are profits).
_LEAST, _MOST = 0.5, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What is believed of every offer and what it rests on.

    Attributes:
        offers: Offers seen.
        shares: Of the margin that a caused conversion of each brings, shape (O,), between a half and 2.
        unseen: The same of an offer that was not seen; 1 where the log cannot tell.
        n_conversions: After contacts, with a value, that were looked at; 0 where the log cannot tell.
        discount: Share of its value that a conversion at a discount brings less; 0 where the log cannot tell.
    """

    offers: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    unseen: float = 1.0
    n_conversions: int = 0
    discount: float = 0.0

    def of(self, offers: Sequence[str]) -> FloatArray:
        """Shares of some offers, shape (O,)."""
        known = dict(zip(self.offers, self.shares, strict=True))
        return np.array([known.get(name, self.unseen) for name in offers])


def fit_worth(rows: LoggedRows, margin_minor: FloatArray, lag: Lag | None) -> Worth:
    """Compare the values of caused conversions with the margins of their offers.

    Conversions without a value, and offers without a margin above 0, are left out. Values are net, in the unit of margins.

    Args:
        rows: The log.
        margin_minor: Of a conversion by offer of the log, shape (O,).
        lag: How soon caused conversions came; None where that tells nothing, and then the margins are believed.
    """
    if lag is None:
        return Worth()
    priced = np.append(margin_minor > 0, False)[rows.offer]
    at = np.flatnonzero((rows.converted > 0) & (rows.value_minor > 0) & priced)
    sign, offer = early_signs(rows, lag)[at], rows.offer[at]
    brought = rows.value_minor[at] / margin_minor[offer]
    discount = fit_discount(rows)
    given = np.zeros(len(at))
    if rows.discounted is not None:
        given = (rows.discounted[at] == 1) * brought * discount / (1 - discount)
    net = sign * (brought + given) - given
    caused = np.bincount(offer, weights=sign, minlength=len(margin_minor))
    # An offer may have no conversions, or few and unlucky ones of which none came early: it stays with the others.
    known = np.flatnonzero(caused > 0)
    if not len(known):
        return Worth()
    seen = np.bincount(offer, weights=net, minlength=len(caused))[known] / caused[known]
    at_offer = np.zeros(len(caused))
    at_offer[known] = seen
    squares = np.bincount(offer, weights=(net - sign * at_offer[offer]) ** 2, minlength=len(caused))
    # One conversion that is off by a whole margin is added, so that a single one is not taken to be exact.
    variance = (squares[known] + (sign**2).mean()) / caused[known] ** 2
    # The last row is of an offer that was not seen.
    belief = _DOUBT**2 * (1.0 + np.eye(len(caused) + 1))
    weights = np.linalg.solve(belief[np.ix_(known, known)] + np.diag(variance), seen - 1.0)
    *shares, unseen = np.clip(1.0 + belief[:, known] @ weights, _LEAST, _MOST).tolist()
    return Worth(
        offers=rows.offers, shares=tuple(shares), unseen=unseen, n_conversions=len(at), discount=discount
    )
