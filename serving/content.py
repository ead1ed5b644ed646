"""Turns an offer's content into what one message says: links lead through the click redirect.

A link has a number: its place among the targets of the content. The same function lists the targets when a
message is made and when a click comes back, so an address never travels in a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html import escape, unescape

from models.domain.campaign import Campaign, Content
from models.domain.channel import Channel, ContentKind
from models.domain.errors import NextchannelError
from serving.channels.web_address import WEB_ADDRESS
from serving.content_json import json_body, with_addresses
from serving.templates import localised, render, values_for

LOCALE = "locale"  # the customer attribute

_NOTHING: Mapping[str, str] = {}
_MAY_BE_JSON = frozenset({ContentKind.TEMPLATE, ContentKind.CARD})
_IN_HTML = re.compile(r"""(<a\s(?:[^>]*?\s)?href\s*=\s*)(["'])(https?://.*?)\2""", re.IGNORECASE | re.DOTALL)
_WHOLE_ADDRESS = re.compile(r"https?://[^\s]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a message is for.

    Attributes:
        attributes: Number or text by name; `locale` chooses the language.
    """

    customer_id: str
    attributes: Mapping[str, float | str]


class ContentTooLongError(NextchannelError):
    """With tracked links and personal words in it, the body is longer than the channel takes.

    Args:
        content: As it was made.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        super().__init__(f"the body is longer than the channel takes: {len(content.body)} characters")


def targets(content_kind: ContentKind, content: Content) -> tuple[str, ...]:
    """Web addresses that the content leads to, without repeats: `link_url` first, then those in the body.

    Those of its other languages follow, in order of their locales, so that a number means the same in each.
    """
    found: dict[str, None] = {}

    def collect(address: str) -> str:
        found[address] = None
        return address

    for each in (content, *(content.locales[name] for name in sorted(content.locales))):
        if each.link_url and _WHOLE_ADDRESS.fullmatch(each.link_url):
            found[each.link_url] = None
        _replace_links(content_kind, each.body, collect)
    return tuple(found)


def with_tracked_links(
    content_kind: ContentKind,
    content: Content,
    click: Callable[[int], str],
    whole: Content | None = None,
) -> Content:
    """The content with every web address replaced by the redirect to it.

    Args:
        content_kind: Tells how the body is read: HTML, else text.
        content: In the language of the customer.
        click: Address of the redirect to the target of that number.
        whole: As the offer has it, where `content` is one of its languages.
    """
    number = {address: n for n, address in enumerate(targets(content_kind, whole or content))}
    link_url = content.link_url
    return replace(
        content,
        body=_replace_links(content_kind, content.body, lambda address: click(number[address])),
        link_url=click(number[link_url]) if link_url in number else link_url,
    )


def personal(
    campaign: Campaign,
    channel: Channel,
    offer_id: str,
    content_kind: ContentKind,
    whole: Content,
    person: Person,
    click: Callable[[int], str],
    given: Mapping[str, str] = _NOTHING,
) -> Content:
    """What one message says: in the customer's language, with tracked links, then with the customer's words.

    Args:
        campaign: Whose fields.
        channel: Where it goes.
        offer_id: What it offers.
        content_kind: Tells how the body is read and escaped.
        whole: As the offer has it, in all its languages.
        person: Whom it is for.
        click: Address of the redirect to the target of that number.
        given: `coupon` and `redeem_link`, where the offer gives something.

    Raises:
        jinja2.UndefinedError: it speaks of what the offer does not give.
        ContentTooLongError: with all that in it, it is longer than the channel takes.
    """
    variant = localised(whole, str(person.attributes.get(LOCALE, "")))
    built_in = {
        "customer_id": person.customer_id,
        "campaign_id": campaign.campaign_id,
        "offer_id": offer_id,
        "channel": channel.name,
        **given,
    }
    made = render(
        content_kind,
        with_tracked_links(content_kind, variant, click, whole),
        values_for(campaign.fields, person.attributes, built_in),
    )
    if not channel.fits(content_kind, made.body):
        raise ContentTooLongError(made)
    return made


def _replace_links(content_kind: ContentKind, body: str, change: Callable[[str], str]) -> str:
    if content_kind is ContentKind.HTML:
        return _IN_HTML.sub(
            lambda found: f"{found[1]}{found[2]}{escape(change(unescape(found[3])))}{found[2]}", body
        )
    if content_kind in _MAY_BE_JSON and (document := json_body(body)) is not None:
        return json.dumps(with_addresses(document, change), ensure_ascii=False)
    return WEB_ADDRESS.sub(lambda found: change(found[0]), body)
