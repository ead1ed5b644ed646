"""Schemathesis against a real server: does the service do what its OpenAPI description says, whatever is asked?

Every check of Schemathesis, over examples, coverage and fuzzing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.chaos._live import CAMPAIGN, CUSTOMERS, LiveService
from tests.chaos._schema_refusals import write_configuration

_TOLD = 60_000
_HOOKS = "tests.chaos._schema_hooks"
_SEGMENT = {"condition": {"consent": {"channel": "email"}}}


def known(address: str, key: str) -> dict[str, list[str]]:
    """What is there, by the name of the field that names it; decisions and a segment are made for it."""
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}) as api:
        api.put("/v1/segments/may-mail", json=_SEGMENT).raise_for_status()
        asked = [{"customer_id": one, "campaign_id": CAMPAIGN, "send": "caller"} for one in CUSTOMERS]
        made = api.post("/v1/decisions/batch", json={"requests": asked}).raise_for_status().json()
    return {
        "customer_id": list(CUSTOMERS),
        "campaign_id": [CAMPAIGN],
        "channel": ["email", "sms"],
        "name": ["may-mail", "email", "sms"],
        "decision_id": [one["decision"]["decision_id"] for one in made["outcomes"]],
    }


def run(
    address: str,
    key: str,
    phases: str,
    max_examples: int,
    seed: int,
    folder: Path,
    there: dict[str, list[str]],
) -> tuple[int, str]:
    """Exit code and report of one run; what Schemathesis keeps goes into the folder."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={write_configuration(folder)}",
            "run",
            f"{address}/openapi.json",
            "--checks=all",
            f"--phases={phases}",
            f"--max-examples={max_examples}",
            f"--seed={seed}",
            "--continue-on-failure",
            "--no-color",
            "--header",
            f"Authorization: Bearer {key}",
        ],
        cwd=folder,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": _HOOKS,
            "SCHEMA_KNOWN": json.dumps(there),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).replace(key, "KEY")


def figures(report: str) -> dict[str, int]:
    """What the summary of a report counts."""
    found = {}
    for name, pattern in (("cases", r"(\d[\d,]*) generated"), ("failures", r"(\d[\d,]*) unique failures?")):
        hit = re.search(pattern, report)
        found[name] = int(hit.group(1).replace(",", "")) if hit else 0
    return found


def main(arguments: list[str]) -> int:
    """Run it; 0 where Schemathesis found nothing."""
    parser = argparse.ArgumentParser(prog="schema", description=__doc__)
    parser.add_argument("--max-examples", type=int, default=50, help="of an operation, in the fuzzing phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="examples and coverage alone")
    options = parser.parse_args(arguments)
    phases = "examples,coverage" if options.quick else "examples,coverage,fuzzing"
    with tempfile.TemporaryDirectory() as folder, LiveService(Path(folder)) as service:
        code, report = run(
            service.address,
            service.key,
            phases,
            options.max_examples,
            options.seed,
            Path(folder),
            known(service.address, service.key),
        )
        alive = service.running
    sys.stdout.write(report[-_TOLD:] + "\n")
    told = {"chaos": "schema", "phases": phases, **figures(report), "exit_code": code, "alive": alive}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if alive and code == 0 else 1
