"""`nextchannel serve`: run the service."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: the setting.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default: the setting.")] = None,
) -> None:
    """Answer decisions over HTTP, show the report, and send (unless NEXTCHANNEL_SEND=false)."""
    from nextchannel.service import serve as run
    from nextchannel.settings import Settings

    settings = Settings()
    settings = settings.model_copy(
        update={name: value for name, value in (("host", host), ("port", port)) if value is not None}
    )
    typer.echo(f"nextchannel listens on http://{settings.host}:{settings.port}", err=True)
    run(settings)
