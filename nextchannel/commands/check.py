"""`nextchannel check`: whether the facts that came in can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Engine

    from features.checks.checks import Finding
    from features.checks.window import Window


def check(
    source: Annotated[str | None, typer.Option(help="Only facts of this source.")] = None,
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="Length of the window.")] = 1.0,
    reference_days: Annotated[
        float, typer.Option(min=0.01, max=3650, help="Length of the reference before it.")
    ] = 28.0,
    as_of: Annotated[
        str | None, typer.Option(help="End of the window, ISO 8601 with a time zone; default now.")
    ] = None,
    log: Annotated[bool, typer.Option(help="Log the findings in MLflow.")] = True,
) -> None:
    """Check the facts and features of the last day, and the predictions of the last weeks; exit code 1 if a check fails."""
    from datetime import UTC, datetime

    from features.checks.inputs import check_inputs
    from features.checks.predictions import check_predictions
    from features.checks.window import of_days
    from features.history.engine import read_only
    from nextchannel.commands.installation import open_history
    from nextchannel.commands.moments import read_moment
    from nextchannel.settings import Settings

    now = datetime.now(UTC) if as_of is None else read_moment("--as-of", as_of)
    with read_only(open_history(Settings())).connect() as conn:
        window = of_days(conn, now, days, reference_days, source)
        about_the_model: list[Finding] = []
        if source is None:  # decisions are nobody's facts
            about_the_model.append(check_inputs(conn, now, days, reference_days))
            about_the_model += check_predictions(conn, now, days + reference_days)
    report(window, log, about_the_model)


def check_import(engine: Engine, received_at: datetime) -> None:
    """Check what an import brought in."""
    from features.checks.window import of_import
    from features.history.engine import read_only

    with read_only(engine).connect() as conn:
        window = of_import(conn, received_at)
    report(window, log=True)


def report(window: Window, log: bool, others: Sequence[Finding] = ()) -> None:
    """Run the checks, print a line for each and for what others found, log them; exit code 1 if one fails."""
    from datetime import UTC, datetime

    from features.checks.checks import Verdict, run_checks
    from nextchannel.settings import Settings

    findings = [*run_checks(window), *others]
    typer.echo(f"checked: {window.words}")
    for finding in findings:
        typer.echo(str(finding))
    if log:
        from features.checks.log import log_findings

        settings = Settings()
        root = None if settings.mlflow else settings.artifact_root
        log_findings(settings.tracking_uri, root, findings, window.words, datetime.now(UTC))
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(1)
