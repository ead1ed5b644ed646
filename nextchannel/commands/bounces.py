"""`nextchannel bounces`: the reports that mail servers send back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Read bounces and complaints.", no_args_is_help=True)


@app.command()
def read(
    mailbox: Annotated[
        Path, typer.Argument(help="A Maildir, or an mbox file, that NEXTCHANNEL_RETURN_PATH goes to.")
    ],
) -> None:
    """Record what came back: new mails of a Maildir, which are marked as seen; all mails of an mbox file.

    A report that was read before changes nothing.
    """
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.bounces import read_bounces

    told = read_bounces(open_history(Settings()), mailbox, datetime.now(UTC))
    typer.echo(
        f"{told.n_mails} mails: {told.n_new} new reports, {told.n_repeated} known, {told.n_unmatched} of nothing known"
    )
