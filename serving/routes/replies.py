"""Decisions as the bytes of a reply, straight from the dataclass.

`DecisionOut` describes the same document; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import orjson

from features.history.shown import OPTIONS, text_of_alternatives, written_exclusions
from models.domain.decision import Decision
from models.domain.errors import NextchannelError
from serving.problems import problem_of
from serving.routes.schemas import ArbitrationOut, DecisionOut

_PLAIN = tuple(name for name in DecisionOut.model_fields if name != "exclusions")
_plain = attrgetter(*_PLAIN)


def decision_document(decision: Decision) -> dict[str, object]:
    """The reply's document, for `orjson` to write."""
    document: dict[str, object] = dict(zip(_PLAIN, _plain(decision), strict=True))
    document["alternatives"] = text_of_alternatives(decision.alternatives)
    document["exclusions"] = [one.text_in_words for one in written_exclusions(decision.exclusions)]
    if decision.arbitration is not None:
        document["arbitration"] = ArbitrationOut.model_validate(decision.arbitration).model_dump()
    return document


def decision_reply(decision: Decision) -> bytes:
    """`DecisionOut` as JSON."""
    return orjson.dumps(decision_document(decision), option=OPTIONS)


def outcome_document(answer: Decision | NextchannelError, instance: str) -> dict[str, object]:
    """`OutcomeOut`'s document."""
    if isinstance(answer, Decision):
        return {"decision": decision_document(answer), "problem": None}
    return {"decision": None, "problem": problem_of(answer, instance).model_dump(mode="json")}


def outcome_line(outcome: dict[str, object]) -> bytes:
    """`OutcomeOut` as a line of JSON."""
    return orjson.dumps(outcome, option=OPTIONS | orjson.OPT_APPEND_NEWLINE)


def outcome_text(answer: Decision | NextchannelError, instance: str) -> orjson.Fragment:
    """`OutcomeOut` as JSON, to be put into a batch."""
    return orjson.Fragment(orjson.dumps(outcome_document(answer, instance), option=OPTIONS))


def batch_reply(outcomes: Sequence[orjson.Fragment | None]) -> bytes:
    """`BatchOut` as JSON."""
    return orjson.dumps({"outcomes": outcomes}, option=OPTIONS)
