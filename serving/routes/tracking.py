"""The addresses inside messages: open pixel, click redirect, unsubscribe.

They need no key: whoever holds the message holds the token. A forged token gets 404 and leaves no trace.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Engine

from features.history.engine import read_only
from models.domain.machine_made import MachineRules
from serving.tracking import (
    Signer,
    Token,
    TokenKind,
    TrackedMessage,
    find_message,
    find_target,
    record_fetch,
)

# One transparent pixel, GIF89a.
_PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_NOT_KEPT = {"Cache-Control": "no-store, max-age=0", "Referrer-Policy": "no-referrer"}
_STYLE = """body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem}
button{font:inherit;padding:.6rem 1.2rem}"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE_HEADERS = {
    **_NOT_KEPT,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>Unsubscribe</title>
<style>{style}</style></head><body>{body}</body></html>"""

UserAgent = Annotated[str, Header(alias="user-agent")]


def tracking_router(
    engine: Engine, secret: str, clock: Callable[[], datetime], rules: MachineRules | None = None
) -> APIRouter:
    """The routes.

    Args:
        engine: The history.
        secret: The key that signed the tokens.
        clock: Gives the moment of a fetch, aware UTC.
        rules: Tell machines from people.
    """
    router = APIRouter(tags=["tracking"], include_in_schema=False)
    signer = Signer(secret)

    def read(text: str, kind: TokenKind) -> Token:
        token = signer.read(text, kind)
        if token is None:
            raise _not_found()
        return token

    def look_up(token: Token) -> TrackedMessage:
        with read_only(engine).begin() as conn:
            message = find_message(conn, token.message_id)
        if message is None:
            raise _not_found()
        return message

    def record(token: Token, message: TrackedMessage, user_agent: str) -> None:
        with engine.begin() as conn:
            record_fetch(conn, message, token, clock(), user_agent, rules)

    @router.get("/t/o/{text}.gif")
    def opened(text: str, user_agent: UserAgent = "") -> Response:
        token = read(text, TokenKind.OPEN)
        record(token, look_up(token), user_agent)
        return Response(_PIXEL, media_type="image/gif", headers=_NOT_KEPT)

    @router.get("/t/c/{text}")
    def clicked(text: str, user_agent: UserAgent = "") -> Response:
        token = read(text, TokenKind.CLICK)
        message = look_up(token)
        with read_only(engine).begin() as conn:
            target = find_target(conn, message, token.link)
        if target is None:
            raise _not_found()
        record(token, message, user_agent)
        return RedirectResponse(target, status_code=302, headers=_NOT_KEPT)

    @router.get("/u/{text}")
    def ask(text: str) -> Response:
        # Mail scanners follow every link, so GET only asks (RFC 8058 section 1).
        message = look_up(read(text, TokenKind.UNSUBSCRIBE))
        return _page(
            f"<h1>Unsubscribe</h1><p>Stop receiving messages by {escape(message.channel)}?</p>"
            '<form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>'
        )

    @router.post("/u/{text}")
    def leave(text: str, user_agent: UserAgent = "") -> Response:
        token = read(text, TokenKind.UNSUBSCRIBE)
        message = look_up(token)
        record(token, message, user_agent)
        return _page(f"<h1>Done</h1><p>You will get no more of these by {escape(message.channel)}.</p>")

    return router


def _page(body: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(style=_STYLE, body=body), headers=_PAGE_HEADERS)


def _not_found() -> HTTPException:
    return HTTPException(status_code=404, detail="There is no such address.")
