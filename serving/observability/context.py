"""Which request the present code works for, so that a line of the log can say so."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

import uuid_utils

_GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class RequestContext:
    """One request on its way.

    Attributes:
        request_id: The caller's `X-Request-ID`, or one of our own.
        decision_id: The decision that it asked for, once there is one.
    """

    request_id: str
    decision_id: str | None = None


_current: ContextVar[RequestContext | None] = ContextVar("nextchannel_request", default=None)


def begin(given: bytes | None) -> RequestContext:
    """Start to work for a request; its own id is kept where it is short and plain."""
    text = "" if given is None else given.decode("latin-1")
    made = RequestContext(text if _GIVEN.fullmatch(text) else str(uuid_utils.uuid7()))
    _current.set(made)
    return made


def current() -> RequestContext | None:
    """The request that is worked for; None outside of one."""
    return _current.get()


def note_decision(decision_id: str) -> None:
    """The present request is about this decision."""
    context = _current.get()
    if context is not None:
        context.decision_id = decision_id
