"""`nextchannel campaign`: campaigns into the history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nextchannel.commands.moments import RehearsedAt, present

app = typer.Typer(help="Put campaigns into the history.", no_args_is_help=True)


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="One campaign as JSON; fields: docs/reference/import.md.")],
    as_of: RehearsedAt = "",
) -> None:
    """Store a campaign; a changed one becomes a new version.

    What `PUT /v1/campaigns/{id}` would refuse is refused; what works but may surprise is told on standard error.
    """
    from features.history.channels import load_channels
    from models.domain.campaign import Campaign
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.money import Currency
    from serving.storable import check_storable
    from training.import_campaigns import put_campaign

    settings = Settings()
    engine = open_history(settings)
    now = present(as_of, engine)
    currency = Currency(settings.currency, settings.currency_digits)

    def check(campaign: Campaign) -> None:
        with engine.connect() as conn:
            channels = load_channels(conn)
        for each in check_storable(campaign, channels, now, currency):
            typer.echo(f"warning: {each.field} == {each.value!r}, {each.bound}", err=True)

    stored = put_campaign(engine, file, now, check)
    typer.echo(f"campaign {stored.campaign_id}: version {stored.version}")
