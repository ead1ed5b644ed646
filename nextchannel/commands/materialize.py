"""`nextchannel materialize`: everybody's features into the online store."""

from __future__ import annotations

import typer


def materialize() -> None:
    """Compute everybody's features as of now; run it nightly, and after an import.

    Features of customers who do something are kept current by the service; this brings along those for whom only
    time has passed.
    """
    from datetime import UTC, datetime

    from features.offline import materialize as everybody
    from nextchannel.commands.installation import open_features, open_history
    from nextchannel.commands.progress import progress_bar
    from nextchannel.settings import Settings

    settings = Settings()
    workspace = open_features(settings, open_history(settings))
    if not workspace.defined:
        workspace.define()
    with progress_bar("features") as progress:
        n_customers = everybody(workspace, datetime.now(UTC), progress)
    typer.echo(f"{n_customers:,} customers")
