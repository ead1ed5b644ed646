"""`nextchannel keys` at the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from models.domain.errors import ConflictError, InvalidInputError, NotFoundError
from nextchannel.main import cli


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, ["keys", *arguments])


def test_a_key_is_made_listed_rotated_and_revoked(keys):
    made = keys("create", "--name", "shop", "--scope", "decide", "--scope", "ingest")
    text = made.stdout.strip()
    key_id = text.split("_")[1]
    assert text.startswith("nck_")
    assert "not shown again" in made.stderr
    listed = keys("list").stdout
    assert f"shop                 {key_id} live     decide,ingest" in listed
    assert text not in listed
    rotated = keys("rotate", "shop", "--overlap-hours", "0.5").stdout.strip()
    assert rotated != text
    assert keys("list").stdout.count(" live ") == 2
    assert isinstance(keys("rotate", "shop").exception, ConflictError)
    assert keys("revoke", key_id).stdout == f"revoked: {key_id}\n"
    assert keys("revoke", "shop").stdout == f"revoked: {rotated.split('_')[1]}\n"
    assert keys("list").stdout.count(" revoked ") == 2


def test_what_cannot_be_is_refused(keys):
    assert isinstance(keys("create", "--name", "a", "--scope", "fly").exception, InvalidInputError)
    assert isinstance(keys("create", "--name", "a b", "--scope", "read").exception, InvalidInputError)
    late = keys("create", "--name", "a", "--scope", "read", "--expires-in-days", "-1")
    assert isinstance(late.exception, InvalidInputError)
    assert isinstance(keys("revoke", "nobody").exception, NotFoundError)
    assert isinstance(keys("rotate", "nobody").exception, NotFoundError)
