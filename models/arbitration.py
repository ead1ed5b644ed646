"""Which of several campaigns may contact a customer now: at most one of them.

Every campaign's policy proposes an action by its own distribution, over its own candidates; the proposal that is
worth most is taken. Values are net of cost and of the price of attention, so that price is the same for all of
them. A campaign that proposes no contact stays out of it, and nobody is contacted where all stay out.

With p_k the distribution of campaign k, v_k its values, and ties going to the campaign named first, the contact a
of campaign k is made with probability

    P(k, a) = p_k(a) * product over j != k of [ p_j(no contact) + sum of p_j(b) over b with v_j(b) < v_k(a) ]

and nobody is contacted with probability product over k of p_k(no contact). These sum to 1. One campaign alone is
left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.choice import FloatArray
from models.draw import sample


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one campaign's policy proposes for n customers.

    Attributes:
        probabilities: Shape (n, A); no contact last.
        net_value_minor: Shape (n, A); None without predictions: the campaign named first goes first.
    """

    probabilities: FloatArray
    net_value_minor: FloatArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arbitrated:
    """One contact a customer, or none.

    Attributes:
        probabilities: By campaign, shape (n, A_k): of each contact of the campaign; the last column is the
            probability that the campaign makes none, so that every row sums to 1.
        p_silence: Probability that nobody makes a contact, shape (n,).
        winner: Index of the campaign that makes the contact, -1 for nobody, shape (n,).
        action: Index of the contact in the campaign's own grid, -1 for nobody, shape (n,).
        propensity: Probability of that contact, or of silence, among all that could have been, shape (n,).
    """

    probabilities: tuple[FloatArray, ...]
    p_silence: FloatArray
    winner: NDArray[np.intp]
    action: NDArray[np.intp]
    propensity: FloatArray


def arbitrate(proposals: Sequence[Proposal], draws: FloatArray) -> Arbitrated:
    """Choose between campaigns.

    Args:
        proposals: One a campaign, those that go first at equal value first.
        draws: One number in [0, 1) a customer, shape (n,).
    """
    known = all(proposal.net_value_minor is not None for proposal in proposals)
    values = [
        np.zeros_like(one.probabilities) if one.net_value_minor is None or not known else one.net_value_minor
        for one in proposals
    ]
    contacts = [
        _chance(proposals, values, k) if len(proposals) > 1 else proposals[0].probabilities[:, :-1]
        for k in range(len(proposals))
    ]
    p_silence: FloatArray = np.prod([one.probabilities[:, -1] for one in proposals], axis=0)
    union = np.concatenate([*contacts, p_silence[:, None]], axis=1)
    drawn = sample(union, draws)
    starts = np.cumsum([0, *(each.shape[1] for each in contacts)])
    winner = np.searchsorted(starts, drawn, side="right") - 1
    silent = winner == len(proposals)
    rows = np.arange(len(drawn))
    return Arbitrated(
        probabilities=tuple(
            one.probabilities
            if len(proposals) == 1
            else np.concatenate([each, np.maximum(0.0, 1.0 - each.sum(axis=1, keepdims=True))], axis=1)
            for one, each in zip(proposals, contacts, strict=True)
        ),
        p_silence=p_silence,
        winner=np.where(silent, -1, winner),
        action=np.where(silent, -1, drawn - starts[winner]),
        propensity=union[rows, drawn],
    )


def _chance(proposals: Sequence[Proposal], values: Sequence[FloatArray], k: int) -> FloatArray:
    """P(k, a) of every contact, shape (n, A_k - 1)."""
    chance = proposals[k].probabilities[:, :-1].copy()
    mine = values[k][:, :-1, None]
    for j, other in enumerate(proposals):
        if j == k:
            continue
        theirs = values[j][:, None, :-1]
        # At equal value the campaign that is named first goes first.
        beaten = theirs < mine if j < k else theirs <= mine
        below = (beaten * other.probabilities[:, None, :-1]).sum(axis=2)
        chance *= below + other.probabilities[:, -1:]
    return chance


def draw_again(
    distributions: Sequence[Mapping[int, float]], p_silence: float, draw: float
) -> tuple[int, int, float]:
    """The choice that a draw gives, from what was recorded.

    Args:
        distributions: By campaign, in the order in which they were asked: probability by index of the contact.
        p_silence: Probability of no contact.
        draw: The number that was drawn, in [0, 1).

    Returns:
        Index of the campaign and of its contact, -1 and -1 for no contact; and the probability.
    """
    union: list[tuple[int, int, float]] = [
        (k, index, p) for k, each in enumerate(distributions) for index, p in sorted(each.items())
    ] + [(-1, -1, p_silence)]
    (drawn,) = sample(np.array([[p for _, _, p in union]]), np.array([draw]))
    return union[int(drawn)]
