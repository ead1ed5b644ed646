"""The command line of identities, customers and contact keys."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nextchannel.main import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("NEXTCHANNEL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEXTCHANNEL_PHONE_REGION", "TW")
    return tmp_path / "home"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_accounts_are_linked_merged_split_and_conflicts_settled(home: Path) -> None:
    run("identity", "link", "phone=0912 345 678", "device=tablet", "--customer", "ada")
    assert run("identity", "link", "phone=+886912345678", "email=ada@example.com").startswith(
        "ada: 1 new contact points"
    )
    run("identity", "link", "email=bob@example.com", "--customer", "bob")
    assert "open conflicts: 1" in run("identity", "link", "device=tablet", "--customer", "bob")
    listed = run("identity", "conflicts")
    assert "bob claims it, ada has it: shared_device" in listed
    assert "tablet" not in listed
    assert run("identity", "merge", "ada", "bob", "--why", "one person") == "ada and bob are ada now\n"
    assert run("identity", "conflicts") == "no open conflicts\n"
    assert "own again, apart from ada" in run("identity", "split", "bob", "--why", "two after all")
    assert (home / "contacts.keys").stat().st_mode & 0o777 == 0o600


def test_a_customer_is_exported_and_erased(home: Path, tmp_path: Path) -> None:
    run("identity", "link", "email=ada@example.com", "--customer", "ada")
    out = tmp_path / "ada.json"
    run("customer", "export", "ada", "--out", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert json.loads(out.read_text())["identities"][0]["value"] == "ada@example.com"
    assert "nothing is left of them" in run("customer", "erase", "ada", "--yes")
    assert run("customer", "readmit", "email=Ada@example.com") == "readmitted\n"
    assert run("customer", "readmit", "email=Ada@example.com") == "was not suppressed\n"


def test_the_key_of_contact_points_is_rotated(home: Path) -> None:
    run("identity", "link", "email=ada@example.com", "--customer", "ada")
    before = json.loads((home / "contacts.keys").read_text())
    assert run("contacts", "rotate-key", "--drop-old").startswith("1 contact points sealed under key ")
    after = json.loads((home / "contacts.keys").read_text())
    assert after["lookup"] == before["lookup"]
    assert after["sealing"].keys().isdisjoint(before["sealing"])
    assert '"ada@example.com"' in run("customer", "export", "ada")
    assert json.loads(run("contacts", "keys")).keys() == {"lookup", "current", "sealing"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("identity", "link", "fax=12"), "nextchannel: KIND == 'fax', must be one of email, phone"),
        (
            ("identity", "link", "email=nobody-at-all"),
            "nextchannel: identities.email == 'no***ll', must be an address",
        ),
        (
            ("identity", "merge", "ada", "bob", "--why", "x"),
            "nextchannel: customer_id == 'ada', must name something",
        ),
        (("customer", "erase", "ada", "--yes"), "nextchannel: customer_id == 'ada', must name something"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(home: Path, arguments: tuple[str, ...], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nextchannel", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NEXTCHANNEL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
