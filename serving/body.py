"""The body of a request: read whole, and given again to whoever asks for it next."""

from __future__ import annotations

from starlette.types import Message, Receive

# Key of the ASGI scope: the body, where somebody in front has read it whole.
BODY = "nextchannel.body"


async def whole(receive: Receive) -> bytes | None:
    """All of the body; None where the caller hung up before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


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
