"""How an offer's content becomes what a messenger shows.

The body of a template or card is either plain text, from which every adapter makes its own simplest form, or a JSON
object with a part for each adapter by name:

    {"line": {"type": "confirm", ...}, "whatsapp": {"name": "spring_sale", "language": "en"}}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from models.domain.campaign import Content
from serving.channels.contract import FinalRefusalError

_MESSAGE_ID = "message_id"


def text_with_link(content: Content) -> str:
    """The words, and the link on a line of its own where they do not hold it."""
    text = content.body.strip()
    if content.link_url and content.link_url not in text:
        text = f"{text}\n{content.link_url}" if text else content.link_url
    return text


def as_list(text: str, choices: Sequence[str]) -> str:
    """A text and the words to choose from, as text alone.

    Example:
        >>> print(as_list("Please choose:", ["Orders", "Returns"]))
        Please choose:
        - Orders
        - Returns
    """
    return "\n".join(filter(None, [text, *(f"- {choice}" for choice in choices)]))


def provider_part(adapter: str, content: Content) -> Any | None:
    """The adapter's part of a JSON body; None where the body is plain text.

    Raises:
        FinalRefusalError: the JSON is damaged or has no part for this adapter.
    """
    if not content.body.lstrip().startswith("{"):
        return None
    try:
        parts = json.loads(content.body)
    except (ValueError, RecursionError) as exc:
        raise FinalRefusalError(f"the body is no JSON: {exc}") from exc
    if adapter not in parts:
        raise FinalRefusalError(f"the body has no part for {adapter}, only {', '.join(sorted(parts))}")
    return parts[adapter]


def required_media(content: Content) -> str:
    """Address of the picture or film.

    Raises:
        FinalRefusalError: there is none, or it is not an https address.
    """
    if not content.media_url or not content.media_url.startswith("https://"):
        raise FinalRefusalError(f"media_url == {content.media_url!r}, must be an https address")
    return content.media_url


def cut(text: str, longest: int) -> str:
    """At most so many characters, the last one an ellipsis where the text is longer."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def marked(part: Any, name: str, message_id: str, longest: int) -> Any:
    """The same JSON with our message id at the end of the data of every postback, so that a tap names its message.

    Args:
        part: Any JSON.
        name: Under which a postback keeps its data.
        message_id: Ours.
        longest: Most characters of the data.

    Raises:
        FinalRefusalError: the data becomes too long.
    """
    if isinstance(part, list):
        return [marked(each, name, message_id, longest) for each in part]
    if not isinstance(part, dict):
        return part
    changed = {key: marked(value, name, message_id, longest) for key, value in part.items()}
    if changed.get("type") == "postback" and isinstance(changed.get(name), str):
        data = "&".join(filter(None, (changed[name], f"{_MESSAGE_ID}={message_id}")))
        if len(data) > longest:
            raise FinalRefusalError(f"postback: {len(data)} characters, must be <= {longest}")
        changed[name] = data
    return changed


def marked_message(data: str) -> str:
    """Our message id in the data of a postback; empty where there is none."""
    return parse_qs(data).get(_MESSAGE_ID, [""])[-1]
