"""Findings into MLflow, one run a round of checks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from features.checks.checks import Finding, Verdict
from features.registry import experiment_id, open_client

EXPERIMENT = "nextchannel checks"


def log_findings(
    tracking_uri: str, artifact_root: Path | None, findings: Sequence[Finding], words: str, now: datetime
) -> str:
    """Log a round of checks: the figures as metrics, the verdicts as tags, the lines as a text.

    Args:
        tracking_uri: MLflow address.
        artifact_root: Where a local MLflow keeps files; None with a tracking server.
        findings: What the checks found.
        words: Which facts were checked.
        now: Names the run.

    Returns:
        The id of the run.
    """
    client = open_client(tracking_uri, artifact_root)
    run = client.create_run(
        experiment_id(client, EXPERIMENT, artifact_root), run_name=f"checks {now:%Y-%m-%d %H:%M:%S}"
    )
    run_id: str = run.info.run_id
    try:
        client.log_param(run_id, "window", words)
        for finding in findings:
            if finding.verdict is not Verdict.SKIP:
                client.log_metric(run_id, finding.name, finding.figure)
            client.set_tag(run_id, f"check.{finding.name}", finding.verdict.value)
        failed = any(finding.verdict is Verdict.FAIL for finding in findings)
        client.set_tag(run_id, "passed", str(not failed).lower())
        client.log_text(run_id, "".join(f"{finding}\n" for finding in findings), "checks.txt")
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id)
    return run_id
