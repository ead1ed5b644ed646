"""What is said to a text, and why: a function of the answers, of where the person stands, and of the moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from models.domain.campaign import Content
from models.domain.channel import ContentKind
from serving.channels.rendering import as_list
from serving.chat.document import Answers, Office
from serving.chat.tree import KeywordGroup, Match, Position, match, match_anywhere, normalised
from serving.content import LOCALE, Person
from serving.explain.catalogue import Language
from serving.explain.languages import CATALOGUES
from serving.explain.phrases import local_time, tidy
from serving.templates import localised, render, values_for

# What every text may name; `opens_at` only the one that says when somebody is back.
BUILT_IN = frozenset({"channel"})
OPENS_AT = "opens_at"
_LANGUAGES = {"zh": Language.CHINESE, "ja": Language.JAPANESE}


class Why(StrEnum):
    """Why something is said, or nothing."""

    KEYWORD = "keyword"
    """The text is one of a group."""
    BACK = "back"
    """It asks for the menu."""
    MENU = "menu"
    """It is no keyword, and there is no office."""
    HANDED_OVER = "handed_over"
    """A person will answer, and is there."""
    CLOSED = "closed"
    """A person will answer when the office opens."""
    SILENT = "silent"
    """A person answers already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What is sent.

    Attributes:
        choices: Words to choose from, shown below it in the channel's way.
    """

    kind: ContentKind
    content: Content
    choices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The same for people to read."""
        content = self.content
        parts = (content.subject, content.body, content.media_url, content.link_url)
        return as_list("\n".join(filter(None, parts)), self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What follows from a text.

    Attributes:
        position: Where the person stands afterwards.
        path: First keywords from the top down to the group that it means; empty for none.
        says: None where nothing is said.
        due_at: From when on a person is to answer; None where none is to.
    """

    why: Why
    position: Position = ()
    path: Position = ()
    says: Saying | None = None
    due_at: datetime | None = None


def react(
    answers: Answers, text: str, position: Position, now: datetime, channel: str, person: Person
) -> Reaction:
    """What is said to a customer whom no person is talking with.

    Args:
        answers: Of the channel.
        text: What they said.
        position: Where they stand.
        now: Aware.
        channel: Name of the channel.
        person: Who they are; their locale chooses the language.
    """
    words = _Words(answers, channel, person)
    office = answers.office
    if _is_one_of(text, answers.back):
        return Reaction(why=Why.BACK, says=words.top(answers.menu))
    if office is not None and _is_one_of(text, office.person_words):
        return _to_person(words, office, now)
    found = match(answers.groups, position, text)
    if found is not None:
        return _to_keyword(words, found)
    if office is not None:
        return _to_person(words, office, now)
    return Reaction(why=Why.MENU, says=words.top(answers.menu))


def react_to_stranger(answers: Answers, text: str, channel: str) -> Reaction:
    """What is said to somebody of whom nothing is known, nor kept: keywords and the menu."""
    words = _Words(answers, channel, Person("", {}), hands_over=False)
    found = None if _is_one_of(text, answers.back) else match_anywhere(answers.groups, text)
    if found is not None:
        return _to_keyword(words, found)
    return Reaction(why=Why.MENU, says=words.top(answers.menu))


def standing_at(answers: Answers, position: Sequence[str], since: datetime | None, now: datetime) -> Position:
    """Where a person stands who was shown a menu then: there, or at the top after a while."""
    expired = since is None or (now - since).total_seconds() >= answers.position_seconds
    return () if expired else tuple(position)


def _to_keyword(words: _Words, found: Match) -> Reaction:
    return Reaction(
        why=Why.KEYWORD, path=found.path, position=found.position, says=words.of_group(found.group)
    )


def _to_person(words: _Words, office: Office, now: datetime) -> Reaction:
    timetable = office.timetable
    if timetable.is_open(now):
        says = Saying(kind=ContentKind.TEXT, content=words.made(ContentKind.TEXT, office.handed_over))
        return Reaction(why=Why.HANDED_OVER, says=says, due_at=now)
    opens_at = timetable.next_opening(now)
    assert opens_at is not None, "an office that is stored opens"
    return Reaction(why=Why.CLOSED, says=words.closed(office, opens_at), due_at=opens_at)


def _is_one_of(text: str, words: Sequence[str]) -> bool:
    return normalised(text) in {normalised(word) for word in words}


class _Words:
    """The texts of the answers for one person."""

    def __init__(self, answers: Answers, channel: str, person: Person, *, hands_over: bool = True) -> None:
        self._answers = answers
        self._locale = str(person.attributes.get(LOCALE, ""))
        self._values = values_for(answers.fields, person.attributes, {"channel": channel})
        self._hands_over = hands_over

    def made(self, kind: ContentKind, content: Content, **more: str) -> Content:
        """Content in the person's language, with their words."""
        return replace(render(kind, localised(content, self._locale), {**self._values, **more}), locales={})

    def top(self, content: Content, **more: str) -> Saying:
        """A text above the top menu."""
        choices = [self._label(group) for group in self._answers.groups]
        if self._answers.office is not None and self._hands_over:
            choices.append(self._answers.office.person_words[0])
        made = self.made(ContentKind.TEXT, content, **more)
        return Saying(kind=ContentKind.TEXT, content=made, choices=tuple(choices))

    def of_group(self, group: KeywordGroup) -> Saying:
        """What a group leads to."""
        if group.groups:
            choices = (*(self._label(each) for each in group.groups), self._answers.back[0])
            made = self.made(ContentKind.TEXT, group.content or self._answers.menu)
            return Saying(kind=ContentKind.TEXT, content=made, choices=choices)
        content = group.content or Content(body=self._label(group), link_url=group.link_url)
        return Saying(kind=group.kind, content=self.made(group.kind, content))

    def closed(self, office: Office, opens_at: datetime) -> Saying:
        """When somebody is back, above the top menu."""
        language = _LANGUAGES.get(self._locale.replace("_", "-").partition("-")[0].lower(), Language.ENGLISH)
        words = CATALOGUES[language]
        return self.top(office.closed, opens_at=tidy(local_time(opens_at, office.time_zone, words)))

    def _label(self, group: KeywordGroup) -> str:
        variants = {locale: Content(body=keyword) for locale, keyword in group.labels.items()}
        return localised(Content(body=group.keywords[0], locales=variants), self._locale).body
