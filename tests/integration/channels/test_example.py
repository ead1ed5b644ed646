"""The example distribution installs from its folder, is found by its entry point, and passes the kit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "nextchannel-ntfy"
TUTORIAL = ROOT / "docs" / "tutorial" / "write-an-adapter.md"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example is installed beside nextchannel."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--target", str(folder), str(EXAMPLE)],
        check=True,
        capture_output=True,
    )
    return {
        **os.environ,
        "PYTHONPATH": str(folder),
        "NEXTCHANNEL_HOME": str(tmp_path_factory.mktemp("home")),
        "NEXTCHANNEL_ADAPTERS": '{"push": "ntfy"}',
    }


def run(arguments: list[str], environment: dict[str, str], cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_example_serves_a_channel(environment):
    assert "ntfy: settings are right" in run(["-m", "nextchannel", "channels", "check", "push"], environment)


def test_the_example_passes_the_kit(environment):
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull]
    said = run([*tests, "--rootdir", str(EXAMPLE), str(EXAMPLE / "tests")], environment)
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) >= 12
    assert "failed" not in said


def test_the_tutorial_shows_the_files_as_they_are():
    page = TUTORIAL.read_text()
    for language, file in (
        ("toml", "pyproject.toml"),
        ("python", "src/nextchannel_ntfy/__init__.py"),
        ("python", "tests/test_laws.py"),
    ):
        shown = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        assert (EXAMPLE / file).read_text() in shown, file
