"""`nextchannel plan`: made, watched, paused and cancelled from a terminal, while the service works on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.history.channels import seed_channels
from features.history.engine import connect, migrate
from features.segments.language import parse_segment
from features.segments.store import TagStatement, append_tags, save_segment
from models.domain.campaign import PolicyName
from nextchannel.main import app, cli
from tests.integration.conftest import Market

PAGE = Path(__file__).parents[2] / "docs/how-to/plan-an-audience.md"
NOWHERE = "01a2019c-ff02-74e0-82f9-fc1c4292b790"
PEOPLE = [f"c{number:03}" for number in range(40)]


@pytest.fixture
def market(market_on, tmp_path, monkeypatch) -> Market:
    """An installation in a folder, as the command line finds it, with a service that works when it is told to."""
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.delenv("NEXTCHANNEL_DATABASE", raising=False)
    monkeypatch.chdir(tmp_path)
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    now = datetime.now(UTC)
    with engine.begin() as conn:
        seed_channels(conn, now - timedelta(days=1))
    made: Market = market_on(engine, now)
    made.customers(*PEOPLE)
    made.campaign(policy=PolicyName.GREEDY)
    return made


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["plan", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_plan_is_made_shown_started_and_watched(market):
    works = market.service().plans
    works.stop()
    plan_id = run("make", "--campaign", "spring").strip()
    assert "forecasting; 0 decided for; not counted yet" in run("show", plan_id)
    while works.work():
        pass
    ready = run("show", plan_id)
    assert "ready; 0 decided for; 40 members" in ready
    assert "expected by the model, from 40 members: 40 sms" in ready
    run("start", plan_id)

    def work() -> None:
        while works.work():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    done = run("show", plan_id, "--watch")
    thread.join()
    assert "finished; 40 decided for" in done
    assert "so far: 40 sms; cost 0.58 USD" in done
    assert plan_id in run("list")


def test_the_commands_of_the_page_do_what_it_says(market, tmp_path):
    market.service()  # works on what there is
    with market.engine.begin() as conn:
        append_tags(
            conn,
            [
                TagStatement(customer_id=one, tag="gold", since=market.now, source="test")
                for one in PEOPLE[:25]
            ],
        )
        save_segment(conn, parse_segment({"name": "gold", "condition": {"tag": "gold"}}), market.now)
    market.now += timedelta(minutes=1)
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        env=os.environ
        | {"NEXTCHANNEL_HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "expected by the model, from 25 members" in done.stdout
    assert "finished; 25 decided for; 25 members" in done.stdout


def test_what_cannot_be_is_said_in_one_line(market, monkeypatch, capsys):
    assert market.opened == []
    plan_id = run("make", "--campaign", "spring").strip()
    run("cancel", plan_id)
    for arguments, word in (
        (("make", "--campaign", "nowhere"), "campaign_id == 'nowhere'"),
        (("make", "--campaign", "spring", "--segment", "nobody"), "segment == 'nobody'"),
        (("start", plan_id), "is cancelled, so it cannot be running"),
        (("show", NOWHERE), f"plan_id == '{NOWHERE}'"),
    ):
        monkeypatch.setattr(sys, "argv", ["nextchannel", "plan", *arguments])
        with pytest.raises(SystemExit) as ended:
            app()
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert word in line
