"""Finds adapters by entry point and builds those that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from models.domain.errors import InvalidInputError
from serving.channels.contract import AdapterContext, AgentTasks, ChannelAdapter, DeliveryEvent, Links

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
        public_url: Where providers reach this service; empty where nobody listens.
    """

    adapters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    public_url: str = ""

    def adapter_of(self, channel: str) -> str:
        """Name of the adapter that serves the channel."""
        return {**DEFAULT_ADAPTERS, **self.adapters}.get(channel, FALLBACK_ADAPTER)

    def webhook_url(self, channel: str) -> str:
        """Where the provider of a channel posts its events."""
        return f"{self.public_url.rstrip('/')}/v1/receipts/{channel}" if self.public_url else ""


def installed() -> dict[str, EntryPoint]:
    """Every adapter that some installed distribution offers, by name, not loaded."""
    return {point.name: point for point in sorted(entry_points(group=GROUP))}


def load(name: str) -> type[ChannelAdapter]:
    """The class of an adapter.

    Raises:
        UnknownAdapterError: none is installed under that name; the error lists those that are.
        InvalidInputError: a library that it needs is not installed.
    """
    points = installed()
    if name not in points:
        raise UnknownAdapterError("adapter", name, f"must be one of {', '.join(points)}")
    try:
        adapter: type[ChannelAdapter] = points[name].load()
    except ModuleNotFoundError as exc:
        raise InvalidInputError(
            "adapter", name, f"needs the library {exc.name}: install 'nextchannel[channels]'"
        ) from exc
    return adapter


def build_adapters(
    channels: Iterable[str],
    configuration: AdapterConfiguration,
    links: Links,
    transports: Mapping[str, Any] | None = None,
    tasks: AgentTasks | None = None,
    report: Callable[[str, Sequence[DeliveryEvent]], None] | None = None,
) -> dict[str, ChannelAdapter]:
    """Build the adapters that the channels need; no other is loaded.

    Args:
        channels: Names of the channels to serve.
        configuration: Which adapter serves which channel.
        links: Makes tracked addresses.
        transports: A stand-in for the wire by adapter name.
        tasks: The queue of people's tasks.
        report: Records, for a channel, events that arrive over an adapter's own connection.

    Returns:
        Adapter by channel; channels served by one adapter share one object, whose webhook is that of the first.
    """
    built: dict[str, ChannelAdapter] = {}
    by_channel: dict[str, ChannelAdapter] = {}
    for channel in channels:
        name = configuration.adapter_of(channel)
        if name not in built:
            context = AdapterContext(
                links=links,
                settings=configuration.settings.get(name, {}),
                webhook_url=configuration.webhook_url(channel),
                tasks=tasks,
                report=partial(report, channel) if report else None,
            )
            built[name] = load(name).build(context, (transports or {}).get(name))
        by_channel[channel] = built[name]
    return by_channel
