"""What features are called for people: a stem with its words, its window and its channel."""

from __future__ import annotations

import re

from serving.explain.catalogue import Catalogue
from serving.explain.phrases import tidy

_WINDOWED = re.compile(r"(?P<stem>.+)_(?P<days>\d+)d(?:_(?P<channel>.+))?")


def feature_words(name: str, words: Catalogue) -> str:
    """The words of a feature; its own name where it is one of the installation's own.

    Args:
        name: For example `open_rate_90d_email`.
        words: The language.
    """
    if name in words.features:
        return words.features[name]
    match = _WINDOWED.fullmatch(name)
    if match is None or match["stem"] not in words.features:
        return name
    said = words.feature_window.format(name=words.features[match["stem"]], days=match["days"])
    if match["channel"]:
        said = words.feature_channel.format(name=said, channel=words.channel(match["channel"]))
    return tidy(said)
