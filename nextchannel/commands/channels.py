"""`nextchannel channels`: what a message costs, which adapter carries it, and whether that works."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List the channels, say what they cost, try their adapters.", no_args_is_help=True)


Channel = Annotated[str, typer.Argument(help="The channel.")]


@app.command("list")
def list_() -> None:
    """Every channel with its adapter, its cost in minor units and where that figure comes from."""
    from features.history.channels import load_channels
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.channels.registry import AdapterConfiguration

    settings = Settings()
    configuration = AdapterConfiguration(adapters=settings.adapters)
    with open_history(settings).connect() as conn:
        for channel in load_channels(conn).values():
            cost = "unknown" if channel.cost_minor is None else f"{channel.cost_minor:g}"
            adapter = configuration.adapter_of(channel.name)
            typer.echo(
                f"{channel.name:<12} {adapter:<12} {cost:>8} a {channel.cost_unit:<8} {channel.cost_source}"
            )


@app.command()
def capabilities() -> None:
    """What every installed adapter can do, as a table in Markdown."""
    from serving.channels.reference import capability_table
    from serving.channels.registry import installed, load

    typer.echo(capability_table({name: load(name) for name in installed()}))


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="The channel; default: all.")] = None,
    connect: Annotated[bool, typer.Option(help="Also ask the provider whether the account works.")] = False,
) -> None:
    """Say of each channel whether its adapter is installed and its settings are right; exit code 1 where not."""
    import asyncio

    from features.history.channels import load_channels
    from models.domain.errors import NextchannelError
    from nextchannel.commands.installation import open_history
    from nextchannel.service import service_config
    from nextchannel.settings import Settings
    from serving.bootstrap import open_adapters
    from serving.channels.contract import ChannelAdapter, ChecksAccount
    from serving.channels.registry import FALLBACK_ADAPTER

    async def account_of(adapter: ChannelAdapter) -> str:
        try:
            if connect and isinstance(adapter, ChecksAccount):
                return await adapter.check_account()
            nobody = adapter.name == FALLBACK_ADAPTER
            return "writes to the log, reaches nobody" if nobody else "settings are right"
        finally:
            await adapter.aclose()

    settings = Settings()
    engine = open_history(settings)
    with engine.connect() as conn:
        names = [name] if name else list(load_channels(conn))
    wrong = 0
    for each in names:
        try:
            (adapter,) = open_adapters(service_config(settings), engine, each).values()
            said = f"{adapter.name}: {asyncio.run(account_of(adapter))}"
        except NextchannelError as exc:
            wrong += 1
            said = f"FAILED: {exc}"
        typer.echo(f"{each:<12} {said}")
    raise typer.Exit(1 if wrong else 0)


@app.command("test-send")
def send_one(
    name: Channel,
    recipient: Annotated[str, typer.Argument(help="Contact point, for example +15550100.")],
    text: Annotated[str, typer.Option(help="What to say.")] = "This is a test.",
    subject: Annotated[str, typer.Option(help="Subject or title.")] = "Test",
    kind: Annotated[str, typer.Option(help="Content kind, for example text or image.")] = "text",
    media_url: Annotated[str | None, typer.Option(help="Address of a picture or film.")] = None,
    link_url: Annotated[str | None, typer.Option(help="Where it leads.")] = None,
) -> None:
    """Send one real message through a channel's adapter, past the outbox, and print the receipt."""
    import asyncio
    from datetime import UTC, datetime, timedelta
    from uuid import uuid4

    from features.history.channels import load_channels
    from models.domain.campaign import Content
    from models.domain.channel import ContentKind
    from models.domain.errors import require
    from models.domain.message import Message, Receipt
    from nextchannel.commands.installation import open_history
    from nextchannel.service import service_config
    from nextchannel.settings import Settings
    from serving.bootstrap import open_adapters
    from serving.channels.contract import ChannelAdapter

    require(kind in list(ContentKind), "kind", kind, f"must be one of {', '.join(ContentKind)}")
    settings = Settings()
    engine = open_history(settings)
    (adapter,) = open_adapters(service_config(settings), engine, name).values()
    with engine.connect() as conn:
        channel = load_channels(conn)[name]
    now = datetime.now(UTC)
    message = Message(
        message_id=str(uuid4()),
        decision_id="test-send",
        customer_id="test-send",
        campaign_id="test-send",
        offer_id="test-send",
        channel=name,
        identity_kind=channel.identity_kind,
        recipient=recipient,
        content_kind=ContentKind(kind),
        content=Content(body=text, subject=subject, media_url=media_url, link_url=link_url),
        send_at=now,
        expires_at=now + timedelta(hours=1),
    )

    async def send(by: ChannelAdapter) -> Receipt:
        try:
            return await by.send(message)
        finally:
            await by.aclose()

    receipt = asyncio.run(send(adapter))
    units = f", {receipt.n_units} units" if receipt.n_units > 1 else ""
    typer.echo(
        f"{receipt.status} by {receipt.provider}: {receipt.provider_message_id} {receipt.detail}{units}"
    )


@app.command()
def cost(
    name: Channel,
    minor: Annotated[float, typer.Argument(help="Cost of one message or segment, minor units.")],
    source: Annotated[str, typer.Option(help="Where the figure comes from, with its date.")],
    capacity_per_day: Annotated[
        int | None, typer.Option(help="Most messages a day; default: unchanged.")
    ] = None,
    per: Annotated[
        str | None, typer.Option(help="message, or segment of an SMS; default: unchanged.")
    ] = None,
) -> None:
    """Say what a message on a channel costs; a channel without a cost is never chosen."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from features.history.channels import load_channels, save_channel
    from models.domain.channel import CostUnit
    from models.domain.errors import NotFoundError, require
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    require(per is None or per in list(CostUnit), "--per", per, f"must be one of {', '.join(CostUnit)}")
    with open_history(Settings()).begin() as conn:
        known = load_channels(conn)
        if name not in known:
            raise NotFoundError("channel", name)
        channel = replace(known[name], cost_minor=minor, cost_source=source)
        if capacity_per_day is not None:
            channel = replace(channel, capacity_per_day=capacity_per_day)
        if per is not None:
            channel = replace(channel, cost_unit=CostUnit(per))
        save_channel(conn, channel, datetime.now(UTC))
    typer.echo(f"{name}: {minor:g} a {channel.cost_unit} ({source})")
