"""What the answers to many customers are made of, gathered from the arrays of a choice at once.

Numpy takes about as long for one number as for all of a batch. So whatever an answer shows of its candidates is picked
out for everybody together, and is plain Python numbers from here on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from features.history.shown import NO_CONTACT, Contact, Exclusions, write_contact, write_exclusion
from models.candidates import REASONS, Candidates
from models.choice import BoolArray, FloatArray, Predictions
from models.choose import Choices
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign
from models.domain.eligibility import Eligibility

MOST_ALTERNATIVES = 5

Indices = NDArray[np.intp]
_NO_VALUES: FloatArray = np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The choices of n customers, laid out.

    An option is what the answer shows: first the chosen action, then the best others, as many as there are. Lists of
    options that are longer than `options` hold nothing after those.

    Attributes:
        options: The actions; one list a customer.
        exclusions: Why the rest of the grid holds no candidate; one tuple a customer.
        propensity: Probability of each option.
        p_open: None without predictions; meaningless where the option is no contact.
        p_convert: None without predictions.
        p_convert_no_contact: None without predictions; one number a customer.
        net_value_minor: None without predictions.
        price_minor: None without predictions; by channel.
        candidates: Indices of the candidates, and their net values, of which there are none without predictions.
        drawn: Indices of the actions above zero, and their probabilities.
    """

    options: list[list[Contact]]
    exclusions: list[Exclusions]
    propensity: list[list[float]]
    p_open: list[list[float]] | None
    p_convert: list[list[float]] | None
    p_convert_no_contact: list[float] | None
    net_value_minor: list[list[float]] | None
    price_minor: list[list[float]] | None
    candidates: list[tuple[Indices, FloatArray]]
    drawn: list[tuple[Indices, FloatArray]]


def lay_out(choices: Choices, campaign: Campaign) -> Layout:
    """Lay out the choices of all customers of a call, which were for that campaign."""
    return _of_one(choices, campaign) if len(choices.action) == 1 else _of_many(choices, campaign)


