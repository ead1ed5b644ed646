"""The logit of an open on the channels and slots of one campaign: the sum of `models.response.open`, laid out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.choice import FloatArray
from models.compiled import compiled, plain
from models.logged import IntArray
from models.response.thinned import ThinnedChannels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenGrid:
    """Channels and slots of one campaign, laid out for `models.response.open.OpenModel.predict_on`.

    Attributes:
        shape: (C, S) of the campaign.
        wanted: Learned channels to predict, shape (K,): the campaign's, or all where it has one that is not learned.
        source: Place of each of the campaign's channels among those, -1 for one that is not learned, shape (C,).
        typical: Places of the channels whose mean stands in for that one.
        cells: Logits, shape (K, S).
        weights: Linear weights by channel, then by slot, shape (Z, K + S).
        habits: Logits by kind of day, shape (D, S).
        hours: What the trees know of a slot, shape (S, H).
        thinned: The campaign's channels that tell of some opens only.
    """

    shape: tuple[int, int]
    wanted: np.ndarray
    source: IntArray
    typical: IntArray
    cells: FloatArray
    weights: FloatArray
    habits: FloatArray
    hours: np.ndarray
    thinned: ThinnedChannels

    def logits(self, inputs: FloatArray, added: FloatArray, kinds: FloatArray) -> FloatArray:
        """Logits of channels and slots before calibration, shape (n, C, S).

        Args:
            inputs: Intercept, which counts nothing here, and standardised features, shape (n, 1 + Z).
            added: By the trees, shape (n, K + S).
            kinds: Posterior over the kinds of day, shape (n, D).
        """
        raw = np.empty((len(inputs), *self.shape))
        _add_up(
            inputs,
            self.weights,
            plain(added),
            self.cells,
            self.source,
            self.typical,
            kinds,
            self.habits,
            raw,
        )
        return raw


@compiled(
    "void(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], int64[::1], int64[::1],"
    "float64[:, ::1], float64[:, ::1], float64[:, :, ::1])"
)
def _add_up(
    inputs: FloatArray,
    weights: FloatArray,
    added: FloatArray,
    cells: FloatArray,
    source: IntArray,
    typical: IntArray,
    kinds: FloatArray,
    habits: FloatArray,
    raw: FloatArray,
) -> None:
    """Write what `OpenGrid.logits` returns into `raw`."""
    n, n_channels, n_slots = raw.shape
    n_learned, n_inputs = len(cells), len(weights)
    linear = np.empty(n_learned + n_slots)
    for i in range(n):
        linear[:] = added[i]
        for z in range(n_inputs):
            x = inputs[i, 1 + z]
            for k in range(len(linear)):
                linear[k] += x * weights[z, k]
        for d in range(len(habits)):
            for s in range(n_slots):
                linear[n_learned + s] += kinds[i, d] * habits[d, s]
        for c in range(n_channels):
            for s in range(n_slots):
                if source[c] >= 0:
                    own = cells[source[c], s] + linear[source[c]]
                else:
                    own = 0.0
                    for k in typical:
                        own += cells[k, s] + linear[k]
                    own /= len(typical)
                raw[i, c, s] = own + linear[n_learned + s]
