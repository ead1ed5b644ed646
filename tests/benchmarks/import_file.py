"""A large import with broken rows, interrupted twice: right counts, no double rows, flat memory.

    python -m tests.benchmarks import_file [--rows 1000000] [--postgres] [--quick]

Writes a CSV file of interactions of which one row in a hundred is broken in one of five ways, imports it with the
command line, interrupts that with SIGINT, starts it again, kills it with SIGKILL, and starts it again to the end. The
memory is that of the process as the system sees it, sampled throughout the last run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from features.history.tables import interactions
from tests.fresh_database import database

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST_GROWTH_PCT = 10.0
_ROOT = Path(__file__).parents[2]
_COLUMNS = ["event_id", "customer_id", "kind", "occurred_at", "source", "value_minor", "place", "attr_page"]
# How a row is broken, and the column and words that its reason must have.
_BREAKS = {
    "kind": ("danced", "must be one of"),
    "occurred_at": ("2026-01-01T00:00:00", "time zone"),
    "value_minor": ("much", "must be a number"),
    "place": ("moon", "must be one of"),
    "customer_id": ("", "must be given"),
}


def main(arguments: list[str]) -> int:
    """Run the benchmark; 1 where a count is wrong or memory grows."""
    parser = argparse.ArgumentParser(prog="import_file")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--quick", action="store_true", help="50,000 rows")
    chosen = parser.parse_args(arguments)
    # A shell's background job ignores it, and so would the command: then nothing would be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with database(chosen.postgres) as engine, tempfile.TemporaryDirectory() as folder:
        found = measure(engine, Path(folder), 50_000 if chosen.quick else chosen.rows)
    sys.stdout.write(json.dumps({"bench": "import_file", **found}) + "\n")
    return 0 if found["right"] and found["rss_growth_pct"] <= MOST_GROWTH_PCT else 1


def measure(engine: Engine, folder: Path, n_rows: int) -> dict[str, Any]:
    """Write, import, interrupt, resume, count.

    Args:
        engine: An empty, migrated database.
        folder: Where the file is written.
        n_rows: Rows of the file.
    """
    path = folder / "interactions.csv"
    broken = _write(path, n_rows)
    interrupted = _interrupt(engine, folder, path, signal.SIGINT, n_rows // 5)
    held_then = _held(engine)
    killed = _interrupt(engine, folder, path, signal.SIGKILL, n_rows * 2 // 5)
    before = _held(engine)
    began = time.perf_counter()
    said, memory_kb = _finish(engine, folder, path)
    seconds = time.perf_counter() - began
    with path.with_name("interactions.csv.rejected.csv").open(encoding="utf-8", newline="") as file:
        rejects = list(csv.DictReader(file))
    reasons = Counter(row["column"] for row in rejects)
    right_reasons = all(_BREAKS[row["column"]][1] in row["reason"] for row in rejects)
    n_good = n_rows - sum(broken.values())
    expected = (
        f"interactions: {n_good - before:,} new, {before:,} already there, {sum(broken.values()):,} rejected"
    )
    third = max(1, len(memory_kb) // 3)
    early, late = max(memory_kb[third : 2 * third] or memory_kb), max(memory_kb)
    return {
        "backend": engine.dialect.name,
        "rows": n_rows,
        "broken": sum(broken.values()),
        "right": said == expected
        and _held(engine) == n_good
        and reasons == broken
        and right_reasons
        and held_then < before < n_good,
        "said": said,
        "exit_code_after_sigint": interrupted,
        "exit_code_after_sigkill": killed,
        "held_after_sigint": held_then,
        "held_after_sigkill": before,
        "rows_per_s": round(n_rows / seconds),
        "peak_rss_mb": round(late / 1024),
        "rss_growth_pct": round((late / early - 1) * 100, 1),
    }


def _write(path: Path, n_rows: int) -> Counter[str]:
    """The file, and how many rows are broken in which column."""
    rng = random.Random(5)
    broken: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        for number in range(n_rows):
            kind = rng.choice(["viewed", "visited", "carted", "purchased"])
            row = {
                "event_id": f"e-{number}",
                "customer_id": f"c-{rng.randrange(100_000)}",
                "kind": kind,
                "occurred_at": (START + timedelta(seconds=rng.random() * 8e6)).isoformat(),
                "source": "shop",
                "value_minor": rng.randrange(500, 9_000) if kind == "purchased" else "",
                "place": "online",
                "attr_page": f"/coats/{rng.randrange(900)}",
            }
            if number % 100 == 99:
                column = rng.choice(sorted(_BREAKS))
                row[column] = _BREAKS[column][0]
                broken[column] += 1
            writer.writerow(row)
    return broken


def _start(engine: Engine, folder: Path, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "nextchannel", "import", "interactions", str(path)],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(_ROOT),
            "NEXTCHANNEL_HOME": str(folder),
            "NEXTCHANNEL_DATABASE": engine.url.render_as_string(hide_password=False),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _interrupt(engine: Engine, folder: Path, path: Path, by: signal.Signals, at_rows: int) -> int:
    """Send the signal once that many rows are there; the exit code."""
    process = _start(engine, folder, path)
    while _held(engine) < at_rows:
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        time.sleep(0.02)
    process.send_signal(by)
    process.communicate()
    return process.returncode


def _finish(engine: Engine, folder: Path, path: Path) -> tuple[str, list[int]]:
    """What the command says in the end, and its memory in KB all along."""
    process = _start(engine, folder, path)
    memory: list[int] = []
    while process.poll() is None:
        resident = _resident_kb(process.pid)
        if resident:
            memory.append(resident)
        time.sleep(0.05)
    said, complained = process.communicate()
    if process.returncode != 0:
        raise AssertionError(complained)
    return said.strip(), memory


def _resident_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def _held(engine: Engine) -> int:
    with engine.connect() as conn:
        return conn.scalar(select(func.count()).select_from(interactions)) or 0