def _of_one(choices: Choices, campaign: Campaign) -> Layout:
    """The same without arrays as far as it goes: for one customer every call of numpy's is for a handful of numbers."""
    values, predicted = choices.net_value_minor, choices.predictions
    n_slots = len(choices.grid.slots)
    probabilities = choices.probabilities[0].tolist()
    worth = probabilities if values is None else values[0].tolist()
    candidates, drawn = np.flatnonzero(choices.mask[0]), np.flatnonzero(choices.probabilities[0])
    indices, seen = [int(choices.action[0])], set()
    for index in sorted(candidates.tolist(), key=worth.__getitem__, reverse=True):
        if (
            index != indices[0] and index // n_slots not in seen
        ):  # of offer and channel; no contact is the last
            seen.add(index // n_slots)
            indices.append(index)
            if len(indices) > MOST_ALTERNATIVES:
                break
    p_convert = p_open = None
    if predicted is not None:
        by_index = [*predicted.p_convert[0].ravel().tolist(), float(predicted.p_convert_no_contact[0])]
        p_convert = [[by_index[index] for index in indices]]
    if choices.p_open is not None:
        by_pair = choices.p_open[0].ravel().tolist()
        p_open = [[by_pair[index % len(by_pair)] for index in indices]]
    return Layout(
        options=_contacts(choices.grid, [indices], _send_at(choices.eligibility), campaign),
        exclusions=_exclusions(choices.eligibility, campaign),
        propensity=[[probabilities[index] for index in indices]],
        p_open=p_open,
        p_convert=p_convert,
        p_convert_no_contact=None if predicted is None else predicted.p_convert_no_contact.tolist(),
        net_value_minor=None if values is None else [[worth[index] for index in indices]],
        price_minor=None if choices.price_minor is None else choices.price_minor.tolist(),
        candidates=[(candidates, _NO_VALUES if values is None else values[0, candidates])],
        drawn=[(drawn, choices.probabilities[0, drawn])],
    )


def _of_many(choices: Choices, campaign: Campaign) -> Layout:
    values = choices.net_value_minor
    row = np.arange(len(choices.action))[:, None]
    options, n_options = _options(choices, row)
    predicted, p_open = choices.predictions, choices.p_open
    p_convert = None if predicted is None else _p_convert(predicted, row, options, choices.grid.no_contact)
    if p_open is not None:
        by_pair = p_open.reshape(len(p_open), -1)
        p_open = by_pair[row, options % by_pair.shape[1]]
    indices = [some[:n] for some, n in zip(options.tolist(), n_options.tolist(), strict=True)]
    drawn = choices.probabilities > 0.0
    return Layout(
        options=_contacts(choices.grid, indices, _send_at(choices.eligibility), campaign),
        exclusions=_exclusions(choices.eligibility, campaign),
        propensity=choices.probabilities[row, options].tolist(),
        p_open=None if p_open is None else p_open.tolist(),
        p_convert=None if p_convert is None else p_convert.tolist(),
        p_convert_no_contact=None if predicted is None else predicted.p_convert_no_contact.tolist(),
        net_value_minor=None if values is None else values[row, options].tolist(),
        price_minor=None if choices.price_minor is None else choices.price_minor.tolist(),
        candidates=_picked(choices.mask, values),
        drawn=_picked(drawn, choices.probabilities),
    )


def _send_at(verdicts: Sequence[Eligibility]) -> list[tuple[datetime, ...]]:
    if isinstance(verdicts, Candidates):
        return [verdicts.moments_of_zone[zone] for zone in verdicts.zone.tolist()]
    return [verdict.send_at for verdict in verdicts]


def _contacts(
    grid: ActionGrid, indices: list[list[int]], send_at: list[tuple[datetime, ...]], campaign: Campaign
) -> list[list[Contact]]:
    """The action of every index; customers who have their send times in common share it."""
    lifetime = timedelta(seconds=campaign.message_ttl_seconds)
    made: dict[tuple[int, int], Contact] = {}
    found = []
    for row, moments in zip(indices, send_at, strict=True):
        known = [(id(moments), index) for index in row]
        for key in known:
            if key not in made:
                made[key] = _contact(grid, key[1], moments, lifetime)
        found.append([made[key] for key in known])
    return found


def _contact(grid: ActionGrid, index: int, moments: Sequence[datetime], lifetime: timedelta) -> Contact:
    axes = grid.unravel(index)
    if axes is None:
        return NO_CONTACT
    offer, channel, slot = axes
    return write_contact(grid.offers[offer], grid.channels[channel], slot, moments[slot], lifetime)


def _exclusions(verdicts: Sequence[Eligibility], campaign: Campaign) -> list[Exclusions]:
    """`Eligibility.exclusions` of every customer; of many who are judged together few are asked for theirs.

    An exclusion is known by its channel and reason, by slot and time zone, or by offer and channel. Whoever has a
    provider window that closes before a slot is asked.
    """
    if not isinstance(verdicts, Candidates):
        return [_asked(verdict, campaign) for verdict in verdicts]
    offers, channels = verdicts.grid.offers, verdicts.grid.channels
    of_channel = {
        (c, code): write_exclusion(REASONS[code], None, channels[c])
        for c, column in enumerate(verdicts.channel.T)
        for code in np.unique(column[column > 0]).tolist()
    }
    of_zone = [
        [write_exclusion(REASONS[code], None, None, slot) for slot, code in enumerate(codes) if code]
        for codes in verdicts.slot_of_zone.tolist()
    ]
    of_pair = [
        (c, write_exclusion(REASONS[verdicts.offer_channel[o, c]], offers[o], channels[c]))
        for o, c in np.argwhere(verdicts.offer_channel).tolist()
    ]
    only = verdicts.only_in_window[:, verdicts.windowed].any(axis=0)
    closing = verdicts.window_closed.any(axis=2) & only & (verdicts.channel[:, verdicts.windowed] == 0)
    rows = zip(verdicts.channel.tolist(), verdicts.zone.tolist(), closing.any(axis=1).tolist(), strict=True)
    return [
        _asked(verdicts[row], campaign)
        if closes
        else Exclusions.of(
            [
                *[of_channel[c, code] for c, code in enumerate(codes) if code],
                *of_zone[zone],
                *[written for c, written in of_pair if not codes[c]],
            ]
        )
        for row, (codes, zone, closes) in enumerate(rows)
    ]


def _asked(verdict: Eligibility, campaign: Campaign) -> Exclusions:
    return Exclusions.of(
        [
            write_exclusion(one.reason, one.offer, one.channel, one.slot)
            for one in verdict.exclusions(campaign)
        ]
    )


def _options(choices: Choices, row: Indices) -> tuple[Indices, NDArray[np.intp]]:
    """The chosen action and the best others, and how many of them there are, shapes (n, most + 1) and (n,).

    The others are the best slot of each offer and channel, and no contact. Without predictions the likelier comes
    first; of equals the first in the order of the grid.
    """
    values, chosen = choices.net_value_minor, choices.action[:, None]
    n, n_slots = len(choices.action), len(choices.grid.slots)
    worth = np.where(choices.mask, choices.probabilities if values is None else values, -np.inf)
    worth[row, chosen] = -np.inf
    contacts = worth[:, :-1].reshape(n, -1, n_slots)
    best = np.empty((n, contacts.shape[1] + 1))
    best[:, :-1], best[:, -1] = contacts.max(axis=2), worth[:, -1]
    index = np.empty(best.shape, dtype=np.intp)
    index[:, :-1] = contacts.argmax(axis=2) + np.arange(contacts.shape[1]) * n_slots
    index[:, -1] = choices.grid.no_contact
    order = np.argsort(-best, axis=1, kind="stable")[:, :MOST_ALTERNATIVES]
    n_others = (best[row, order] > -np.inf).sum(axis=1)
    return np.concatenate((chosen, index[row, order]), axis=1), n_others + 1


def _p_convert(predicted: Predictions, row: Indices, options: Indices, no_contact: int) -> FloatArray:
    by_index = predicted.p_convert.reshape(len(options), -1)
    contacts = by_index[row, np.minimum(options, no_contact - 1)]
    return np.where(options == no_contact, predicted.p_convert_no_contact[:, None], contacts)


def _picked(which: BoolArray, values: FloatArray | None) -> list[tuple[Indices, FloatArray]]:
    """By customer the columns that are true, and the values there (none: an empty row)."""
    columns = np.nonzero(which)[1]
    picked = None if values is None else values[which]
    ends = which.sum(axis=1).cumsum().tolist()
    starts = [0, *ends[:-1]]
    return [
        (columns[start:end], _NO_VALUES if picked is None else picked[start:end])
        for start, end in zip(starts, ends, strict=True)
    ]
