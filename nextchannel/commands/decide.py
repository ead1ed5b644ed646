"""`nextchannel decide`: an audience in, one choice a customer out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decide(
    campaign: Annotated[str, typer.Option(help="The campaign that asks.")],
    audience: Annotated[Path, typer.Option(help="A .csv or .parquet file with a column customer_id.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write; columns: docs/reference/import.md.")],
) -> None:
    """Choose for every customer of a file. Nothing is recorded and nothing is sent."""
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_features, open_history, open_registry
    from nextchannel.commands.progress import progress_bar
    from nextchannel.settings import Settings
    from training.choices import Chooser, ComputedFeatures, write_choices

    settings = Settings()
    engine = open_history(settings)
    registry = open_registry(settings)
    bundle = None if registry.champion_version() is None else registry.load()
    if bundle is None:
        typer.echo("no model serves yet: business as usual decides", err=True)
    workspace = open_features(settings, engine)
    if bundle is not None and not workspace.defined:
        workspace.define()
    chooser = Chooser.open(engine, ComputedFeatures(workspace), campaign, bundle)
    with progress_bar("deciding") as progress:
        done = write_choices(chooser, audience, out, datetime.now(UTC), progress)
    typer.echo(
        f"{out}: {done.n_contacts:,} contacts, {done.n_no_contact:,} better left alone, {done.n_unknown:,} unknown"
    )
