"""Finds adapters by entry point and builds those that the configuration names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from models.domain.errors import InvalidInputError
from serving.channels.contract import AdapterContext, ChannelAdapter, Links

GROUP = "nextchannel.channels"
DEFAULT_ADAPTERS: Mapping[str, str] = {"email": "email"}
FALLBACK_ADAPTER = "console"


class UnknownAdapterError(InvalidInputError):
    """The configuration names an adapter that no installed distribution offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfiguration:
    """Which adapter serves which channel, and with what settings.

    Attributes:
        adapters: Adapter name by channel; `email` goes by `email` unless said otherwise, any other
            channel that is not named by `console`.
        settings: Settings by adapter name.
    """

    adapters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def adapter_of(self, channel: str) -> str:
        """Name of the adapter that serves the channel."""
        return {**DEFAULT_ADAPTERS, **self.adapters}.get(channel, FALLBACK_ADAPTER)


def installed() -> dict[str, EntryPoint]:
    """Every adapter that some installed distribution offers, by name, not loaded."""
    return {point.name: point for point in sorted(entry_points(group=GROUP))}


def load(name: str) -> type[ChannelAdapter]:
    """The class of an adapter.

    Raises:
        UnknownAdapterError: none is installed under that name; the error lists those that are.
    """
    points = installed()
    if name not in points:
        raise UnknownAdapterError("adapter", name, f"must be one of {', '.join(points)}")
    adapter: type[ChannelAdapter] = points[name].load()
    return adapter


def build_adapters(
    channels: Iterable[str],
    configuration: AdapterConfiguration,
    links: Links,
    transports: Mapping[str, Any] | None = None,
) -> dict[str, ChannelAdapter]:
    """Build the adapters that the channels need; no other is loaded.

    Args:
        channels: Names of the channels to serve.
        configuration: Which adapter serves which channel.
        links: Makes tracked addresses.
        transports: A stand-in for the wire by adapter name.

    Returns:
        Adapter by channel; channels served by one adapter share one object.
    """
    built: dict[str, ChannelAdapter] = {}
    by_channel: dict[str, ChannelAdapter] = {}
    for channel in channels:
        name = configuration.adapter_of(channel)
        if name not in built:
            context = AdapterContext(settings=configuration.settings.get(name, {}), links=links)
            built[name] = load(name).build(context, (transports or {}).get(name))
        by_channel[channel] = built[name]
    return by_channel
