"""Which requests may be settled together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from operator import attrgetter

from models.domain.errors import ConflictError
from serving.choosing import Case
from serving.request import DecisionRequest
from serving.store.writer import LARGEST_GROUP

# Requests of one group share the time of the latest.
_TOGETHER = timedelta(seconds=1)
_NOW = attrgetter("now")


def parts(requests: Sequence[DecisionRequest]) -> Iterator[Sequence[DecisionRequest]]:
    """Requests of one call, in runs that one transaction settles."""
    return (requests[start : start + LARGEST_GROUP] for start in range(0, len(requests), LARGEST_GROUP))


def refuse_repeated_ids(cases: Sequence[Case]) -> None:
    """Within a call a decision id names one decision."""
    named: set[str] = set()
    for case in cases:
        given = case.request.decision_id
        if given in named:
            case.error = ConflictError(f"decision_id {given} is named twice")
        elif given is not None:
            named.add(given)


def close_in_time(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that may share the time of the latest of them, the latest last."""
    groups: list[list[Case]] = []
    for case in sorted(cases, key=_NOW):
        if groups and case.now - groups[-1][0].now <= _TOGETHER:
            groups[-1].append(case)
        else:
            groups.append([case])
    return groups


def of_different_ids(cases: Sequence[Case]) -> list[Case]:
    """The first case of every decision id and every key; the others find what it wrote."""
    first: dict[tuple[str, str], Case] = {}
    later: set[Case] = set()
    for case in cases:
        request = case.request
        if (
            request.decision_id is not None
            and first.setdefault(("decision_id", request.decision_id), case) is not case
        ):
            later.add(case)
        if (
            request.key is not None
            and first.setdefault((request.key.caller, request.key.key), case) is not case
        ):
            later.add(case)
    return [case for case in cases if case not in later] if later else list(cases)
