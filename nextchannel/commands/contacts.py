"""`nextchannel contacts`: the keys of contact points."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Keys that seal contact points at rest.", no_args_is_help=True)


@app.command()
def keys() -> None:
    """Print fresh keys for NEXTCHANNEL_CONTACT_KEYS, for installations that keep secrets elsewhere."""
    from features.identity.vault import make_keys

    typer.echo(make_keys())


@app.command("rotate-key")
def rotate_key(
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Forget the keys that no row uses any more.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Make no new key: go on with an interrupted rotation.")
    ] = False,
) -> None:
    """Seal every contact point under a new key; services that run follow by themselves.

    With NEXTCHANNEL_CONTACT_KEYS put the new key there as `current` first, then use --resume.
    """
    from features.identity.rotate import keys_in_use, reseal
    from features.identity.vault import vault_of
    from nextchannel.commands.installation import open_history
    from nextchannel.commands.progress import progress_bar
    from nextchannel.settings import Settings

    engine = open_history(Settings())
    with engine.connect() as conn:
        vault = vault_of(conn)
    if not resume:
        vault.add_key()
    with progress_bar("sealing") as progress:
        n = reseal(engine, progress)
    dropped: tuple[str, ...] = ()
    if drop_old:
        with engine.begin() as conn:
            dropped = vault.forget_keys(keys_in_use(conn))
    typer.echo(
        f"{n:,} contact points sealed under key {vault.current_key}; {len(dropped)} old keys forgotten"
    )
