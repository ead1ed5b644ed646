"""`nextchannel simulate`: a history to try things out on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Preset(StrEnum):
    """Simulated markets."""

    RETAIL = "retail"
    BANK = "bank"
    TRAVEL = "travel"


def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write the files.")],
    preset: Annotated[Preset, typer.Option(help="Which market.")] = Preset.RETAIL,
    customers: Annotated[int, typer.Option(min=100, help="Size of the market.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Same seed, same market.")] = 1,
) -> None:
    """Write a simulated history as files for `nextchannel import`: campaign, customers, decisions, interactions."""
    from datetime import UTC, datetime

    import numpy as np

    from training.simulator.export import export_history
    from training.simulator.market import Market

    now = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0)
    market = Market(preset.value, customers, seed)
    export_history(market, folder, now, np.random.default_rng([seed, 1]))
    typer.echo(f"{folder}: {customers:,} simulated customers of a {preset} market and their history")
