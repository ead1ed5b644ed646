"""The command line. Commands import what they need when they run, so that `--help` answers at once."""

from __future__ import annotations

import sys

import typer

from models.domain.errors import NextchannelError
from nextchannel.commands import (
    answers,
    bounces,
    campaign,
    channels,
    contacts,
    customer,
    identity,
    import_,
    keys,
    models,
    occasions,
    outbox,
    plan,
    segment,
)
from nextchannel.commands.check import check
from nextchannel.commands.decide import decide
from nextchannel.commands.demo import demo
from nextchannel.commands.evaluate import evaluate
from nextchannel.commands.learn import learn
from nextchannel.commands.materialize import materialize
from nextchannel.commands.rehearse import rehearse
from nextchannel.commands.serve import serve
from nextchannel.commands.simulate import simulate
from nextchannel.commands.train import train

cli = typer.Typer(
    name="nextchannel",
    help="For this customer, now: which offer, on which channel, at what time, or better not at all?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.command()(demo)
cli.command()(serve)
cli.command()(simulate)
cli.command()(rehearse)
cli.add_typer(campaign.app, name="campaign")
cli.add_typer(channels.app, name="channels")
cli.add_typer(answers.app, name="answers")
cli.add_typer(outbox.app, name="outbox")
cli.add_typer(bounces.app, name="bounces")
cli.add_typer(import_.app, name="import")
cli.add_typer(identity.app, name="identity")
cli.add_typer(customer.app, name="customer")
cli.add_typer(contacts.app, name="contacts")
cli.add_typer(keys.app, name="keys")
cli.add_typer(segment.app, name="segment")
cli.add_typer(plan.app, name="plan")
cli.add_typer(occasions.app, name="occasions")
cli.command()(check)
cli.command()(materialize)
cli.command()(train)
cli.command()(learn)
cli.add_typer(models.app, name="models")
cli.command()(decide)
cli.command()(evaluate)


def app() -> None:
    """Run the command line; an error of the caller is one line and exit code 2.

    So is a file that the caller named and that cannot be read or written.
    """
    try:
        cli()
    except NextchannelError as error:
        sys.stderr.write(f"nextchannel: {error}\n")
        raise SystemExit(2) from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"nextchannel: {error.filename}: {error.strerror}\n")
        raise SystemExit(2) from None
