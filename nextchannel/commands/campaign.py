"""`nextchannel campaign`: campaigns into the history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Put campaigns into the history.", no_args_is_help=True)


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="One campaign as JSON; fields: docs/reference/import.md.")],
) -> None:
    """Store a campaign; a changed one becomes a new version."""
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.templates import check_templates
    from training.import_campaigns import put_campaign

    stored = put_campaign(open_history(Settings()), file, datetime.now(UTC), check_templates)
    typer.echo(f"campaign {stored.campaign_id}: version {stored.version}")
