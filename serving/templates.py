"""Personal words in an offer's content: Jinja2, fenced in.

A body or a subject may say `{{ first_name }}`. The names are the campaign's `fields`, each with what to say for customers
without that attribute, and `customer_id`, `campaign_id`, `offer_id`, `channel`; where the offer gives something
(`serving.incentives`) also `coupon` and `redeem_link`. What a template may hold is a short
list - names, words, a few filters, `if` - checked when the campaign is stored, and it runs in Jinja2's sandbox all the
same. Attributes, calls, loops, imports and assignments are refused.

Values are escaped for where they land: in HTML as HTML, in JSON (cards, provider templates) as parts of strings that
exist already. A value with an address or a control character in it is not used, its fallback is: a customer's name
cannot put a link into a message. Links may hold no field, so that tracked links lead to stored targets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.domain.campaign import Campaign, Content
from models.domain.channel import ContentKind
from models.domain.errors import InvalidInputError, require

COUPON, REDEEM_LINK = "coupon", "redeem_link"
BUILT_IN = frozenset({"customer_id", "campaign_id", "offer_id", "channel", COUPON, REDEEM_LINK})
LONGEST_VALUE = 200
_FILTERS = frozenset({"capitalize", "default", "lower", "title", "trim", "truncate", "upper"})
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Filter,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
)
_JSON_KINDS = frozenset({ContentKind.TEMPLATE, ContentKind.CARD})
# The placeholders of a provider's own templates, which the provider fills in.
_NUMBERED = re.compile(r"\{\{\s*\d+\s*\}\}")
# An address that is made here may stand as a link.
_REDEEM_LINK = re.compile(rf"\{{\{{\s*{REDEEM_LINK}\s*\}}\}}")
_IN_ADDRESS = re.compile(r"https?://[^\s\"'<>]*\{[{%]|(?:href|src)\s*=\s*[\"'][^\"']*\{[{%]", re.IGNORECASE)
_UNQUOTED = re.compile(
    r"=\s*\{[{%]|<(?:script|style)\b(?:(?!</(?:script|style)).)*\{[{%]|<[a-z!/]*\{[{%]",
    re.IGNORECASE | re.DOTALL,
)
_ADDRESS = re.compile(r"://|\bwww\.", re.IGNORECASE)


def check_templates(campaign: Campaign) -> None:
    """Refuse a campaign whose content cannot be made for every customer.

    Raises:
        InvalidInputError: names the content, the field or construct, and what would be right.
    """
    check_fields(campaign.fields, BUILT_IN)
    known = {*campaign.fields, *BUILT_IN}
    for offer in campaign.offers:
        for kind, content in offer.content.items():
            check_content(f"offers.{offer.offer_id}.content.{kind}", kind, content, known)


def check_fields(fields: Iterable[str], built_in: Collection[str]) -> None:
    """Refuse names that no template can say, and those that mean something else.

    Raises:
        InvalidInputError: names the field.
    """
    for name in fields:
        require(name.isidentifier(), f"fields.{name}", name, "must be a plain name")
        require(
            name not in built_in, f"fields.{name}", name, f"must not be one of {', '.join(sorted(built_in))}"
        )


def check_content(place: str, kind: ContentKind, content: Content, known: Collection[str]) -> None:
    """Refuse content that cannot be made for everybody, in any of its languages.

    Args:
        place: Path of the content, for what is raised.
        kind: Of the content.
        content: To be stored.
        known: Names that it may say.

    Raises:
        InvalidInputError: names the field or construct, and what would be right.
    """
    for where, each in _variants(place, content):
        _check(f"{where}.subject", each.subject, known, html=False)
        for source in _sources(kind, each.body):
            _check(f"{where}.body", source, known, html=kind is ContentKind.HTML)
        for name, address in (("link_url", each.link_url), ("media_url", each.media_url)):
            require(
                not address or "{{" not in address,
                f"{where}.{name}",
                address,
                "must hold no field: tracked links lead to stored targets",
            )


def template_errors(campaign: Campaign) -> list[InvalidInputError]:
    """What `check_templates` would raise; for callers that tell everything at once."""
    try:
        check_templates(campaign)
    except InvalidInputError as exc:
        return [exc]
    return []


def render(kind: ContentKind, content: Content, values: Mapping[str, str]) -> Content:
    """The content for one customer.

    Args:
        kind: Tells how values are escaped.
        content: Of a campaign that `check_templates` took.
        values: What to say, by name; see `values_for`.

    Raises:
        jinja2.TemplateError: the content names a field that has no value.
    """
    plain = _filled(values, html=False)
    subject = plain(content.subject)
    if kind is ContentKind.HTML:
        return replace(content, subject=subject, body=_filled(values, html=True)(content.body))
    if kind in _JSON_KINDS:
        document = _json(content.body)
        body = (
            plain(_keep_numbered(content.body))
            if document is None
            else json.dumps(
                _in_strings(document, lambda text: plain(_keep_numbered(text))), ensure_ascii=False
            )
        )
        return replace(content, subject=subject, body=body)
    return replace(content, subject=subject, body=plain(content.body))


def values_for(
    fields: Mapping[str, str], attributes: Mapping[str, float | str], built_in: Mapping[str, str]
) -> dict[str, str]:
    """What to say by name: the customer's attributes, else the fallbacks of the fields."""
    values = {}
    for name, fallback in fields.items():
        given = attributes.get(name)
        text = f"{given:g}" if isinstance(given, float | int) else (given or "").strip()
        usable = text and text.isprintable() and len(text) <= LONGEST_VALUE and not _ADDRESS.search(text)
        values[name] = text if usable else fallback
    return {**values, **built_in}


