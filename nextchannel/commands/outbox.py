"""`nextchannel outbox`: messages on their way, dead letters, and a sender by itself."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="See, send, retry and drop messages.", no_args_is_help=True)

_MESSAGES = "Message ids, as `list` shows them."


@app.command("list")
def list_(
    status: Annotated[
        str, typer.Option(help="pending, claimed, sent, failed, suppressed or unknown; several by commas.")
    ] = "failed,unknown",
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
) -> None:
    """Messages in some states, with the reason; by default dead letters and those of unknown outcome."""
    from models.domain.errors import InvalidInputError
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.store.endings import OutboxStatus
    from serving.store.outbox_by_hand import counts, list_messages

    asked = status.split(",")
    for name in asked:
        if name not in list(OutboxStatus):
            raise InvalidInputError("--status", name, f"must be one of {', '.join(OutboxStatus)}")
    with open_history(Settings()).connect() as conn:
        rows = list_messages(conn, [OutboxStatus(name) for name in asked], limit, channel)
        numbers = counts(conn)
    for row in rows:
        typer.echo(
            f"{row.message_id}  {row.status:<10}  {row.channel:<12}  {row.customer_id}  "
            f"{row.send_at.isoformat(timespec='seconds')}  {row.attempts} attempts  {row.detail or ''}"
        )
    typer.echo("  ".join(f"{name} {n}" for name, n in numbers.items()), err=True)


@app.command()
def retry(
    messages: Annotated[list[str] | None, typer.Argument(help=_MESSAGES)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter; unknown ones only by id.")] = False,
) -> None:
    """Send dead letters, or messages of unknown outcome, after all."""
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.store.endings import OutboxStatus
    from serving.store.outbox_by_hand import list_messages, retry

    named = _named(messages, every)
    with open_history(Settings()).begin() as conn:
        if every:
            named = [row.message_id for row in list_messages(conn, [OutboxStatus.FAILED], _EVERY)]
        moved = retry(conn, named, datetime.now(UTC))
    _tell(named, moved, "will be sent", "is no dead letter and not unknown")


@app.command()
def drop(
    messages: Annotated[list[str] | None, typer.Argument(help=_MESSAGES)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter; others only by id.")] = False,
) -> None:
    """Never send these: pending messages, dead letters, messages of unknown outcome."""
    from datetime import UTC, datetime

    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.store.endings import OutboxStatus
    from serving.store.outbox_by_hand import drop, list_messages

    named = _named(messages, every)
    with open_history(Settings()).begin() as conn:
        if every:
            named = [row.message_id for row in list_messages(conn, [OutboxStatus.FAILED], _EVERY)]
        moved = drop(conn, named, datetime.now(UTC))
    _tell(named, moved, "dropped", "is sent, under way or dropped already")


@app.command()
def send() -> None:
    """Send what is due until told to stop; any number of senders may work on one database."""
    from nextchannel.service import run_sender
    from nextchannel.settings import Settings

    run_sender(Settings())


_EVERY = 100_000


def _named(messages: list[str] | None, every: bool) -> list[str]:
    from models.domain.errors import InvalidInputError

    if bool(messages) == every:
        raise InvalidInputError("messages", messages, "must be given, or else --all, and not both")
    return messages or []


def _tell(named: list[str], moved: list[str], done: str, left: str) -> None:
    from models.domain.errors import ConflictError

    for message in moved:
        typer.echo(f"{message}: {done}")
    others = [message for message in named if message not in set(moved)]
    if others:
        raise ConflictError("; ".join(f"{message} {left}" for message in others))
