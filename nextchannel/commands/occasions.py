"""`nextchannel occasions`: rules by which the running service decides without being asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

app = typer.Typer(
    help="Decide on dates of customers, or after facts: list, load and preview. The running service works on them.",
    no_args_is_help=True,
)


@app.command("list")
def list_() -> None:
    """Every occasion, in order of name."""
    from features.history.engine import read_only
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.occasions.store import list_occasions

    with read_only(open_history(Settings())).connect() as conn:
        for stored in list_occasions(conn):
            looked = "never" if stored.passed_at is None else f"{stored.passed_at:%Y-%m-%d %H:%M}"
            typer.echo(
                f"{stored.name:<24} version {stored.version}  {stored.occasion.campaign_id}  last look: {looked}"
            )


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="Occasions by name as JSON: docs/how-to/occasions.md.")],
) -> None:
    """Store the occasions of a file, all of them or none; a changed one becomes a new version."""
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.occasions.document import read_occasions
    from serving.occasions.store import save_occasion

    wanted = read_occasions(file)
    now = _now()
    with open_history(Settings()).begin() as conn:
        stored = [save_occasion(conn, name, occasion, now) for name, occasion in sorted(wanted.items())]
    for each in stored:
        typer.echo(f"occasion {each.name}: version {each.version}")


@app.command()
def preview(
    name: Annotated[str, typer.Argument(help="Name of the occasion.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="How far to look.")] = 14,
) -> None:
    """How many will be due on each of the coming days; nobody is decided for."""
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.occasions.preview import preview as look_ahead

    made = look_ahead(open_history(Settings()), name, _now(), days)
    typer.echo(f"{name}: {made.standing.replace('_', ' ')}; {made.n_at_once:,} are due at once")
    for day, n in sorted(made.by_day.items()):
        typer.echo(f"{day}  {n:>9,}")
    if made.n_no_date:
        typer.echo(
            f"{made.n_dates:,} customers have a date, {made.n_no_date:,} something else, for example {made.example!r}"
        )


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)
