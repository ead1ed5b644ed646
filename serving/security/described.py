"""The keys in the OpenAPI description: which scope an operation needs, and what a caller without it is told."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from serving.problems import Problem
from serving.security.rules import RuleTable

_SCHEME = "key"
_REFUSALS = {
    "401": "No live key was sent.",
    "403": "The key lacks the scope.",
    "413": "The body is too large.",
    "415": "The body is of a type that is not read here.",
    "429": "The key asks too often; try again after `Retry-After` seconds.",
}
_LOCAL_TIME = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?$"
_PROBLEM_MEDIA = "application/problem+json"
_RETRY = {"Retry-After": "Seconds until it is worth asking again."}
# What a caller may read of a refusal, by status.
_HEADERS = {
    "429": {
        **_RETRY,
        "RateLimit-Limit": "Requests that the key may make at once after a pause.",
        "RateLimit-Remaining": "How many of them are left.",
        "RateLimit-Reset": "Seconds until all of them are there again.",
    },
    "503": _RETRY,
}
# No route names the model, so that FastAPI does not work it out for each.
_PROBLEM_SCHEMAS: dict[str, Any] = models_json_schema(
    [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
)[1]["$defs"]
_WITHOUT_BODY = ("401", "403", "429")


def describe_keys(app: FastAPI) -> None:
    """Add the security scheme, the scope of every operation, and the answers of the gate."""
    plain = app.openapi
    rules = RuleTable()

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = plain()
            components = described.setdefault("components", {})
            components["securitySchemes"] = {
                _SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`nextchannel keys create` makes a key. Scopes: decide, ingest, send, read, admin.",
                }
            }
            schemas = components.setdefault("schemas", {})
            components["schemas"] = dict(sorted((_PROBLEM_SCHEMAS | schemas).items()))
            _say_local_times(described)
            for path, operations in described["paths"].items():
                for method, operation in operations.items():
                    rule = rules.find(method.upper(), path)
                    if rule.scope is not None:
                        operation["security"] = [{_SCHEME: [rule.scope.value]}]
                        _add_refusals(operation)
                    _add_headers(operation)
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _say_local_times(described: Any) -> None:
    """Times of day are written without an offset, which the format `time` (RFC 3339) would ask for."""
    if isinstance(described, dict):
        if described.get("format") == "time":
            del described["format"]
            described["pattern"] = _LOCAL_TIME
        for inner in described.values():
            _say_local_times(inner)
    elif isinstance(described, list):
        for inner in described:
            _say_local_times(inner)


def _add_headers(operation: dict[str, Any]) -> None:
    for status, headers in _HEADERS.items():
        answer = operation["responses"].get(status, {})
        if _PROBLEM_MEDIA in answer.get("content", {}):
            answer["headers"] = {
                name: {"description": words, "schema": {"type": "integer", "minimum": 0}}
                for name, words in headers.items()
            }


def _add_refusals(operation: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Problem"}
    for status, words in _REFUSALS.items():
        if status in _WITHOUT_BODY or "requestBody" in operation:
            operation["responses"].setdefault(
                status, {"description": words, "content": {_PROBLEM_MEDIA: {"schema": schema}}}
            )
