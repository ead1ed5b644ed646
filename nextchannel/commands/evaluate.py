"""`nextchannel evaluate`: the method on public experiments, beside every constant action."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class PublicData(StrEnum):
    """Experiments that can be had."""

    HILLSTROM = "hillstrom"
    MICHIGAN = "michigan"


def evaluate(
    data: Annotated[PublicData, typer.Option(help="Which public experiment.")],
    file: Annotated[
        Path | None, typer.Option(help="A local copy; default: NEXTCHANNEL_DATA_DIR, else downloaded.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the cut into halves.")] = 0,
) -> None:
    """Learn from a random half of a real experiment, decide for the other, and report honestly."""
    import tempfile

    from features.history.engine import connect, migrate
    from features.workspace import FeatureWorkspace
    from nextchannel.settings import Settings
    from training.experiment_report import put_history, report
    from training.hillstrom import HILLSTROM
    from training.michigan import MICHIGAN

    experiment = {PublicData.HILLSTROM: HILLSTROM, PublicData.MICHIGAN: MICHIGAN}[data]
    settings = Settings()
    rows = experiment.load(file, settings.data_dir or settings.home / "data")
    typer.echo(f"{data}: {len(rows):,} customers", err=True)
    with tempfile.TemporaryDirectory() as folder:  # the installation's own history is left alone
        engine = connect(f"sqlite:///{Path(folder) / 'history.db'}")
        migrate(engine)
        put_history(engine, experiment, rows, experiment.ran_at, seed)
        outcome = report(
            engine,
            FeatureWorkspace(Path(folder), engine),
            experiment,
            rows,
            experiment.ran_at,
            seed,
            lambda words: typer.echo(words, err=True),
        )
        engine.dispose()
    typer.echo(outcome.to_markdown())
