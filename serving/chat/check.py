"""What is wrong with answers before they are stored, each with its place and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from jinja2 import TemplateError

from models.domain.campaign import Content
from models.domain.channel import Channel, ContentKind
from models.domain.customer import zone
from models.domain.errors import InvalidInputError, InvalidInputsError
from serving.channels.web_address import WEB_ADDRESS
from serving.chat.document import Answers, Office
from serving.chat.reaction import BUILT_IN, OPENS_AT, Saying
from serving.chat.tree import KeywordGroup, normalised, walk
from serving.templates import LONGEST_VALUE, check_content, check_fields, render

# LINE shows up to 13 words to choose from, of which one leads back or to a person:
# https://developers.line.biz/en/docs/messaging-api/using-quick-reply/
MOST_BESIDE = 12
DEEPEST = 6
MOST_GROUPS = 500
MOST_KEYWORDS = 50
LONGEST_KEYWORD = 100
MOST_SPANS = 12
MOST_DATES = 400
_POSITION = (60, 86_400)
_SILENCE = (60, 7 * 86_400)
# The longest value in whatever a channel counts: two UTF-16 units and four bytes a character.
_WIDEST = "\U0001f34e" * LONGEST_VALUE

Finding = InvalidInputError


def check_answers(answers: Answers, channel: Channel) -> None:
    """Refuse answers that a channel cannot give, or of which some cannot be reached.

    Raises:
        InvalidInputsError: one finding for each.
    """
    findings = [*_fields(answers), *_groups(answers), *_texts(answers, channel), *_office(answers.office)]
    if findings:
        raise InvalidInputsError(findings)


def _fields(answers: Answers) -> Iterator[Finding]:
    yield from _within("position_seconds", answers.position_seconds, _POSITION)
    yield from _raised(lambda: check_fields(answers.fields, BUILT_IN | {OPENS_AT}))
    for name, fallback in answers.fields.items():
        if len(fallback) > LONGEST_VALUE:
            yield Finding(f"fields.{name}", fallback[:40], f"must have at most {LONGEST_VALUE} characters")
    yield from _keywords("back", answers.back)
    if answers.office is not None:
        yield from _keywords("office.person_words", answers.office.person_words)
        for word in sorted(
            {*map(normalised, answers.back)} & {*map(normalised, answers.office.person_words)}
        ):
            yield Finding("office.person_words", word, "must not be a word of `back`")


def _groups(answers: Answers) -> Iterator[Finding]:
    office = answers.office
    taken = {normalised(word): "back" for word in answers.back}
    taken |= {normalised(word): "office.person_words" for word in (office.person_words if office else ())}
    if not answers.groups:
        yield Finding("groups", "[]", "must hold at least one group")
    every = list(walk(answers.groups))
    if len(every) > MOST_GROUPS:
        yield Finding("groups", f"{len(every)} groups", f"must be at most {MOST_GROUPS} in all")
        return
    yield from _siblings("groups", answers.groups)
    for place, group, depth in every:
        yield from _keywords(f"{place}.keywords", group.keywords)
        for n, keyword in enumerate(group.keywords):
            if (where := taken.get(normalised(keyword))) is not None:
                yield Finding(f"{place}.keywords.{n}", keyword, f"must not be a word of `{where}`")
        known = {normalised(keyword) for keyword in group.keywords}
        for locale, label in group.labels.items():
            if normalised(label) not in known:
                yield Finding(f"{place}.labels.{locale}", label, "must be one of the group's keywords")
        yield from _one_way(place, group)
        if group.groups:
            yield from _siblings(f"{place}.groups", group.groups)
            if depth >= DEEPEST:
                yield Finding(f"{place}.groups", f"depth {depth + 1}", f"must be at most {DEEPEST} deep")


def _one_way(place: str, group: KeywordGroup) -> Iterator[Finding]:
    """A group leads to content, to an address, or to groups below it."""
    if not (group.groups or group.content or group.link_url):
        yield Finding(place, list(group.keywords)[:3], "must lead to `content`, a `link_url` or `groups`")
    if group.link_url is not None:
        if group.content is not None or group.groups:
            yield Finding(
                f"{place}.link_url",
                group.link_url,
                "must stand without `content` and `groups`; `content` has a `link_url` of its own",
            )
        if not WEB_ADDRESS.fullmatch(group.link_url):
            yield Finding(f"{place}.link_url", group.link_url, "must be a web address")
    if (group.groups or group.link_url) and group.kind is not ContentKind.TEXT:
        yield Finding(f"{place}.kind", group.kind.value, "must be text, above a menu and before an address")


def _siblings(place: str, groups: Sequence[KeywordGroup]) -> Iterator[Finding]:
    if len(groups) > MOST_BESIDE:
        yield Finding(place, f"{len(groups)} groups", f"must be at most {MOST_BESIDE} beside each other")
    first: dict[str, str] = {}
    for n, group in enumerate(groups):
        for k, keyword in enumerate(group.keywords):
            where = f"{place}.{n}.keywords.{k}"
            if (other := first.setdefault(normalised(keyword), where)) != where:
                yield Finding(where, keyword, f"must not mean the same as {other}")


def _keywords(place: str, keywords: Sequence[str]) -> Iterator[Finding]:
    if not 0 < len(keywords) <= MOST_KEYWORDS:
        yield Finding(place, f"{len(keywords)} words", f"must be 1 to {MOST_KEYWORDS}")
    for n, keyword in enumerate(keywords):
        if not normalised(keyword) or len(keyword) > LONGEST_KEYWORD or not keyword.isprintable():
            yield Finding(
                f"{place}.{n}",
                keyword[:LONGEST_KEYWORD],
                f"must hold a letter, digit or symbol, on one line of at most {LONGEST_KEYWORD} characters",
            )


def _texts(answers: Answers, channel: Channel) -> Iterator[Finding]:
    """Everything that is said, made with the longest words that a person can have."""
    office, back = answers.office, answers.back[:1]
    top = [_longest_label(group) for group in answers.groups]
    if office is not None:
        top += office.person_words[:1]
        yield from _said(answers, channel, "office.handed_over", ContentKind.TEXT, office.handed_over)
        yield from _said(
            answers, channel, "office.closed", ContentKind.TEXT, office.closed, top, {OPENS_AT: "W" * 40}
        )
    yield from _said(answers, channel, "menu", ContentKind.TEXT, answers.menu, top)
    for place, group, _ in walk(answers.groups):
        if group.groups:
            choices = [*map(_longest_label, group.groups), *back]
            text = group.content or answers.menu
            yield from _said(answers, channel, f"{place}.content", ContentKind.TEXT, text, choices)
        elif group.content is not None:
            yield from _said(answers, channel, f"{place}.content", group.kind, group.content)


def _longest_label(group: KeywordGroup) -> str:
    return max((*group.keywords[:1], *group.labels.values()), key=len, default="")


def _said(
    answers: Answers,
    channel: Channel,
    place: str,
    kind: ContentKind,
    content: Content,
    choices: Sequence[str] = (),
    more: dict[str, str] | None = None,
) -> Iterator[Finding]:
    if kind not in channel.content_kinds:
        carried = ", ".join(sorted(channel.content_kinds))
        yield Finding(place, kind.value, f"must be of a kind that {channel.name} carries: {carried}")
        return
    known = {*answers.fields, *BUILT_IN, *(more or ())}
    wrong = list(_raised(lambda: check_content(place, kind, content, known)))
    yield from wrong
    if wrong:
        return
    values = {**dict.fromkeys(answers.fields, _WIDEST), "channel": channel.name, **(more or {})}
    for name, each in {"": content, **content.locales}.items():
        where = f"{place}.locales.{name}" if name else place
        try:
            made = render(kind, each, values)
        except TemplateError as exc:
            yield Finding(f"{where}.body", each.body[:100], f"must be a template ({exc})")
            continue
        if kind is ContentKind.TEXT and not (made.body.strip() or made.link_url):
            yield Finding(f"{where}.body", each.body, "must say something")
        said = Saying(kind=kind, content=made, choices=tuple(choices))
        if not channel.fits(kind, said.text if kind is ContentKind.TEXT else made.body):
            yield Finding(
                f"{where}.body",
                f"{len(said.text)} characters",
                f"must be short enough for {channel.name}, with the longest personal words and its menu",
            )


def _office(office: Office | None) -> Iterator[Finding]:
    if office is None:
        return
    yield from _within("office.silence_seconds", office.silence_seconds, _SILENCE)
    for finding in _raised(lambda: zone(office.time_zone)):
        yield Finding("office.time_zone", office.time_zone, finding.bound)
    if not any(office.hours.values()):
        yield Finding("office.hours", "{}", "must be open on some day; without an office leave it out")
    for day, spans in office.hours.items():
        if len(spans) > MOST_SPANS:
            yield Finding(f"office.hours.{day}", f"{len(spans)} spans", f"must be at most {MOST_SPANS}")
        for n, span in enumerate(spans):
            for name, at in (("opens", span.opens), ("closes", span.closes)):
                if at.tzinfo is not None:
                    yield Finding(
                        f"office.hours.{day}.{n}.{name}", at.isoformat(), "must be on the office's own clock"
                    )
    if len(office.closed_on) > MOST_DATES:
        yield Finding("office.closed_on", f"{len(office.closed_on)} dates", f"must be at most {MOST_DATES}")
    for n, day_off in enumerate(office.closed_on):
        if not 2000 <= day_off.year < 2200:
            yield Finding(f"office.closed_on.{n}", day_off.isoformat(), "must be in the years 2000 to 2199")


def _within(place: str, number: int, bounds: tuple[int, int]) -> Iterator[Finding]:
    low, high = bounds
    if not low <= number <= high:
        yield Finding(place, number, f"must be in [{low}, {high}]")


def _raised(check: Callable[[], object]) -> Iterator[Finding]:
    """What a check that stops at the first finding has found."""
    try:
        check()
    except InvalidInputError as exc:
        yield exc
