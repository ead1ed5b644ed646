"""`nextchannel channels`: what a message costs, and where that figure comes from."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List the channels and say what they cost.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Every channel with its cost in minor units and where the figure comes from."""
    from features.history.query import load_channels
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    with open_history(Settings()).connect() as conn:
        for channel in load_channels(conn).values():
            cost = "unknown" if channel.cost_minor is None else f"{channel.cost_minor:g}"
            typer.echo(f"{channel.name:<12} {cost:>8}  {channel.cost_source}")


@app.command()
def cost(
    name: Annotated[str, typer.Argument(help="The channel.")],
    minor: Annotated[float, typer.Argument(help="Cost of one message, minor units.")],
    source: Annotated[str, typer.Option(help="Where the figure comes from, with its date.")],
    capacity_per_day: Annotated[
        int | None, typer.Option(help="Most messages a day; default: unchanged.")
    ] = None,
) -> None:
    """Say what a message on a channel costs; a channel without a cost is never chosen."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from features.history.query import load_channels, save_channel
    from models.domain.errors import NotFoundError
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    with open_history(Settings()).begin() as conn:
        known = load_channels(conn)
        if name not in known:
            raise NotFoundError("channel", name)
        channel = replace(known[name], cost_minor=minor, cost_source=source)
        if capacity_per_day is not None:
            channel = replace(channel, capacity_per_day=capacity_per_day)
        save_channel(conn, channel, datetime.now(UTC))
    typer.echo(f"{name}: {minor:g} a message ({source})")
