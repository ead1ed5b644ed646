"""LINE message objects from an offer's content.

https://developers.line.biz/en/reference/messaging-api/#message-objects
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from models.domain.message import Message
from serving.channels.contract import FinalRefusalError
from serving.channels.rendering import as_list, cut, marked, provider_part, required_media, text_with_link

_STICKER = re.compile(r"(\d+)/(\d+)")
_TEMPLATES = frozenset({"buttons", "confirm", "carousel", "image_carousel"})
_FLEX = frozenset({"bubble", "carousel"})
_MESSAGES = frozenset(
    {"text", "sticker", "image", "video", "audio", "location", "imagemap", "template", "flex"}
)
_MOST_MESSAGES = 5
_LONGEST_ALTERNATIVE = 400
_LONGEST_TITLE = 40
_LONGEST_TEXT = 160
_LONGEST_TEXT_BESIDE_TITLE = 60
_LONGEST_POSTBACK = 300
_LONGEST_LABEL = 20


def messages_of(message: Message, button_label: str, video_preview_url: str) -> list[dict[str, Any]]:
    """The message objects, at most five, of what the message says.

    Args:
        message: Its content kind is one that LINE carries.
        button_label: On the button that leads to the link.
        video_preview_url: Picture of a film.

    Raises:
        FinalRefusalError: the content does not make a LINE message.
    """
    content = message.content
    match message.content_kind:
        case ContentKind.TEXT:
            made = _texts(content)
        case ContentKind.STICKER:
            made = [_sticker(content)]
        case ContentKind.IMAGE:
            picture = required_media(content)
            image = {"type": "image", "originalContentUrl": picture, "previewImageUrl": picture}
            made = [image, *_texts(content)]
        case ContentKind.VIDEO:
            if not video_preview_url:
                raise FinalRefusalError("a film needs the setting line.video_preview_url")
            film = {
                "type": "video",
                "originalContentUrl": required_media(content),
                "previewImageUrl": video_preview_url,
            }
            made = [film, *_texts(content)]
        case ContentKind.TEMPLATE:
            made = _templates(content, button_label)
        case _:
            made = _cards(content, button_label)
    if not 0 < len(made) <= _MOST_MESSAGES:
        raise FinalRefusalError(f"{len(made)} message objects, must be 1 to {_MOST_MESSAGES}")
    return [marked(each, "data", message.message_id, _LONGEST_POSTBACK) for each in made]


def text_with_choices(adapter: str, content: Content, choices: Sequence[str]) -> Content:
    """A card of one text, with a quick reply for each word; computers do not show those, so the text lists them too.

    https://developers.line.biz/en/docs/messaging-api/using-quick-reply/
    """
    text = as_list(text_with_link(content), choices)
    buttons = [
        {"type": "action", "action": {"type": "message", "label": cut(word, _LONGEST_LABEL), "text": word}}
        for word in choices
    ]
    said = {"type": "text", "text": text, "quickReply": {"items": buttons}}
    return Content(body=json.dumps({adapter: said}, ensure_ascii=False))


def _texts(content: Content) -> list[dict[str, Any]]:
    text = text_with_link(content)
    return [{"type": "text", "text": text}] if text else []


def _sticker(content: Content) -> dict[str, Any]:
    """https://developers.line.biz/en/docs/messaging-api/sticker-list/."""
    found = _STICKER.fullmatch(content.body.strip())
    if found is None:
        raise FinalRefusalError("a sticker's body must be <package id>/<sticker id>, for example 446/1988")
    return {"type": "sticker", "packageId": found[1], "stickerId": found[2]}


def _templates(content: Content, button_label: str) -> list[dict[str, Any]]:
    template = provider_part("line", content)
    if template is None:
        template = _buttons(content, button_label)
    if not isinstance(template, dict) or template.get("type") not in _TEMPLATES:
        raise FinalRefusalError(f"a template's type must be one of {', '.join(sorted(_TEMPLATES))}")
    return [{"type": "template", "altText": _alternative(content, template), "template": template}]


def _buttons(content: Content, button_label: str) -> dict[str, Any]:
    if not content.link_url:
        raise FinalRefusalError("a template of plain text needs a link_url for its button")
    text = content.body.strip()
    longest = _LONGEST_TEXT_BESIDE_TITLE if content.subject or content.media_url else _LONGEST_TEXT
    if not 0 < len(text) <= longest:
        raise FinalRefusalError(f"text of buttons: {len(text)} characters, must be 1 to {longest}")
    buttons: dict[str, Any] = {
        "type": "buttons",
        "text": text,
        "actions": [{"type": "uri", "label": button_label, "uri": content.link_url}],
    }
    if content.subject:
        buttons["title"] = cut(content.subject, _LONGEST_TITLE)
    if content.media_url:
        buttons["thumbnailImageUrl"] = required_media(content)
    return buttons


def _cards(content: Content, button_label: str) -> list[dict[str, Any]]:
    """A flex bubble or carousel, or whole message objects such as a location."""
    part = provider_part("line", content)
    if part is None:
        part = _bubble(content, button_label)
    made = []
    for each in part if isinstance(part, list) else [part]:
        kind = each.get("type") if isinstance(each, dict) else None
        if kind in _FLEX:
            made.append({"type": "flex", "altText": _alternative(content, each), "contents": each})
        elif kind in _MESSAGES:
            made.append(each)
        else:
            raise FinalRefusalError("a card must be a flex bubble, a carousel or a message object")
    return made


def _bubble(content: Content, button_label: str) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    if content.subject:
        lines.append({"type": "text", "text": content.subject, "weight": "bold", "wrap": True})
    if content.body.strip():
        lines.append({"type": "text", "text": content.body.strip(), "wrap": True})
    bubble: dict[str, Any] = {
        "type": "bubble",
        "body": {"type": "box", "layout": "vertical", "contents": lines},
    }
    if content.media_url:
        bubble["hero"] = {"type": "image", "url": required_media(content), "size": "full"}
    if content.link_url:
        action = {"type": "uri", "label": button_label, "uri": content.link_url}
        button = {"type": "button", "style": "primary", "action": action}
        bubble["footer"] = {"type": "box", "layout": "vertical", "contents": [button]}
    return bubble


def _alternative(content: Content, shown: dict[str, Any]) -> str:
    """What a notification and old devices show instead."""
    plain = "" if content.body.lstrip().startswith("{") else content.body.strip()
    return cut(content.subject or plain or str(shown.get("text", shown["type"])), _LONGEST_ALTERNATIVE)
