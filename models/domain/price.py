"""What a message costs on a channel that charges by the part, as SMS does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from models.domain.campaign import Campaign, Content
from models.domain.channel import Channel, CostUnit
from models.domain.sms import sms_length

# A tracked link on a host of twenty characters: https://, host, /t/c/ and a token of 48.
LINK_CHARACTERS = 80
_ADDRESS = re.compile(r"https?://\S+")
_FIELD = re.compile(r"\{\{\s*(\w+)[^{}]*\}\}")
_CONTROL = re.compile(r"\{%.*?%\}", re.DOTALL)


def message_cost(channel: Channel, text: str) -> float | None:
    """Cost of one message that says `text`, link and all, minor units; None where the channel has no cost.

    Example:
        >>> from models.domain.channel import DEFAULT_CHANNELS
        >>> (sms,) = (channel for channel in DEFAULT_CHANNELS if channel.name == "sms")
        >>> message_cost(sms, "a" * 160), message_cost(sms, "a" * 161)
        (1.45, 2.9)
    """
    if channel.cost_minor is None or channel.cost_unit is CostUnit.MESSAGE:
        return channel.cost_minor
    return channel.cost_minor * sms_length(text).n_segments


def priced(campaign: Campaign, channel: Channel) -> Channel:
    """The channel at what one message of the campaign costs there.

    Where a channel charges by the part, that is the longest text of the campaign, of all offers and languages, with
    tracked links and with the fallbacks of its fields. What a customer's own words make of it, and that a shorter
    offer was chosen, is known when the message is sent; the cost is corrected then.
    """
    if channel.cost_unit is CostUnit.MESSAGE or not channel.cost_minor:
        return channel
    costs = [message_cost(channel, text) or 0.0 for text in _texts(campaign, channel)]
    return replace(channel, cost_minor=max(costs, default=channel.cost_minor), cost_unit=CostUnit.MESSAGE)


def _texts(campaign: Campaign, channel: Channel) -> Iterator[str]:
    """Every text that may go out on the channel, about as long as it will be."""
    for offer in campaign.offers:
        for kind, content in offer.content.items():
            if kind in channel.content_kinds and channel.fits(kind, content.body):
                for each in (content, *content.locales.values()):
                    yield _about(each, campaign.fields)


def _about(content: Content, fields: Mapping[str, str]) -> str:
    body = _CONTROL.sub("", content.body).strip()
    body = _FIELD.sub(lambda found: fields.get(found[1], found[1]), body)
    linked = content.link_url is not None and content.link_url not in content.body
    body = _ADDRESS.sub("x" * LINK_CHARACTERS, body)
    return f"{body}\n{'x' * LINK_CHARACTERS}" if linked else body
