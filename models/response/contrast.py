"""The effect of contact from who converts: Robinson's residuals of all rows, contacted or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.choice import FloatArray
from models.logged import LoggedRows
from models.response.design import Columns, Part, n_columns
from models.response.evidence import Moments
from models.response.nuisance import Nuisance
from models.response.standardiser import Standardiser

CHUNK = 8_192


def contrast_moments(
    rows: LoggedRows,
    nuisance: Nuisance,
    standardiser: Standardiser,
    parts: Sequence[Part],
    unit: float,
    rate: float,
) -> Moments:
    """X'X, X'y and y'y of the residuals, in chunks: the design itself is never held."""
    n, n_offers, n_channels = nuisance.contact.shape
    design = Columns(parts, n_offers, n_channels)
    width = 1 + len(standardiser.columns)
    size = sum(n_columns(part, width) for part in parts)
    gram, moment, total = np.zeros((size, size)), np.zeros(size), 0.0
    for start in range(0, n, CHUNK):
        at = slice(start, min(start + CHUNK, n))
        inputs = standardiser.apply(rows.features[at])
        residual = contact_residuals(rows, nuisance, at, unit)
        p = np.clip(nuisance.outcome[at], 0.2 * rate, 1 - 0.2 * rate)
        root = 1.0 / np.sqrt(p * (1 - p))
        # Single precision doubles the speed of the one costly step; chunks are summed in double.
        x = (design.of(residual, inputs) * root[:, None]).astype(np.float32)
        y = ((rows.converted[at] - nuisance.outcome[at]) * root).astype(np.float32)
        gram += x.T @ x
        moment += x.T @ y
        total += float(y @ y)
    return Moments(gram=gram, moment=moment, total=total, n=n)


def contact_residuals(
    rows: LoggedRows, nuisance: Nuisance, at: slice, unit: float
) -> tuple[FloatArray, FloatArray]:
    """Contact minus expected contact, times q and plain, each of shape (n, O * C)."""
    expected = nuisance.contact[at]
    n, _, n_channels = expected.shape
    made = np.flatnonzero(rows.contacted[at])
    flat = rows.offer[at][made] * n_channels + rows.channel[at][made]
    direct = -expected.reshape(n, -1)
    direct[made, flat] += 1.0
    through = -(expected * nuisance.expected_mediator[at][:, None, :]).reshape(n, -1) / unit
    through[made, flat] += nuisance.mediator[at][made] / unit
    return through, direct
