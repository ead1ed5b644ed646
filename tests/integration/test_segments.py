"""Segments over HTTP and on the command line: stored in versions, counted, paged, exported; tags."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from typer.testing import CliRunner

from features.feature_list import FeatureList
from features.history.append import CustomerRecord, append_customers
from features.history.engine import connect, migrate
from features.segments.language import DEEPEST, MOST_CONDITIONS, parse_segment
from features.segments.store import list_segments, load_segment
from models.domain.errors import InvalidInputError, NotFoundError
from nextchannel.main import app, cli
from serving.app import create_app

VIP = {"description": "Our best", "condition": {"tag": "vip"}}


@pytest.fixture
def api(market: Any) -> Any:
    market.customers("ada", "bob", "cem")
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        yield client


def tag(*customer_ids: str, **more: object) -> dict[str, Any]:
    return {"tags": [{"customer_id": c, "tag": "vip", "source": "crm", **more} for c in customer_ids]}


def test_a_segment_is_stored_counted_paged_and_asked_for_one(api: TestClient) -> None:
    assert api.put("/v1/segments/best", json=VIP).json() == {"name": "best", "version": 1, **VIP}
    assert api.put("/v1/segments/best", json=VIP).json()["version"] == 1
    changed = {"condition": {"any": [{"tag": "vip"}, {"tag": "gold"}]}}
    assert api.put("/v1/segments/best", json=changed).json()["version"] == 2
    assert [each["version"] for each in api.get("/v1/segments").json()["segments"]] == [2]
    assert api.get("/v1/segments/best").json()["condition"] == changed["condition"]

    assert api.post("/v1/tags", json=tag("cem", "ada")).json() == {"n_new": 2, "n_repeated": 0}
    assert api.get("/v1/segments/best/size").json()["n_members"] == 2
    first = api.get("/v1/segments/best/members", params={"limit": 1}).json()
    assert (first["customer_ids"], first["next"]) == (["ada"], "ada")
    last = api.get("/v1/segments/best/members", params={"after": "ada"}).json()
    assert (last["customer_ids"], last["next"]) == (["cem"], None)
    assert api.get("/v1/segments/best/members/ada").json()["member"] is True
    assert api.get("/v1/segments/best/members/bob").json()["member"] is False


def test_a_tag_that_is_taken_off_is_gone(api: TestClient, market: Any) -> None:
    api.put("/v1/segments/best", json=VIP)
    api.post("/v1/tags", json=tag("ada", since="2026-02-01T00:00:00Z"))
    assert api.get("/v1/segments/best/size").json()["n_members"] == 1
    removed = tag("ada", since="2026-02-02T00:00:00Z", present=False)
    assert api.post("/v1/tags", json=removed).json() == {"n_new": 1, "n_repeated": 0}
    assert api.post("/v1/tags", json=removed).json() == {"n_new": 0, "n_repeated": 1}
    assert api.get("/v1/segments/best/size").json()["n_members"] == 0


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PUT", "/v1/segments/best", {"condition": {"colour": "red"}}, 422, "condition"),
        ("PUT", "/v1/segments/best", {"condition": {"tag": "a", "any": []}}, 422, "condition.tag"),
        ("PUT", "/v1/segments/b%20b", VIP, 422, "name"),
        (
            "PUT",
            "/v1/segments/best",
            {"condition": {"feature": "no_such", "op": "<", "value": 1}},
            422,
            "feature",
        ),
        ("GET", "/v1/segments/none/size", None, 404, "segment"),
        ("GET", "/v1/segments/none/members/ada", None, 404, "segment"),
        ("POST", "/v1/tags", tag("ada", "nobody"), 404, "customer_id"),
    ],
)
def test_what_is_wrong_is_named(
    api: TestClient, method: str, path: str, body: Any, status: int, field: str
) -> None:
    answer = api.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({"all": [{"tag": "a"}, {"interactions": {"kind": "danced"}}]}, "condition.all.1.interactions.kind"),
        ({"not": {"feature": "x", "op": "about", "value": 1}}, "condition.not.op"),
        ({"any": [{"not": {"all": [{"colour": 1}]}}]}, "condition.any.0.not.all.0"),
        ({"any": [{"consent": {"channel": ""}}]}, "condition.any.0.consent.channel"),
    ],
)
def test_a_wrong_part_of_a_condition_is_named_by_its_place_in_the_document(
    condition: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_segment({"name": "x", "condition": condition})
    assert refused.value.field == field


def test_conditions_have_a_size_and_a_depth() -> None:
    deep: dict[str, Any] = {"tag": "a"}
    for _ in range(3_000):
        deep = {"not": deep}
    with pytest.raises(InvalidInputError, match=f"deeper than {DEEPEST}"):
        parse_segment({"name": "x", "condition": deep})
    many = {"any": [{"tag": str(n)} for n in range(MOST_CONDITIONS)]}
    with pytest.raises(InvalidInputError, match=f"at most {MOST_CONDITIONS}"):
        parse_segment({"name": "x", "condition": many})
    nested: dict[str, Any] = {"tag": "a"}
    for _ in range(DEEPEST - 1):
        nested = {"all": [nested]}
    assert parse_segment({"name": "x", "condition": nested}).name == "x"


def test_every_condition_comes_back_as_it_was_stored(engine: Engine) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "segments.md").read_text(encoding="utf-8")
    examples = [json.loads(block.split("```")[0]) for block in page.split("```json\n")[1:]]
    keys = {key for example in examples for key in _keys(example["condition"])}
    assert keys >= {"all", "any", "not", "feature", "interactions", "attribute", "tag", "consent", "identity"}
    from features.segments.store import save_segment
    from models.domain.interaction import FIRST_MOMENT

    with engine.begin() as conn:
        for example in examples:
            stored = save_segment(conn, parse_segment(example), FIRST_MOMENT)
            assert load_segment(conn, stored.name) == stored
        assert len(list_segments(conn)) == len({example["name"] for example in examples})


def _keys(document: Any) -> set[str]:
    if isinstance(document, dict):
        return set(document) | {key for value in document.values() for key in _keys(value)}
    if isinstance(document, list):
        return {key for value in document for key in _keys(value)}
    return set()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(tmp_path))
    monkeypatch.delenv("NEXTCHANNEL_DATABASE", raising=False)
    monkeypatch.chdir(tmp_path)
    engine = connect(f"sqlite:///{tmp_path / 'history.db'}")
    migrate(engine)
    people = ["ada", "=cmd|' /C calc'!A0", "bob"]
    with engine.begin() as conn:
        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id=who,
                    time_zone="UTC",
                    created_at=parse_moment("2026-01-01T00:00:00+00:00"),
                    attributes={"city": "Taipei" if who != "bob" else "Oslo"},
                )
                for who in people
            ],
        )
    engine.dispose()
    return tmp_path


def parse_moment(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_line_stores_counts_tags_and_exports(home: Path) -> None:
    city = {"name": "taipei", "condition": {"attribute": "city", "op": "==", "value": "Taipei"}}
    (home / "taipei.json").write_text(json.dumps(city))
    assert run("segment", "put", "taipei.json") == "segment taipei: version 1\n"
    assert run("segment", "list").split()[:3] == ["taipei", "version", "1"]
    assert run("segment", "size", "taipei") == "taipei: 2 customers\n"
    run("segment", "export", "taipei", "--out", "taipei.csv")
    with (home / "taipei.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["customer_id"], ["'=cmd|' /C calc'!A0"], ["ada"]]

    (home / "people.csv").write_text("customer_id\nbob\n")
    assert run("segment", "tag", "north", "people.csv") == "north: put on 1 customers\n"
    (home / "north.json").write_text(json.dumps({"name": "north", "condition": {"tag": "north"}}))
    run("segment", "put", "north.json")
    assert run("segment", "size", "north") == "north: 1 customers\n"


def test_a_file_that_cannot_be_written_is_one_line_and_exit_code_2(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "everybody.json").write_text(json.dumps({"name": "everybody", "condition": {"all": []}}))
    run("segment", "put", "everybody.json")
    monkeypatch.setattr(
        "sys.argv", ["nextchannel", "segment", "export", "everybody", "--out", "no/such/folder.csv"]
    )
    with pytest.raises(SystemExit) as ended:
        app()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "nextchannel: no/such/folder.csv.tmp: No such file or directory\n"


def test_a_segment_that_compares_a_feature_needs_the_list_of_features(home: Path) -> None:
    recent = {"name": "r", "condition": {"feature": "days_since_visit", "op": "<", "value": 3}}
    (home / "r.json").write_text(json.dumps(recent))
    failed = CliRunner().invoke(cli, ["segment", "put", "r.json"])
    assert isinstance(failed.exception, InvalidInputError)
    assert "materialize" in str(failed.exception)
    FeatureList(channels=(), attributes=()).save(home / "features" / "feature_list.json")
    assert run("segment", "put", "r.json") == "segment r: version 1\n"
    assert run("segment", "size", "r") == "r: 0 customers\n"


def test_a_segment_is_described_on_the_terminal(home: Path) -> None:
    city = {"name": "taipei", "condition": {"attribute": "city", "op": "==", "value": "Taipei"}}
    (home / "taipei.json").write_text(json.dumps(city))
    run("segment", "put", "taipei.json")
    said = run("segment", "describe", "taipei")
    assert said.startswith("taipei (version 1): 2 of 3 customers\n")
    assert "There are no features yet" in said
    assert "email             0% of 2 members,      0% of all customers (3 looked at)" in said
    run("materialize")
    assert "確定地區分" in run("segment", "describe", "taipei", "--language", "zh-Hant")
    refused = CliRunner().invoke(cli, ["segment", "describe", "taipei", "--language", "xx"])
    assert isinstance(refused.exception, InvalidInputError)
    missing = CliRunner().invoke(cli, ["segment", "describe", "taipei", "--campaign", "none"])
    assert isinstance(missing.exception, NotFoundError)
