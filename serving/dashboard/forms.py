"""What a browser's form posts."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

from serving.problems import Problem
from serving.security.sessions import from_own_page

_MOST_BYTES = 20_000
_MOST_FIELDS = 10


async def form_fields(
    request: Request, most_bytes: int = _MOST_BYTES, most_fields: int = _MOST_FIELDS
) -> dict[str, str]:
    """The fields of a posted form; of a body that is too long or no form nothing."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            return {}
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=most_fields)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in fields.items()}


def strange_form(request: Request) -> Problem | None:
    """What to tell a form that no page of this service has sent; None for one of ours.

    The gate asks that of a session. Where no key is needed there is no session, and any page that this machine's browser
    shows could send a form here.
    """
    if from_own_page(dict(request.scope["headers"])):
        return None
    return Problem(
        type="/problems/forbidden",
        title="The form was not sent by this page",
        status=403,
        detail="Open the page here and try again; programs use the HTTP API.",
        instance=request.url.path,
    )
