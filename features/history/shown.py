"""What an answer shows beside its choice, made so that log and reply do not write it twice.

Both write the alternatives and the exclusions of every decision, and of most decisions nobody ever looks at them otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, overload

import orjson

from models.domain.action import Action, Exclusion, ReasonCode
from models.domain.decision import Alternative, Expected

OPTIONS = orjson.OPT_UTC_Z
"""How decisions are written, in the log and in replies."""


class Contact(NamedTuple):
    """An action with its JSON; of no contact both are None."""

    action: Action | None
    text: orjson.Fragment | None


NO_CONTACT = Contact(None, None)


@lru_cache(maxsize=16_384)
def write_contact(offer: str, channel: str, slot: int, send_at: datetime, lifetime: timedelta) -> Contact:
    """An action and its JSON: until its slot comes round it is the same for whoever it suits."""
    action = Action(offer=offer, channel=channel, slot=slot, send_at=send_at, expires_at=send_at + lifetime)
    return Contact(action, _written(action))


class Option(NamedTuple):
    """An alternative before anybody looks at it: `Alternative` and its `Expected` in one row."""

    contact: Contact
    propensity: float
    p_open: float | None
    p_convert: float | None
    p_convert_no_contact: float | None
    uplift: float | None
    cost_minor: float
    net_value_minor: float | None

    @property
    def expected(self) -> Expected:
        """What it is expected to do."""
        return Expected(
            p_open=self.p_open,
            p_convert=self.p_convert,
            p_convert_no_contact=self.p_convert_no_contact,
            uplift=self.uplift,
            cost_minor=self.cost_minor,
            net_value_minor=self.net_value_minor,
        )


class Alternatives(Sequence[Alternative]):
    """Alternatives as they were laid out; each is made where somebody looks at it.

    Args:
        options: Best first.
    """

    __slots__ = ("_options", "_text")

    def __init__(self, options: Sequence[Option]) -> None:
        self._options = options
        self._text: orjson.Fragment | None = None

    @property
    def text(self) -> orjson.Fragment:
        """Their JSON, written once."""
        if self._text is None:
            self._text = _written(
                [
                    {
                        "action": contact.text,
                        "propensity": propensity,
                        "expected": {
                            "p_open": p_open,
                            "p_convert": p_convert,
                            "p_convert_no_contact": base,
                            "uplift": uplift,
                            "cost_minor": cost,
                            "net_value_minor": value,
                        },
                    }
                    for contact, propensity, p_open, p_convert, base, uplift, cost, value in self._options
                ]
            )
        return self._text

    @overload
    def __getitem__(self, index: int) -> Alternative: ...
    @overload
    def __getitem__(self, index: slice) -> Alternatives: ...
    def __getitem__(self, index: int | slice) -> Alternative | Alternatives:
        if isinstance(index, slice):
            return Alternatives(self._options[index])
        option = self._options[index]
        return Alternative(
            action=option.contact.action, propensity=option.propensity, expected=option.expected
        )

    def __len__(self) -> int:
        return len(self._options)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class WrittenExclusion(NamedTuple):
    """An exclusion with its JSON for the log, and for a reply, which says it in words too."""

    exclusion: Exclusion
    text: orjson.Fragment
    text_in_words: orjson.Fragment


class Exclusions(tuple[Exclusion, ...]):
    """Exclusions of which the texts are known: a customer has about ten, and most have them in common."""

    written: Sequence[WrittenExclusion]

    @classmethod
    def of(cls, written: Sequence[WrittenExclusion]) -> Exclusions:
        """Put together."""
        made = cls([one.exclusion for one in written])
        made.written = written
        return made


@lru_cache(maxsize=4_096)
def write_exclusion(
    reason: ReasonCode, offer: str | None = None, channel: str | None = None, slot: int | None = None
) -> WrittenExclusion:
    """Write it both ways; known by its parts, so that who has it already makes no other to find it."""
    one = Exclusion(reason=reason, offer=offer, channel=channel, slot=slot)
    in_words = {
        "reason": one.reason,
        "words": one.words,
        "offer": one.offer,
        "channel": one.channel,
        "slot": one.slot,
    }
    return WrittenExclusion(one, _written(one), _written(in_words))


def text_of_alternatives(alternatives: Sequence[Alternative]) -> orjson.Fragment | Sequence[Alternative]:
    """What `orjson` is to write."""
    return alternatives.text if isinstance(alternatives, Alternatives) else alternatives


def written_exclusions(exclusions: Sequence[Exclusion]) -> Sequence[WrittenExclusion]:
    """Each with its texts."""
    if isinstance(exclusions, Exclusions):
        return exclusions.written
    return [write_exclusion(one.reason, one.offer, one.channel, one.slot) for one in exclusions]


def _written(document: object) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(document, option=OPTIONS))
