"""`nextchannel train`: from the history to a published model."""

from __future__ import annotations

from typing import Annotated

import typer


def train(
    campaign: Annotated[str, typer.Option(help="Whose decisions to learn from.")],
    promote: Annotated[
        bool,
        typer.Option(
            "--promote", help="Make it champion where evaluation, calibration and guardrails agree."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same history and seed, same model.")] = 0,
) -> None:
    """Train a model, judge it on decisions that it has not seen, and publish it."""
    from datetime import UTC, datetime

    from features.offline import materialize
    from nextchannel.commands.installation import open_features, open_history, open_registry
    from nextchannel.settings import Settings
    from training.publish import train_and_publish

    settings = Settings()
    engine = open_history(settings)
    workspace = open_features(settings, engine)
    before = workspace.features if workspace.defined else None
    if workspace.define() != before:
        # A running service reads rows of the new list from now on: it must find some.
        materialize(workspace, datetime.now(UTC))
    done = train_and_publish(
        engine,
        workspace,
        open_registry(settings),
        campaign,
        as_of=datetime.now(UTC),
        seed=seed,
        promote=promote,
        progress=lambda words: typer.echo(words, err=True),
    )
    typer.echo("features: everybody as of now into the online store", err=True)
    materialize(workspace, datetime.now(UTC))
    typer.echo(done.trained.report.to_markdown())
    typer.echo(f"published as version {done.version}, {'champion now' if done.promoted else 'challenger'}")
