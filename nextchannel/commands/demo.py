"""`nextchannel demo`: the main job, end to end, in one command."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class DemoData(StrEnum):
    """What the demonstration runs on."""

    SIMULATED = "simulated"
    HILLSTROM = "hillstrom"


def demo(
    data: Annotated[DemoData, typer.Option(help="A simulated market, or a real e-mail experiment.")] = (
        DemoData.SIMULATED
    ),
    customers: Annotated[int, typer.Option(min=1_000, help="Size of the simulated market.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Same seed, same demonstration.")] = 1,
    exit_: Annotated[
        bool, typer.Option("--exit", help="End instead of leaving the service running.")
    ] = False,
) -> None:
    """From raw history to a decision, sent messages and a report. Needs no server and no network."""
    from nextchannel.demo import hillstrom, simulated
    from nextchannel.settings import Settings

    settings = Settings()
    if data is DemoData.HILLSTROM:
        hillstrom.run(settings, seed, leave_running=not exit_)
    else:
        simulated.run(settings, customers, seed, leave_running=not exit_)
