"""`nextchannel import`: files into the history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Bring customers, interactions or logged decisions into the history.", no_args_is_help=True
)

_File = Annotated[Path, typer.Argument(help="A .csv or .parquet file; columns: docs/reference/import.md.")]
_INTERRUPTED = 130  # as shells have it for SIGINT
_Strict = Annotated[bool, typer.Option("--strict", help="Exit with code 1 if any row is bad.")]


@app.command()
def customers(file: _File, strict: _Strict = False) -> None:
    """People, with their contact points, permissions and attributes."""
    _import("customers", file, strict)


@app.command()
def interactions(
    file: _File,
    strict: _Strict = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check what came in; exit with code 1 if a check fails.")
    ] = False,
) -> None:
    """Facts: opened, clicked, converted, visited and so on."""
    _import("interactions", file, strict, check)


@app.command()
def decisions(file: _File, strict: _Strict = False) -> None:
    """Logged decisions with their propensities; the campaigns must be in the history already."""
    _import("decisions", file, strict)


def _import(kind: str, file: Path, strict: bool, check: bool = False) -> None:
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_history
    from nextchannel.commands.progress import progress_bar
    from nextchannel.settings import Settings
    from training.imports import ImportKind, import_file

    engine, now = open_history(Settings()), datetime.now(UTC)
    try:
        with progress_bar(f"importing {kind}") as progress:
            done = import_file(engine, ImportKind(kind), file, now, progress)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: what is committed stays; import {file} again to finish it", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    typer.echo(f"{kind}: {done.n_new:,} new, {done.n_repeated:,} already there, {done.n_rejected:,} rejected")
    if done.n_erased:
        typer.echo(
            f"{done.n_erased:,} rows passed over: these people were erased and do not come back", err=True
        )
    if check:
        from nextchannel.commands.check import check_import

        check_import(engine, now)
    if done.rejected:
        typer.echo(f"rejected rows with their reasons: {done.rejected}", err=True)
        if strict:
            raise typer.Exit(1)
