"""`nextchannel customer`: what is known about one person; export and erase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Export or erase a customer.", no_args_is_help=True)

_Customer = Annotated[str, typer.Argument(help="Any of the person's ids.")]


@app.command()
def export(
    customer: _Customer,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write everything that is held about a person as JSON, contact points in the clear."""
    import os
    from datetime import UTC, datetime

    import orjson

    from features.online import FeatureReader
    from nextchannel.commands.installation import open_features, open_history
    from nextchannel.settings import Settings
    from serving.customers import Customers

    settings = Settings()
    engine = open_history(settings)
    workspace = open_features(settings, engine)
    document = Customers(engine, FeatureReader(workspace), workspace).export(customer, datetime.now(UTC))
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    if out is None:
        typer.echo(text)
        return
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    typer.echo(f"{out}: everything about {customer}")


@app.command()
def erase(
    customer: _Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a person from every table, store and file; totals of reports stay as they were."""
    from nextchannel.commands.installation import open_eraser, open_history
    from nextchannel.settings import Settings

    if not yes:
        typer.confirm(f"Erase {customer}? This cannot be undone.", abort=True)
    settings = Settings()
    done = open_eraser(settings, open_history(settings)).erase(customer)
    n = sum(done.rows.values())
    state = "nothing is left of them" if done.finished_at else "files are in use; the service goes on with it"
    typer.echo(f"{n:,} rows made nameless or removed under {done.tombstone_id}; {state}")


@app.command()
def readmit(
    point: Annotated[
        str, typer.Argument(help="KIND=VALUE, or customer_id=ID, as it was before the erasure.")
    ],
) -> None:
    """Let an erased person be known again, because they ask for it: lifts one suppression."""
    from features.history.erase import readmit as run
    from features.identity.vault import vault_of
    from models.domain.channel import IdentityKind
    from models.domain.errors import InvalidInputError
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    kind, _, value = point.partition("=")
    if kind != "customer_id" and kind not in list(IdentityKind):
        raise InvalidInputError("KIND", kind, f"must be customer_id or one of {', '.join(IdentityKind)}")
    with open_history(Settings()).begin() as conn:
        vault = vault_of(conn)
        lookup = (
            vault.lookup_customer(value) if kind == "customer_id" else vault.lookup(IdentityKind(kind), value)
        )
        n = run(conn, [lookup])
    typer.echo("readmitted" if n else "was not suppressed")
