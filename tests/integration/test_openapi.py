"""The committed description of the API is the one that the service gives."""

from __future__ import annotations

import copy
import json
import os

import pytest
from schemathesis.config import SchemathesisConfig

from serving.app import create_app
from tests import openapi_changes
from tests.chaos._schema_refusals import REFUSALS, write_configuration
from tests.openapi_changes import COMMITTED, changes, digest, main

ONE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@ONE_DATABASE
def test_the_committed_description_is_the_services_own(market):
    described = json.loads(json.dumps(create_app(market.service(start=False)).openapi()))
    described["info"]["version"] = "0"  # a release changes nothing for callers
    if os.environ.get("NEXTCHANNEL_WRITE_OPENAPI"):
        COMMITTED.write_text(json.dumps(described, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    committed = json.loads(COMMITTED.read_text())
    told = "\n".join(map(str, changes(committed, described))) or "only words and examples differ"
    assert committed == described, f"`make openapi` writes it anew; what callers will see:\n{told}"


@ONE_DATABASE
def test_whoever_is_to_come_again_is_told_in_the_description_where_it_says_when(market):
    described = create_app(market.service(start=False)).openapi()
    answers = described["paths"]["/v1/decisions"]["post"]["responses"]
    assert list(answers["429"]["headers"]) == [
        "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
    ]  # fmt: skip
    assert list(answers["503"]["headers"]) == ["Retry-After"]
    assert "headers" not in described["paths"]["/readyz"]["get"]["responses"]["503"]


OLD = {
    "paths": {
        "/a": {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/In"}}}},
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Out"}}}}
                },
            }
        }
    },
    "components": {
        "schemas": {
            "In": {
                "type": "object",
                "required": ["a"],
                "properties": {"a": {"type": "string", "enum": ["x", "y"]}, "b": {"type": "integer"}},
            },
            "Out": {"type": "object", "required": ["c"], "properties": {"c": {"type": "array", "items": {"type": "string"}}}},
        }
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("In", {"properties": {"a": {"type": "string", "enum": ["x", "y"]}}}, "BREAKING  POST /a request.b: is gone"),
        ("In", {"required": ["a", "b"]}, "BREAKING  POST /a request.b: is required now"),
        (
            "In",
            {"properties": OLD["components"]["schemas"]["In"]["properties"] | {"d": {"type": "string"}}},
            "additive  POST /a request.d: is new",
        ),
        (
            "In",
            {"properties": OLD["components"]["schemas"]["In"]["properties"] | {"a": {"type": "string", "enum": ["x"]}}},
            "BREAKING  POST /a request.a: is never 'y' any more",
        ),
        (
            "In",
            {"properties": OLD["components"]["schemas"]["In"]["properties"] | {"b": {"type": "integer", "maximum": 9}}},
            "BREAKING  POST /a request.b: maximum was None, is 9",
        ),
        ("Out", {"required": []}, "BREAKING  POST /a 200.c: may be missing now"),
        (
            "Out",
            {"properties": {"c": {"type": "array", "items": {"type": "integer"}}}},
            "BREAKING  POST /a 200.c[]: was string, is integer",
        ),
        ("Out", {"properties": {"c": {"type": "array", "items": {"type": "string"}}, "d": {}}}, "additive  POST /a 200.d: is new"),
    ],
)  # fmt: skip
def test_a_change_is_called_breaking_or_additive(name, changed, told):
    new = copy.deepcopy(OLD)
    new["components"]["schemas"][name] |= changed
    assert [str(one) for one in changes(OLD, new)] == [told]


def test_the_capitals_of_a_headers_name_change_nothing_for_callers():
    old, new = copy.deepcopy(OLD), copy.deepcopy(OLD)
    old["paths"]["/a"]["post"]["parameters"] = [
        {"in": "header", "name": "x-key"},
        {"in": "query", "name": "q"},
    ]
    new["paths"]["/a"]["post"]["parameters"] = [
        {"in": "header", "name": "X-Key"},
        {"in": "query", "name": "Q"},
    ]
    assert [str(one) for one in changes(old, new)] == [
        "BREAKING  POST /a query q: is not taken any more",
        "additive  POST /a query Q: may be given",
    ]


def test_a_route_that_goes_breaks_and_one_that_comes_does_not():
    new = copy.deepcopy(OLD)
    new["paths"]["/b"] = new["paths"].pop("/a")
    assert [str(one) for one in changes(OLD, new)] == [
        "BREAKING  POST /a: is gone",
        "additive  POST /b: is new",
    ]
    assert changes(OLD, OLD) == []


def test_a_change_that_breaks_callers_fails_unless_somebody_says_why(tmp_path, capsys, monkeypatch):
    accepted = tmp_path / "accepted.json"
    accepted.write_text("{}")
    monkeypatch.setattr(openapi_changes, "ACCEPTED", accepted)
    older = tmp_path / "older.json"
    older.write_text(COMMITTED.read_text())
    assert main([str(older)]) == 0
    described = json.loads(COMMITTED.read_text())
    described["paths"]["/v1/gone"] = {"get": {"responses": {}}}
    del described["paths"]["/v1/models"]
    older.write_text(json.dumps(described))
    assert main([str(older)]) == 1
    told = "BREAKING  GET /v1/gone: is gone\nadditive  GET /v1/models: is new\n"
    committed = digest(COMMITTED.read_bytes())
    assert capsys.readouterr().out == f"{told}accepted.json has no reason for {committed}\n"
    accepted.write_text(json.dumps({committed: "nobody called it"}))
    assert main([str(older)]) == 0
    assert capsys.readouterr().out == f"{told}meant: nobody called it\n"


def test_what_a_description_cannot_say_is_listed_by_operations_that_are_there(tmp_path):
    described = json.loads(COMMITTED.read_text())
    known = {f"{m.upper()} {path}" for path, operations in described["paths"].items() for m in operations}
    assert REFUSALS.keys() <= known
    configured = SchemathesisConfig.from_path(write_configuration(tmp_path)).projects.default.operations
    for operation in configured.operations:
        assert operation.checks.positive_data_acceptance.expected_statuses[-1] == "422"
    assert len(configured.operations) == len(REFUSALS)
