"""The body of a request: read whole, and given again to whoever asks for it next."""

from __future__ import annotations

from starlette.types import Message, Receive

# Key of the ASGI scope: the body, which the gate reads whole; absent where there is none, or a stream.
BODY = "nextchannel.body"


def again(body: bytes, receive: Receive) -> Receive:
    """Give a body once more, then whatever comes.

    Args:
        body: All of it.
        receive: Where it was read from.
    """
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
