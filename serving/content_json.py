"""Web addresses in a body that is JSON: those that a customer can follow, not those of pictures.

A customer follows `uri` of an object without a type or of type `uri` (LINE), and `url` of one without a type or of type
`web_url` (Messenger, WeChat, WhatsApp).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_ADDRESS = re.compile(r"https?://[^\s]+", re.IGNORECASE)
_FOLLOWED = {"uri": frozenset({None, "uri"}), "url": frozenset({None, "web_url"})}


def json_body(body: str) -> dict[str, Any] | None:
    """The object that the body is; None where it is none, so that it is text."""
    if not body.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def with_addresses(part: Any, change: Callable[[str], str]) -> Any:
    """The same JSON with every address that can be followed changed.

    Example:
        >>> with_addresses({"type": "uri", "uri": "https://shop.example"}, str.upper)
        {'type': 'uri', 'uri': 'HTTPS://SHOP.EXAMPLE'}
        >>> with_addresses({"type": "image", "url": "https://shop.example/t.jpg"}, str.upper)["url"]
        'https://shop.example/t.jpg'
    """
    if isinstance(part, list):
        return [with_addresses(each, change) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        name: change(value)
        if isinstance(value, str)
        and part.get("type") in _FOLLOWED.get(name, frozenset())
        and _ADDRESS.fullmatch(value)
        else with_addresses(value, change)
        for name, value in part.items()
    }
