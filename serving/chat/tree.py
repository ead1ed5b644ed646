"""Keywords as a tree, and which group of it a text means.

The law of a match: `normalised(text) == normalised(keyword)`, nothing less and nothing more. A person stands somewhere
in the tree, at the menu that they were shown last. What is nearest wins: the keywords of that menu, then those of the
menu above it, up to the top.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from models.domain.campaign import Content
from models.domain.channel import ContentKind

Position = tuple[str, ...]
"""The first keywords of the groups from the top to a menu; empty at the top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordGroup:
    """Keywords that mean the same, and what they lead to: content, an address, or groups.

    Attributes:
        keywords: The first one stands in the menu.
        kind: Of the content.
        content: The answer; where there are groups, the text above their menu.
        link_url: An address, where that is all there is to say.
        groups: A menu.
        labels: Another of the keywords that stands in the menu instead, by locale.
    """

    keywords: tuple[str, ...]
    kind: ContentKind = ContentKind.TEXT
    content: Content | None = None
    link_url: str | None = None
    groups: tuple[KeywordGroup, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The group that a text means.

    Attributes:
        path: First keywords from the top down to the group.
        position: Where the person stands afterwards: at the group's menu, else at the one that it was found in.
    """

    group: KeywordGroup
    path: Position
    position: Position


def normalised(text: str) -> str:
    """What of a text counts when it is compared.

    Unicode's compatibility form (NFKC) in folded case, blanks as single spaces, without blanks, punctuation and
    invisible characters at the ends.

    Example:
        >>> normalised("  ＯＰＥＮＩＮＧ   hours?! ")
        'opening hours'
    """
    while (folded := _once(text)) != text:
        text = folded
    return text


def match(groups: Sequence[KeywordGroup], position: Position, text: str) -> Match | None:
    """The nearest group that the text means; None where no menu between the position and the top has it."""
    wanted = normalised(text)
    path: Position = ()
    level = groups
    levels = [(path, level)]
    for word in position:
        found = _among(level, normalised(word))
        if found is None or not found.groups:
            break  # the tree is another one by now
        path, level = (*path, found.keywords[0]), found.groups
        levels.append((path, level))
    for above, level in reversed(levels):
        found = _among(level, wanted)
        if found is not None:
            return _match(found, above)
    return None


def match_anywhere(groups: Sequence[KeywordGroup], text: str) -> Match | None:
    """The group nearest to the top that the text means, for whom nobody knows where they stand."""
    wanted = normalised(text)
    below: list[tuple[Position, Sequence[KeywordGroup]]] = [((), groups)]
    for above, level in below:
        found = _among(level, wanted)
        if found is not None:
            return _match(found, above)
        below += [((*above, group.keywords[0]), group.groups) for group in level]
    return None


def walk(groups: Sequence[KeywordGroup], place: str = "groups") -> Iterator[tuple[str, KeywordGroup, int]]:
    """Every group with its place in the document and its depth, 1 at the top; those above come first."""
    below = [(f"{place}.{n}", group, 1) for n, group in enumerate(groups)]
    for where, group, depth in below:
        yield where, group, depth
        below += [(f"{where}.groups.{n}", inner, depth + 1) for n, inner in enumerate(group.groups)]


def _match(found: KeywordGroup, above: Position) -> Match:
    path = (*above, found.keywords[0])
    return Match(group=found, path=path, position=path if found.groups else above)


def _among(groups: Sequence[KeywordGroup], wanted: str) -> KeywordGroup | None:
    for group in groups:
        if any(normalised(keyword) == wanted for keyword in group.keywords):
            return group
    return None


def _once(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = " ".join(folded.split())
    first, last = 0, len(words)
    while first < last and _falls_away(words[first]):
        first += 1
    while first < last and _falls_away(words[last - 1]):
        last -= 1
    return words[first:last]


def _falls_away(character: str) -> bool:
    """Punctuation (P), separators (Z) and what cannot be seen (C)."""
    return unicodedata.category(character)[0] in "PZC"
