"""`nextchannel keys`: who may call the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from models.domain.errors import InvalidInputError

if TYPE_CHECKING:
    from serving.security.keys import NewKey, Scope

app = typer.Typer(help="Make, list, rotate and revoke the keys of the API.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Who will call with it.")],
    scope: Annotated[
        list[str], typer.Option(help="decide, ingest, send, read or admin; several times for several.")
    ],
    expires_in_days: Annotated[float | None, typer.Option(help="Default: it does not expire.")] = None,
) -> None:
    """Make a key. Its text is printed once and cannot be had again."""
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.security.keys import create_key

    now = datetime.now(UTC)
    expires_at = None if expires_in_days is None else now + _days("expires-in-days", expires_in_days)
    with open_history(Settings()).begin() as conn:
        made = create_key(conn, name, [_scope(one) for one in scope], now, expires_at)
    _show(made)


@app.command("list")
def list_() -> None:
    """List every key that was ever made; their texts are not kept."""
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.security.keys import list_keys

    now = datetime.now(UTC)
    with open_history(Settings()).connect() as conn:
        keys = list_keys(conn)
    for key in keys:
        state = "revoked" if key.revoked_at else "live" if key.live(now) else "expired"
        typer.echo(
            f"{key.name:20} {key.key_id:10} {state:8} {','.join(sorted(key.scopes)):28} "
            f"made {_moment(key.created_at)}  expires {_moment(key.expires_at)}  used {_moment(key.last_used_at)}"
        )


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    overlap_hours: Annotated[float, typer.Option(help="How long the present key still works.")] = 24.0,
) -> None:
    """Make the next key of a name with the same scopes; both work until the overlap has passed."""
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.security.keys import rotate_key

    overlap = _days("overlap-hours", overlap_hours / 24)
    with open_history(Settings()).begin() as conn:
        made = rotate_key(conn, name, datetime.now(UTC), overlap)
    _show(made)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The id of a key, or a name: then all of its keys.")],
) -> None:
    """End a key; every replica refuses it within two seconds."""
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.security.keys import revoke_key

    with open_history(Settings()).begin() as conn:
        ended = revoke_key(conn, key, datetime.now(UTC))
    typer.echo(f"revoked: {', '.join(ended)}")


def _show(made: NewKey) -> None:
    typer.echo(made.text)
    typer.echo(
        f"{made.key.name}: {', '.join(sorted(made.key.scopes))}; keep the text, it is not shown again",
        err=True,
    )


def _scope(text: str) -> Scope:
    from serving.security.keys import Scope

    try:
        return Scope(text)
    except ValueError:
        raise InvalidInputError("scope", text, f"must be one of {', '.join(Scope)}") from None


def _days(option: str, days: float) -> timedelta:
    if not 0 <= days <= 36_500:
        raise InvalidInputError(option, days, "must be from 0 to a hundred years")
    return timedelta(days=days)


def _moment(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
