"""`nextchannel campaign put` at the command line."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nextchannel.main import app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "import.md"


@pytest.fixture
def document() -> dict[str, object]:
    """The example of the documentation, from now on."""
    found = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    now = datetime.now(UTC)
    window = {"starts_at": now.isoformat(), "ends_at": (now + timedelta(days=30)).isoformat()}
    return json.loads(found.group(1)) | {"send_window": window}


@pytest.fixture
def put(tmp_path, monkeypatch, capsys):
    """Exit code, standard output and standard error of one call."""
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(document: dict[str, object], *options: str) -> tuple[int, str, str]:
        Path("campaign.json").write_text(json.dumps(document), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["nextchannel", "campaign", "put", "campaign.json", *options])
        with pytest.raises(SystemExit) as left:
            app()
        written = capsys.readouterr()
        return int(left.value.code or 0), written.out, written.err

    return call


def test_a_campaign_that_makes_sense_is_stored(put, document):
    code, out, _err = put(document)
    assert (code, out) == (0, "campaign spring: version 1\n")


def test_what_the_api_refuses_is_one_line_and_exit_code_2(put, document):
    past = {"starts_at": "2020-03-01T00:00:00Z", "ends_at": "2020-06-01T00:00:00Z"}
    code, out, err = put(document | {"send_window": past, "channels": ["email", "pigeon"]})
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "send_window.ends_at" in err
    assert "channels.1" in err


def test_an_offer_that_no_channel_of_the_campaign_carries_is_refused(put, document):
    card = {"offer_id": "sale", "margin_minor": 2000, "content": {"card": {"body": "{}"}}}
    code, _out, err = put(document | {"offers": [card], "channels": ["sms"]})
    assert code == 2
    assert err.startswith("nextchannel: offers.0.content")
    assert err.count("\n") == 1


def test_what_may_surprise_is_told_and_stored(put, document):
    code, out, err = put(document | {"caps": {"contacts": 0}})
    assert (code, out) == (0, "campaign spring: version 1\n")
    assert "warning: caps.contacts == 0, should be > 0" in err


def test_in_a_rehearsal_its_clock_counts(put, document):
    window = {"starts_at": "2026-03-01T00:00:00Z", "ends_at": "2026-06-01T00:00:00Z"}
    assert put(document | {"send_window": window}, "--as-of", "2026-03-02T00:00:00Z")[0] == 0
