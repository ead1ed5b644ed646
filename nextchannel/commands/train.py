"""`nextchannel train`: from the history to a published model."""

from __future__ import annotations

from typing import Annotated

import typer

from nextchannel.commands.moments import RehearsedAt, present


def train(
    campaign: Annotated[str, typer.Option(help="Whose decisions to learn from.")],
    promote: Annotated[
        bool,
        typer.Option(
            "--promote", help="Make it champion where evaluation, calibration and guardrails agree."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same history and seed, same model.")] = 0,
    as_of: RehearsedAt = "",
) -> None:
    """Train a model, judge it on decisions that it has not seen, and publish it."""
    from features.offline import materialize
    from nextchannel.commands.installation import open_features, open_history, open_registry
    from nextchannel.settings import Settings
    from training.publish import train_and_publish

    settings = Settings()
    engine = open_history(settings)
    now = present(as_of, engine)
    workspace = open_features(settings, engine)
    before = workspace.features if workspace.defined else None
    if workspace.define() != before:
        # A running service reads rows of the new list from now on: it must find some.
        materialize(workspace, now)
    done = train_and_publish(
        engine,
        workspace,
        open_registry(settings),
        campaign,
        as_of=now,
        seed=seed,
        promote=promote,
        progress=lambda words: typer.echo(words, err=True),
    )
    # Without the option a while has passed by now.
    now = present(as_of, engine)
    typer.echo(f"features: everybody as of {now:%Y-%m-%d %H:%M} UTC into the online store", err=True)
    materialize(workspace, now)
    typer.echo(done.trained.report.to_markdown())
    typer.echo(f"published as version {done.version}, {'champion now' if done.promoted else 'challenger'}")
