"""`nextchannel identity`: which accounts belong to one person."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Link contact points, merge and split customers.", no_args_is_help=True)

_By = Annotated[str, typer.Option("--by", help="Who does it; default: your user name.")]
_Why = Annotated[str, typer.Option("--why", help="For the journal.")]


@app.command()
def link(
    points: Annotated[list[str], typer.Argument(help="KIND=VALUE, for example email=ada@example.com.")],
    customer: Annotated[str | None, typer.Option(help="Whose, where known.")] = None,
    time_zone: Annotated[str, typer.Option(help="Of a customer who is new; IANA name.")] = "UTC",
    by: _By = "",
) -> None:
    """Say that these contact points belong to one person."""
    from datetime import UTC, datetime

    from features.identity.link import Link
    from features.identity.link import link as run
    from models.domain.channel import IdentityKind
    from models.domain.errors import InvalidInputError
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    given = []
    for point in points:
        kind, _, value = point.partition("=")
        if kind not in list(IdentityKind):
            raise InvalidInputError("KIND", kind, f"must be one of {', '.join(IdentityKind)}")
        given.append((IdentityKind(kind), value))
    asked = Link(
        contact_points=given,
        customer_id=customer,
        linked_at=datetime.now(UTC),
        source="command line",
        time_zone=time_zone,
    )
    with open_history(Settings()).begin() as conn:
        done = run(conn, asked, by or _user())
    typer.echo(
        f"{done.customer_id}: {done.n_linked} new contact points, {len(done.merged)} customers merged into it"
    )
    if done.conflicts:
        typer.echo(f"open conflicts: {', '.join(map(str, done.conflicts))}", err=True)


@app.command()
def merge(
    first: Annotated[str, typer.Argument(help="A customer.")],
    second: Annotated[str, typer.Argument(help="The same person.")],
    why: _Why,
    by: _By = "",
) -> None:
    """Make two customers one person; `split` takes it back."""
    from datetime import UTC, datetime

    from features.identity.link import merge as run
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    with open_history(Settings()).begin() as conn:
        person = run(conn, first, second, datetime.now(UTC), by or _user(), why)
    typer.echo(f"{first} and {second} are {person} now")


@app.command()
def split(
    customer: Annotated[str, typer.Argument(help="A customer who was merged into another.")],
    why: _Why,
    by: _By = "",
) -> None:
    """Take a customer out of the person that they were merged into, with everything that is theirs."""
    from datetime import UTC, datetime

    from features.identity.link import split as run
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    with open_history(Settings()).begin() as conn:
        left = run(conn, customer, datetime.now(UTC), by or _user(), why)
    typer.echo(f"{customer} is a customer of their own again, apart from {left}")


@app.command()
def conflicts(
    dismiss: Annotated[int | None, typer.Option(help="Settle this one: they are different people.")] = None,
    why: _Why = "",
    by: _By = "",
) -> None:
    """List the conflicts that a person has to settle, or dismiss one."""
    from datetime import UTC, datetime

    from features.identity.link import dismiss as settle
    from features.identity.link import list_conflicts
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    engine = open_history(Settings())
    if dismiss is not None:
        with engine.begin() as conn:
            settle(conn, dismiss, datetime.now(UTC), by or _user(), why)
        typer.echo(f"{dismiss}: dismissed")
        return
    after = n = 0
    with engine.connect() as conn:
        while page := list_conflicts(conn, after):
            for one in page:
                typer.echo(
                    f"{one.conflict_id:>6}  {one.found_at:%Y-%m-%d %H:%M}  {one.kind} {one.contact_point}  "
                    f"{one.customer_id} claims it, {one.holder_id} has it: {one.reason}"
                )
            after, n = page[-1].conflict_id, n + len(page)
    if not n:
        typer.echo("no open conflicts")


def _user() -> str:
    from getpass import getuser

    return getuser()
