"""`make bench` without a name: every benchmark, one after the other, and a page of what they found.

Each runs in a process of its own and prints as it would alone. What one of them found is kept under `build/benchmarks`: stopped
and started again on the same commit, the rest is measured.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.bars import BARS, figure
from tests.named_programs import names

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/benchmarks.md"
_KEPT = ROOT / "build/benchmarks"
_LIBRARIES = (
    "fastapi", "uvicorn", "pydantic", "numpy", "numba", "lightgbm", "vowpalwabbit", "feast", "duckdb", "sqlalchemy",
)  # fmt: skip
Found = dict[str, object]


def main() -> int:
    """Measure what is not measured yet, write the page; 1 where a benchmark ended without figures."""
    commit = _said_by("git", "rev-parse", "--short", "HEAD")
    every = names("benchmarks")
    found: dict[str, Found | None] = {}
    for number, name in enumerate(every, start=1):
        sys.stderr.write(f"benchmark {number} of {len(every)}: {name}\n")
        kept = _KEPT / commit / f"{name}.json"
        if not kept.exists() and (measured := _measure(name)) is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(measured))
        found[name] = json.loads(kept.read_text()) if kept.exists() else None
    PAGE.write_text(page(found, commit, machine(), datetime.now(UTC)), encoding="utf-8")
    sys.stderr.write(f"{PAGE.relative_to(ROOT)}\n")
    return int(None in found.values())


def machine() -> list[str]:
    """Where this ran, in a few lines."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return [
        f"{os.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}",
    ]


def page(found: Mapping[str, Found | None], commit: str, where: Sequence[str], at: datetime) -> str:
    """The page, in Markdown.

    Args:
        found: By benchmark the figures of its last line; None where it ended without any.
        commit: What was measured.
        where: Lines about the machine.
        at: When the page is written.
    """
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {at:%Y-%m-%d} at commit `{commit}`. Speeds are ratios to a baseline of the same run; markets are simulated. A bar that is missed is named as missed.",
        "",
        *[f"- {line}" for line in where],
    ]
    for name, figures in found.items():
        lines += ["", f"## {name}", "", _first_sentence(name), ""]
        lines += ["It ended without figures."] if figures is None else [*_table(name, figures)]
    return "\n".join(lines) + "\n"


def _table(name: str, figures: Found) -> Iterator[str]:
    bars = BARS.get(name, {})
    yield "| figure | measured | bar | |"
    yield "|---|---|---|---|"
    for key, bar in bars.items():
        value = figure(figures, key)
        met = value is not None and bar.met_by(value)
        yield f"| `{key}` | {'not measured' if value is None else f'{value:g}'} | {bar} | {'met' if met else '**missed**'} |"
    for key, plain in _plain(figures):
        if key not in bars:
            yield f"| `{key}` | {plain} | | |"


def _plain(figures: Mapping[str, object], inside: str = "") -> Iterator[tuple[str, object]]:
    """Numbers and words by name; lists are left to the line of JSON."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _plain(value, f"{inside}{key}.")
        elif key != "bench" and isinstance(value, (int, float, str)):
            yield f"{inside}{key}", value


def _measure(name: str) -> Found | None:
    """Run it; what it prints is passed on, its last line is what it found."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks", name], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    last = ""
    for line in started.stdout:
        sys.stdout.write(line)
        last = line
    started.wait()
    try:
        found = json.loads(last)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _first_sentence(name: str) -> str:
    text = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph[:1].upper() + paragraph[1:]


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _said_by(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
