"""Turns an offer's content into what one message says: links lead through the click redirect.

A link has a number: its place among the targets of the content. The same function lists the targets when a
message is made and when a click comes back, so an address never travels in a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import escape, unescape

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.channels.web_address import WEB_ADDRESS
from serving.content_json import json_body, with_addresses

_MAY_BE_JSON = frozenset({ContentKind.TEMPLATE, ContentKind.CARD})
_IN_HTML = re.compile(r"""(<a\s(?:[^>]*?\s)?href\s*=\s*)(["'])(https?://.*?)\2""", re.IGNORECASE | re.DOTALL)
_WHOLE_ADDRESS = re.compile(r"https?://[^\s]+", re.IGNORECASE)


def targets(content_kind: ContentKind, content: Content) -> tuple[str, ...]:
    """Web addresses that the content leads to, without repeats: `link_url` first, then those in the body."""
    found: dict[str, None] = {}
    if content.link_url and _WHOLE_ADDRESS.fullmatch(content.link_url):
        found[content.link_url] = None

    def collect(address: str) -> str:
        found[address] = None
        return address

    _replace_links(content_kind, content.body, collect)
    return tuple(found)


def with_tracked_links(content_kind: ContentKind, content: Content, click: Callable[[int], str]) -> Content:
    """The content with every web address replaced by the redirect to it.

    Args:
        content_kind: Tells how the body is read: HTML, else text.
        content: As the offer has it.
        click: Address of the redirect to the target of that number.
    """
    number = {address: n for n, address in enumerate(targets(content_kind, content))}
    link_url = content.link_url
    return replace(
        content,
        body=_replace_links(content_kind, content.body, lambda address: click(number[address])),
        link_url=click(number[link_url]) if link_url in number else link_url,
    )


def _replace_links(content_kind: ContentKind, body: str, change: Callable[[str], str]) -> str:
    if content_kind is ContentKind.HTML:
        return _IN_HTML.sub(
            lambda found: f"{found[1]}{found[2]}{escape(change(unescape(found[3])))}{found[2]}", body
        )
    if content_kind in _MAY_BE_JSON and (document := json_body(body)) is not None:
        return json.dumps(with_addresses(document, change), ensure_ascii=False)
    return WEB_ADDRESS.sub(lambda found: change(found[0]), body)