def localised(content: Content, locale: str) -> Content:
    """The variant of a customer's locale: `zh-Hant-TW`, else `zh-Hant`, else `zh`, else the content itself."""
    wanted = locale.replace("_", "-").lower()
    variants = {name.replace("_", "-").lower(): each for name, each in content.locales.items()}
    while wanted:
        if wanted in variants:
            return variants[wanted]
        wanted = wanted.rpartition("-")[0]
    return content


def _check(place: str, source: str, known: Collection[str], *, html: bool) -> None:
    require(
        not _IN_ADDRESS.search(_REDEEM_LINK.sub("", source)),
        place,
        source[:100],
        "must hold no field inside an address or link",
    )
    require(
        not (html and _UNQUOTED.search(source)),
        place,
        source[:100],
        "must hold fields between tags or inside quoted attributes, and none in script or style",
    )
    try:
        tree = _environment(html).parse(source)
    except TemplateError as exc:
        raise InvalidInputError(place, source[:100], f"must be a template ({exc})") from exc
    for node in tree.find_all(nodes.Node):
        allowed = isinstance(node, _ALLOWED) and (not isinstance(node, nodes.Filter) or node.name in _FILTERS)
        what = node.name if isinstance(node, nodes.Filter) else type(node).__name__
        require(
            allowed,
            place,
            what,
            f"must use only names, words, `if` and the filters {', '.join(sorted(_FILTERS))}",
        )
    for named in tree.find_all(nodes.Name):
        require(named.name in known, place, named.name, f"must be one of {', '.join(sorted(known))}")


def _variants(place: str, content: Content) -> Iterator[tuple[str, Content]]:
    yield place, content
    for name, each in content.locales.items():
        require(not each.locales, f"{place}.locales.{name}.locales", "...", "must be empty")
        yield f"{place}.locales.{name}", each


def _sources(kind: ContentKind, body: str) -> list[str]:
    """The templates that a body consists of."""
    if kind not in _JSON_KINDS:
        return [body]
    document = _json(body)
    if document is None:
        return [_keep_numbered(body)]
    found: list[str] = []

    def collect(text: str) -> str:
        found.append(_keep_numbered(text))
        return text

    _in_strings(document, collect)
    return found


def _json(body: str) -> Any:
    """The document, or None where the body is plain text."""
    if not body.lstrip().startswith("{"):
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def _in_strings(document: Any, change: Callable[[str], str]) -> Any:
    """The same document with every string changed; names stay."""
    if isinstance(document, str):
        return change(document)
    if isinstance(document, list):
        return [_in_strings(each, change) for each in document]
    if isinstance(document, dict):
        return {name: _in_strings(each, change) for name, each in document.items()}
    return document


def _keep_numbered(text: str) -> str:
    return _NUMBERED.sub(lambda found: "{{ '" + found[0] + "' }}", text)


def _filled(values: Mapping[str, str], *, html: bool) -> Callable[[str], str]:
    def fill(source: str) -> str:
        if "{{" not in source and "{%" not in source:
            return source
        return _compiled(source, html).render(values)

    return fill


@lru_cache(maxsize=2)
def _environment(html: bool) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        autoescape=html, undefined=StrictUndefined, keep_trailing_newline=True
    )


@lru_cache(maxsize=1_024)
def _compiled(source: str, html: bool) -> Template:
    return _environment(html).from_string(source)
