"""`nextchannel learn`: the one process that lets the bandit learn while the service goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from nextchannel.commands.moments import AS_OF, RehearsedAt, present


def learn(
    campaign: Annotated[
        list[str], typer.Option(help="Whose decisions to learn from; may be given several times.")
    ],
    every_seconds: Annotated[float, typer.Option(min=1.0, help="Pause between two steps.")] = 3600.0,
    once: Annotated[bool, typer.Option("--once", help="One step, then end.")] = False,
    as_of: RehearsedAt = "",
) -> None:
    """Learn from opens and clicks as they come in; running services load each new state within a second or two."""
    import time

    from features.history.sole import sole_holder
    from models.domain.errors import ConflictError, require
    from nextchannel.commands.installation import open_features, open_history, open_registry
    from nextchannel.settings import Settings
    from training.learner import learn_step

    require(once or not as_of, AS_OF, as_of, "needs --once: the clock of a rehearsal stands still")
    settings = Settings()
    engine = open_history(settings)
    workspace, registry = open_features(settings, engine), open_registry(settings)
    workspace.define()
    with sole_holder(engine, "learner"):
        while True:
            for name in campaign:
                try:
                    step = learn_step(engine, workspace, registry, name, present(as_of, engine))
                except ConflictError as exc:  # another model was promoted: the next step continues that one
                    typer.echo(f"{name}: {exc}", err=True)
                    continue
                published = "" if step.version is None else f", published as version {step.version}"
                typer.echo(
                    f"{name}: {step.n_events} contacts learned from, up to {step.learned_until:%Y-%m-%d %H:%M} UTC{published}"
                )
            if once:
                return
            time.sleep(every_seconds)
