"""What the README and the tutorial tell a newcomer to type does what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import ServiceProcess

ROOT = Path(__file__).parents[2]
_PORT = "127.0.0.1:8000"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def run(block: str, folder: Path, service: ServiceProcess) -> str:
    """Run a block as a person would type it, against the test's own installation."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block.replace(_PORT, f"127.0.0.1:{service.port}")],
        cwd=folder,
        env=service.environment | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shape(document: Any) -> Any:
    """Names of the fields, all the way down; lists by their first item."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    if isinstance(document, list):
        return [shape(document[0])] if document else []
    return None


def agree(written: Any, given: Any) -> bool:
    """Whether two shapes have the same fields wherever both have any."""
    if isinstance(written, dict) and isinstance(given, dict):
        return written.keys() == given.keys() and all(agree(written[name], given[name]) for name in written)
    if isinstance(written, list) and isinstance(given, list):
        return not written or not given or agree(written[0], given[0])
    return True


@pytest.fixture
def demonstration(service: ServiceProcess) -> Iterator[ServiceProcess]:
    """A small demonstration, left running as `make demo` leaves it."""
    service.start("demo", "--customers", "1000")
    yield service
    service.stop()


def test_the_readme_asks_and_is_answered_as_it_says(demonstration: ServiceProcess, tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    ask, report = (block for block in blocks(readme, "sh") if block.startswith("curl"))
    answer = json.loads(run(ask, tmp_path, demonstration))
    (written,) = blocks(readme, "json")
    assert agree(shape(json.loads(written)), shape(answer))
    assert json.loads(run(report, tmp_path, demonstration)) == {"n_new": 1, "n_repeated": 0}


def test_make_has_the_targets_that_the_readme_names() -> None:
    (first,) = (block for block in blocks(ROOT / "README.md", "sh") if block.startswith("make"))
    targets = re.findall(r"^make (\w+)", first, re.MULTILINE)
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readme_brings_your_own_data_in(service: ServiceProcess, tmp_path: Path) -> None:
    (block,) = (block for block in blocks(ROOT / "README.md", "sh") if block.startswith("nextchannel"))
    *before, last = block.strip().splitlines()
    assert last.split("#")[0].strip() == "nextchannel serve"
    run("\n".join(before), tmp_path, service)
    choices = (tmp_path / "choices.csv").read_text().splitlines()
    assert len(choices) == 1 + 2_000


def test_a_rehearsal_runs_as_its_page_says(service: ServiceProcess, tmp_path: Path) -> None:
    begin, ask = blocks(ROOT / "docs" / "how-to" / "rehearse.md", "sh")
    # Shorter than on the page, and its service ends with it.
    for written, shorter in (("--customers 3000", "--customers 140"), ("--days 28", "--days 8")):
        assert written in begin
        begin = begin.replace(written, shorter)
    moved = re.sub(r"2026-11-01T09:00:00Z", "'$(date -u +%FT%TZ)'", ask)
    block = f"trap 'kill $(jobs -p)' EXIT\n{begin}\n{moved}".replace("8001", str(service.port))
    said = run(block, tmp_path, service)
    assert "of what full knowledge would earn" in said
    assert re.search(r"^   1 +140 ", said, re.MULTILINE)


def test_the_tutorial_runs_from_top_to_bottom(service: ServiceProcess, tmp_path: Path) -> None:
    for block in blocks(ROOT / "docs" / "tutorial.md", "sh"):
        if block.strip() == "nextchannel serve":
            service.start("serve")
        else:
            said = run(block, tmp_path, service)
    # The model that was just promoted decides, on features that are there.
    assert json.loads(said)["degraded"] == []
