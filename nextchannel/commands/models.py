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
