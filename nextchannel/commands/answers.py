"""`nextchannel answers`: what a channel answers by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

app = typer.Typer(
    help="Show, load and try what a channel answers by keywords and office hours.", no_args_is_help=True
)

_Channel = Annotated[str, typer.Argument(help="Name of the channel, for example line.")]


@app.command()
def show(channel: _Channel) -> None:
    """The present answers of a channel, as JSON that `load` takes."""
    import json

    from features.history.engine import read_only
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from serving.chat.document import to_document
    from serving.chat.store import load_answers

    with read_only(open_history(Settings())).connect() as conn:
        found = load_answers(conn, channel)
    typer.echo(json.dumps(to_document(found.answers), ensure_ascii=False, indent=2))


@app.command()
def load(
    channel: _Channel,
    file: Annotated[Path, typer.Argument(help="Answers as JSON: docs/how-to/answer-in-chat.md.")],
) -> None:
    """Store the answers of a channel; changed ones become a new version."""
    from models.domain.errors import InvalidInputsError
    from nextchannel.commands.installation import open_history
    from nextchannel.commands.json_file import read_json
    from nextchannel.settings import Settings
    from serving.chat.document import from_document
    from serving.chat.store import save_answers
    from serving.routes.fields import unstorable_in

    answers = from_document(read_json(file))
    if unstorable := unstorable_in(answers, ""):
        raise InvalidInputsError(unstorable)
    with open_history(Settings()).begin() as conn:
        stored = save_answers(conn, channel, answers, _now())
    typer.echo(f"answers of {stored.channel}: version {stored.version}")


@app.command("try")
def try_(
    channel: _Channel,
    text: Annotated[str, typer.Argument(help="What somebody writes.")],
    at: Annotated[str | None, typer.Option(help="When, ISO 8601 with an offset; default now.")] = None,
    position: Annotated[
        list[str] | None,
        typer.Option(help="A first keyword from the top to the menu that was shown; repeat it."),
    ] = None,
    locale: Annotated[str, typer.Option(help="Language of who writes, for example ja.")] = "",
) -> None:
    """What a text would be answered, and why; nothing is sent or stored."""
    from features.history.engine import read_only
    from models.domain.interaction import require_moment
    from nextchannel.commands.installation import open_history
    from nextchannel.commands.moments import read_moment
    from nextchannel.settings import Settings
    from serving.chat.reaction import react
    from serving.chat.store import load_answers
    from serving.content import LOCALE, Person

    now = _now() if at is None else read_moment("--at", at)
    require_moment("--at", now)
    with read_only(open_history(Settings())).connect() as conn:
        found = load_answers(conn, channel)
    person = Person("", {LOCALE: locale} if locale else {})
    reaction = react(found.answers, text, tuple(position or ()), now, channel, person)
    typer.echo(f"{reaction.why}, version {found.version}")
    if reaction.path:
        typer.echo(f"group: {' > '.join(reaction.path)}")
    if reaction.due_at is not None:
        typer.echo(f"a person answers from {reaction.due_at.isoformat()} on")
    if reaction.says is not None:
        typer.echo(f"\n{reaction.says.text}")


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)
