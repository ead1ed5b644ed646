"""`nextchannel models`: what is published, what serves, and back to what served before."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="List, promote and roll back models.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Every published version, newest first."""
    from nextchannel.commands.installation import open_registry
    from nextchannel.settings import Settings

    versions = open_registry(Settings()).versions()
    if not versions:
        typer.echo("no model has been published: run `nextchannel train --campaign ...`")
    for one in versions:
        typer.echo(
            f"{one.version:>4}  {one.created_at:%Y-%m-%d %H:%M}  {one.bundle_version}  {' '.join(one.aliases)}".rstrip()
        )


@app.command()
def promote(version: Annotated[int, typer.Argument(help="Number of the version.")]) -> None:
    """Make a version the champion, whatever its report says."""
    from nextchannel.commands.installation import open_registry
    from nextchannel.settings import Settings

    open_registry(Settings()).promote(version)
    typer.echo(f"version {version} is champion")


@app.command()
def rollback() -> None:
    """Make the champion before the present one champion again."""
    from nextchannel.commands.installation import open_registry
    from nextchannel.settings import Settings

    version = open_registry(Settings()).rollback()
    typer.echo(f"version {version} is champion again")


@app.command()
def report(version: Annotated[int, typer.Argument(help="Number of the version.")]) -> None:
    """The training report of a version."""
    from nextchannel.commands.installation import open_registry
    from nextchannel.settings import Settings

    typer.echo(open_registry(Settings()).report(version))


@app.command()
def prior(campaign: Annotated[str, typer.Option(help="For which campaign.")]) -> None:
    """Publish a first model from published rates; champion where none serves, so that decisions explore from day one."""
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_history, open_registry
    from nextchannel.settings import Settings
    from training.day_one import publish_prior

    settings = Settings()
    done = publish_prior(open_history(settings), open_registry(settings), campaign, datetime.now(UTC))
    typer.echo(done.report)
    typer.echo(f"published as version {done.version}, {'champion now' if done.promoted else 'challenger'}")
