"""Examples and error answers of the OpenAPI description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.problems import Problem

# FastAPI's own types for these are `dict[str, Any]`: they are JSON, not records of ours.
_PROBLEM_MEDIA = "application/problem+json"

_EXPECTED = {
    "p_open": 0.31,
    "p_convert": 0.052,
    "p_convert_no_contact": 0.041,
    "uplift": 0.011,
    "cost_minor": 0.01,
    "net_value_minor": 32.9,
}
_SILENT = {
    "p_open": None,
    "p_convert": 0.041,
    "p_convert_no_contact": 0.041,
    "uplift": 0.0,
    "cost_minor": 0.0,
    "net_value_minor": 0.0,
}
_ACTION = {
    "offer": "spring_coats",
    "channel": "email",
    "slot": 1,
    "send_at": "2026-03-02T01:00:00Z",
    "expires_at": "2026-03-02T07:00:00Z",
}
_CONTACT = {
    "decision_id": "01a2019c-ff02-74e0-82f9-fc1c4292b790",
    "customer_id": "c-1001",
    "campaign_id": "spring",
    "campaign_version": 1,
    "decided_at": "2026-03-01T14:12:03.412Z",
    "action": _ACTION,
    "propensity": 0.87,
    "expected": _EXPECTED,
    "alternatives": [{"action": None, "propensity": 0.06, "expected": _SILENT}],
    "exclusions": [
        {
            "reason": "no_identity",
            "words": "the customer has no account on this channel",
            "offer": None,
            "channel": "sms",
            "slot": None,
        }
    ],
    "arm": "treatment",
    "mode": "live",
    "policy": "bandit",
    "policy_version": "2026-02-28.1",
    "degraded": [],
    "explanation": (
        "Send spring_coats by email at Mon 2 Mar 09:00: it is expected to earn 0.33 USD more than no contact, "
        "the most of 7 candidates; next came no contact."
    ),
    "parent_id": None,
    "dry_run": False,
}
_HOLDOUT = _CONTACT | {
    "action": None,
    "propensity": 1.0,
    "expected": _SILENT,
    "alternatives": [{"action": _ACTION, "propensity": 0.0, "expected": _EXPECTED}],
    "exclusions": [],
    "arm": "holdout",
    "policy": "holdout",
    "policy_version": "1",
    "explanation": (
        "No contact: the customer is in the holdout, which is never contacted, so that we know what contact adds."
    ),
}
_EXCLUDED = _CONTACT | {
    "action": None,
    "propensity": 1.0,
    "expected": _SILENT,
    "alternatives": [],
    "exclusions": [
        {
            "reason": "no_consent",
            "words": "the customer has not agreed to this channel for this purpose",
            "offer": None,
            "channel": "email",
            "slot": None,
        }
    ],
    "explanation": (
        "No contact: no channel is left, because the customer has not agreed to this channel for this purpose "
        "(email)."
    ),
}
_NOT_FOUND = {
    "type": "/problems/not-found",
    "title": "Nothing is recorded under this id",
    "status": 404,
    "detail": "customer_id == 'c-0', must name something that exists",
    "instance": "/v1/decisions",
    "errors": [{"field": "customer_id", "value": "c-0", "bound": "must name something that exists"}],
}


def _problem(words: str, example: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["examples"] = {"problem": {"value": example}}
    return {"description": words, "model": Problem, "content": {_PROBLEM_MEDIA: content}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: _problem("An id names nothing.", _NOT_FOUND),
    409: _problem("The campaign has ended, or the request contradicts what is recorded."),
    422: _problem("A field is wrong; `errors` names it."),
    429: _problem("Too many requests are under way; try again after `Retry-After` seconds."),
    503: _problem("The database cannot be reached; try again after `Retry-After` seconds."),
}

_ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/decisions": {
        "contact": {"summary": "Contact", "value": _CONTACT},
        "no_contact": {"summary": "No contact: holdout", "value": _HOLDOUT},
        "excluded": {"summary": "No contact: every channel is excluded", "value": _EXCLUDED},
    },
    "/v1/decisions/batch": {
        "mixed": {
            "summary": "A decision and a problem",
            "value": {
                "outcomes": [
                    {"decision": _CONTACT, "problem": None},
                    {"decision": None, "problem": _NOT_FOUND},
                ]
            },
        }
    },
}


def describe_answers(app: FastAPI) -> None:
    """Put the examples of answers into the description, and the media type of problems right.

    FastAPI drops every null from examples that it is given, and `"action": null` is the answer *no contact*; and
    it describes every answer that has a model as `application/json` too.
    """
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = plain()
            for path, examples in _ANSWERS.items():
                answer = described["paths"][path]["post"]["responses"]["200"]
                answer["content"]["application/json"]["examples"] = examples
            for operations in described["paths"].values():
                for operation in operations.values():
                    for answer in operation["responses"].values():
                        if _PROBLEM_MEDIA in answer.get("content", {}):
                            answer["content"].pop("application/json", None)
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _body(examples: dict[str, Any]) -> dict[str, Any]:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}


REQUESTS = _body(
    {
        "by_customer": {"customer_id": "c-1001", "campaign_id": "spring"},
        "by_identity": {
            "identity": {"kind": "email", "value": "ada@example.com"},
            "campaign_id": "spring",
            "dry_run": True,
        },
    }
)

INTERACTIONS = _body(
    {
        "conversion": {
            "interactions": [
                {
                    "source": "shop",
                    "event_id": "order-77",
                    "customer_id": "c-1001",
                    "kind": "converted",
                    "occurred_at": "2026-03-02T10:15:00Z",
                    "campaign_id": "spring",
                    "value_minor": 3990,
                }
            ]
        }
    }
)
