"""The features of one workspace: those that every workspace has, its channels' and its customers' attributes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from features.definitions import (
    FEATURES,
    PRIOR_CLICK_RATE,
    PRIOR_CONVERSION_RATE,
    PRIOR_OPEN_RATE,
    Feature,
    count,
    counts,
    rate,
    these,
)
from features.formulas import Flag, OfRegister, facts_of
from features.past import These
from models.domain.channel import Channel, Touch
from models.domain.errors import NotFoundError
from models.domain.interaction import InteractionKind as Kind

LIST_FILE = "feature_list.json"
# A text attribute gets one feature for each of its most frequent values.
MOST_VALUES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """What of a channel can be counted.

    Attributes:
        name: Of the channel.
        opens: Whether it reports them.
        clicks: Whether it reports them.
        touch: Human effort that it takes.
    """

    name: str
    opens: bool
    clicks: bool
    touch: str = Touch.TECH.value


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeSpec:
    """A customer attribute: a number where there are no values, else text with its vocabulary."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, str | None]:
        """The value that each feature column stands for; None for the number itself."""
        if not self.values:
            return {f"attr_{_slug(self.name)}": None}
        names: dict[str, str | None] = {}
        for value in self.values:
            name = f"attr_{_slug(self.name)}_is_{_slug(value)}"
            names[name if name not in names else f"{name}_{len(names)}"] = value
        return names


@dataclass(frozen=True, kw_only=True)
class FeatureList:
    """Every feature of a workspace, in the order of its columns."""

    channels: tuple[ChannelSpec, ...]
    attributes: tuple[AttributeSpec, ...]

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Base, then channels, then attributes."""
        found = [*FEATURES, *_touch_features(self.channels)]
        for channel in self.channels:
            found += _channel_features(channel)
        for attribute in self.attributes:
            found += _attribute_features(attribute)
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of the customer register that features are computed from."""
        return tuple(column for attribute in self.attributes for column in attribute.columns)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of interactions that features are computed from; others need not be read."""
        used = {kind for each in self.features for facts in facts_of(each.formula) for kind in facts.kinds}
        return tuple(sorted(used & set(Kind)))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any name, type or formula; stored rows of another fingerprint are not comparable."""
        said = "\n".join(f"{each.name} {each.dtype} {each.formula}" for each in self.features)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the list as JSON, with every feature described for people."""
        document = {
            "fingerprint": self.fingerprint,
            "channels": [asdict(channel) for channel in self.channels],
            "attributes": [asdict(attribute) for attribute in self.attributes],
            "features": [_described(feature) for feature in self.features],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".tmp")
        written.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.replace(path)

    @staticmethod
    def load(path: Path) -> FeatureList:
        """Read a list that `save` wrote.

        Raises:
            NotFoundError: there is none.
        """
        if not path.exists():
            raise NotFoundError("feature_list", str(path))
        document = json.loads(path.read_text(encoding="utf-8"))
        return FeatureList(
            channels=tuple(ChannelSpec(**channel) for channel in document["channels"]),
            attributes=tuple(
                AttributeSpec(name=each["name"], values=tuple(each["values"]))
                for each in document["attributes"]
            ),
        )


def describe_channels(channels: Iterable[Channel]) -> tuple[ChannelSpec, ...]:
    """What can be counted of each channel, in order of name."""
    return tuple(
        ChannelSpec(
            name=channel.name,
            opens=channel.reports(Kind.OPENED),
            clicks=channel.reports(Kind.CLICKED),
            touch=channel.touch.value,
        )
        for channel in sorted(channels, key=lambda each: each.name)
    )


def describe_attributes(people: Iterable[Mapping[str, float | str]]) -> tuple[AttributeSpec, ...]:
    """The attributes that customers have, in order of name; one that is ever text is text."""
    values: dict[str, dict[str, int]] = {}
    texts: set[str] = set()
    for person in people:
        for name, value in person.items():
            counts = values.setdefault(name, {})
            if isinstance(value, str):
                texts.add(name)
                counts[value] = counts.get(value, 0) + 1
    return tuple(
        AttributeSpec(
            name=name,
            values=tuple(sorted(counts, key=lambda value: (-counts[value], value))[:MOST_VALUES]),
        )
        for name, counts in sorted(values.items())
    )


def _touch_features(channels: Iterable[ChannelSpec]) -> list[Feature]:
    """Contacts that took human effort: a call weighs more than a push."""
    return [
        count(
            f"{touch}_touch_contacts_90d",
            These((Kind.SENT.value,), channels=tuple(each.name for each in channels if each.touch == touch)),
            90,
            f"Contacts that took {effort}.",
        )
        for touch, effort in ((Touch.LOW, "some human effort"), (Touch.HIGH, "a person's time"))
    ]


_WINDOWS = (7, 30, 90)


def _channel_features(channel: ChannelSpec) -> list[Feature]:
    name = channel.name
    suffix = f"_{name}"
    sent, converted = these(Kind.SENT, channel=name), these(Kind.CONVERTED, channel=name)
    opened, clicked = these(Kind.OPENED, channel=name), these(Kind.CLICKED, channel=name)
    found = counts("sends", sent, _WINDOWS, f"Load on {name}.", suffix)
    if channel.opens:
        found += counts("opens", opened, _WINDOWS, f"Reads {name}.", suffix)
        why = f"Reads what comes by {name}."
        found.append(rate(f"open_rate_90d_{name}", opened, 90, PRIOR_OPEN_RATE, why, channel=name))
    if channel.clicks:
        found += counts("clicks", clicked, _WINDOWS, f"Acts on {name}.", suffix)
        why = f"Acts on what comes by {name}."
        found.append(rate(f"click_rate_90d_{name}", clicked, 90, PRIOR_CLICK_RATE, why, channel=name))
    found += counts("conversions", converted, _WINDOWS, f"Converts by {name}.", suffix)
    why = f"Converts on what comes by {name}."
    found.append(rate(f"conversion_rate_90d_{name}", converted, 90, PRIOR_CONVERSION_RATE, why, channel=name))
    return found


def _attribute_features(attribute: AttributeSpec) -> list[Feature]:
    return [
        Feature(
            name=column,
            dtype="float64" if value is None else "int64",
            unit="as imported" if value is None else "0 or 1",
            window_days=None,
            default=None if value is None else 0,
            why=f"Attribute {attribute.name!r} of the customer register"
            + ("." if value is None else f" is {value!r}."),
            formula=OfRegister(column) if value is None else Flag(column),
        )
        for column, value in attribute.columns.items()
    ]


def _described(feature: Feature) -> dict[str, object]:
    return {
        "name": feature.name,
        "dtype": feature.dtype,
        "unit": feature.unit,
        "window_days": feature.window_days,
        "default": feature.default,
        "why": feature.why,
        "formula": str(feature.formula),
    }


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "empty"
