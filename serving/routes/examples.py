"""Examples and error answers of the OpenAPI description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.problems import Problem
from serving.store.idempotency import KEY_FORM, LONGEST_KEY

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
    "shadow": None,
    "arbitration": None,
    "decided_with": None,
    "lost_to": None,
}
_BID = {
    "campaign_id": "spring",
    "campaign_version": 1,
    "decision_id": _CONTACT["decision_id"],
    "arm": "treatment",
    "policy": "bandit",
    "policy_version": "2026-02-28.1",
    "action": _ACTION,
    "net_value_minor": 32.9,
    "p_wins": 0.91,
    "won": True,
}
_ARBITRATED = _CONTACT | {
    "explanation": f"{_CONTACT['explanation']} It was chosen among the messages of 2 campaigns.",
    "arbitration": {
        "propensity": 0.87,
        "p_silence": 0.02,
        "bids": [
            _BID,
            _BID
            | {
                "campaign_id": "members",
                "campaign_version": 4,
                "decision_id": "7c1f0a52-31d4-5a8e-9f0a-3d8f6a1f2a10",
                "action": _ACTION | {"offer": "double_points"},
                "net_value_minor": 12.4,
                "p_wins": 0.07,
                "won": False,
            },
        ],
        "left_out": [],
    },
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


def _conflict(kind: str, title: str, detail: str, path: str) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind}",
        "title": title,
        "status": 409,
        "detail": detail,
        "instance": path,
        "errors": [],
    }


_KEY_REUSED = _conflict(
    "idempotency-key-reused",
    "The key belongs to another request",
    "the key 'basket-4711' belongs to another request: use a new key for a new request",
    "/v1/decisions",
)
_IN_PROGRESS = _conflict(
    "request-in-progress",
    "The same request is being executed",
    "the request with the key 'basket-4711' is being executed; ask again",
    "/v1/decisions/batch",
)
_INVALID = {
    "type": "/problems/invalid-input",
    "title": "A value breaks its bound",
    "status": 422,
    "detail": "customer_id == None, must be given, or else identity, and not both",
    "instance": "/v1/decisions",
    "errors": [
        {"field": "customer_id", "value": "None", "bound": "must be given, or else identity, and not both"}
    ],
}


def _problem(words: str, **examples: dict[str, Any]) -> dict[str, Any]:
    # `model` would have FastAPI work the schema out anew for each status of each route: half a second at every start.
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
    if examples:
        content["examples"] = {name: {"value": example} for name, example in examples.items()}
    return {"description": words, "content": {_PROBLEM_MEDIA: content}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: _problem("An id names nothing.", not_found=_NOT_FOUND),
    409: _problem(
        "The campaign has ended, the request contradicts what is recorded, or its idempotency key is taken.",
        key_reused=_KEY_REUSED,
        in_progress=_IN_PROGRESS,
    ),
    422: _problem("A field is wrong; `errors` names it.", invalid=_INVALID),
    429: _problem("Too many requests are under way; try again after `Retry-After` seconds."),
    503: _problem("The database cannot be reached; try again after `Retry-After` seconds."),
}

UNSIGNED: dict[int | str, dict[str, Any]] = {401: _problem("The signature is missing or wrong.")}

_ANSWERS: dict[str, dict[str, Any]] = {
    "/v1/decisions": {
        "contact": {"summary": "Contact", "value": _CONTACT},
        "no_contact": {"summary": "No contact: holdout", "value": _HOLDOUT},
        "excluded": {"summary": "No contact: every channel is excluded", "value": _EXCLUDED},
        "arbitrated": {"summary": "Contact by one of two campaigns", "value": _ARBITRATED},
    },
    "/v1/decisions/simulate": {
        "what_if": {
            "summary": "Without SMS, e-mail",
            "value": {
                "base": _CONTACT
                | {"dry_run": True, "action": _ACTION | {"channel": "sms"}, "expected": _EXPECTED},
                "what_if": _CONTACT | {"dry_run": True},
                "changed": ["action", "expected", "exclusions", "explanation"],
                "net_value_change_minor": -4.1,
            },
        },
        "no_contact": {
            "summary": "At that price, silence",
            "value": {
                "base": _CONTACT | {"dry_run": True},
                "what_if": _EXCLUDED | {"dry_run": True},
                "changed": ["action", "expected"],
                "net_value_change_minor": -32.9,
            },
        },
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


_ID = _CONTACT["decision_id"]


def _answers(answer: dict[str, Any], conflict: dict[str, Any] | None = None) -> dict[str, Any]:
    """Examples of an answer, and of a conflict where there can be one, by name."""

    def examples(media: str, named: dict[str, Any]) -> dict[str, Any]:
        return {"content": {media: {"examples": {name: {"value": value} for name, value in named.items()}}}}

    responses = {"200": examples("application/json", answer)}
    if conflict is not None:
        responses["409"] = examples(_PROBLEM_MEDIA, conflict)
    return {"responses": responses}


def _handover(state: str, verb: str, wrong: str) -> dict[str, Any]:
    """The answer of a move to `state`, and the conflict with another state."""
    other = "cancelled" if state == "sent" else "sent"
    moved = {
        "decision_id": _ID,
        "message_id": "0d9c3f0e-6f43-5d0b-9c39-3c6f6d1f2a10",
        "state": state,
        "channel": "email",
        "send_at": "2026-03-02T01:00:00Z",
        "expires_at": "2026-03-02T07:00:00Z",
        "settled_at": "2026-03-02T01:00:04Z",
    }
    refused = _conflict(
        "state",
        "States only go forward",
        f"decision {_ID} is {other}, it cannot become {state}",
        f"/v1/decisions/{_ID}/{verb}",
    )
    return _answers({state: moved}, {wrong: refused})


ACTIVATED = _handover("sent", "activate", "cancelled_before")
CANCELLED = _handover("cancelled", "cancel", "sent_before")
_LISTED_DECISION = {
    "decision_id": _ID,
    "customer_id": "c-1001",
    "campaign_id": "spring",
    "campaign_version": 1,
    "decided_at": "2026-03-01T14:12:03.412Z",
    "offer_id": "spring_coats",
    "channel": "email",
    "slot": 1,
    "send_at": "2026-03-02T01:00:00Z",
    "expires_at": "2026-03-02T07:00:00Z",
    "propensity": 0.87,
    "cost_minor": 0.01,
    "net_value_minor": 32.9,
    "arm": "treatment",
    "mode": "live",
    "policy": "bandit",
    "policy_version": "2026-02-28.1",
    "degraded": [],
    "parent_id": None,
    "message_status": "sent",
}
LISTED = _answers(
    {
        "page": {
            "decisions": [_LISTED_DECISION],
            "next_cursor": "WzE3NzIzNzQzMjM0MTIwMDAsIjAxYTIwMTljIl0",
        }
    }
)

_MODEL = {
    "version": 7,
    "aliases": ["champion"],
    "bundle_version": "f831ca11d53b678b",
    "created_at": "2026-02-28T03:10:00Z",
}
_NEWER_MODEL = _MODEL | {"version": 8, "aliases": ["challenger"], "bundle_version": "0f6bb3c18a9d2e41"}
MODELS = _answers(
    {"page": {"models": [_NEWER_MODEL, _MODEL], "next_cursor": None, "serving": _MODEL["bundle_version"]}}
)
MODEL_CONFLICTS = _answers(
    {"champion": _MODEL},
    {
        "nothing_before": _conflict(
            "conflict",
            "The request contradicts what is recorded",
            "there is no former champion to roll back to",
            "/v1/models:rollback",
        )
    },
)

# A simulation creates nothing.
_KEYLESS = frozenset({"/v1/decisions/simulate"})
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": KEY_FORM},
    "description": "Your own word for this request: repeated within 24 hours it gives the same answer.",
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
            for path, operations in described["paths"].items():
                for method, operation in operations.items():
                    if method == "post" and path.startswith("/v1/") and path not in _KEYLESS:
                        operation.setdefault("parameters", []).append(_KEY)
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
        "several_campaigns": {"customer_id": "c-1001", "campaigns": ["spring", "members"]},
        "caller_sends": {"customer_id": "c-1001", "campaign_id": "spring", "send": "caller"},
        "in_a_hurry": {"customer_id": "c-1001", "campaign_id": "spring", "deadline_ms": 50},
    }
)
STREAMED: dict[str, Any] = {
    "requestBody": {
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One request a line, as in `requests`."},
                "examples": {
                    "two": {
                        "value": '{"customer_id": "c-1001", "campaign_id": "spring"}\n'
                        '{"customer_id": "c-1002", "campaign_id": "spring"}\n'
                    }
                },
            }
        }
    },
    "responses": {
        "200": {
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One outcome a line, as in `outcomes`."}
                }
            }
        }
    },
}
SIMULATIONS = _body(
    {
        "channel_off": {
            "request": {"customer_id": "c-1001", "campaign_id": "spring"},
            "overrides": {"channels": {"sms": {"enabled": False}}},
        },
        "dearer_and_later": {
            "request": {"customer_id": "c-1001", "campaigns": ["spring", "members"]},
            "overrides": {
                "now": "2026-03-03T10:00:00Z",
                "channels": {"email": {"cost_minor": 40}},
                "campaigns": {"spring": {"margin_minor": {"spring_coats": 9000}, "budget_minor": None}},
            },
        },
    }
)

_CAMPAIGN = {
    "campaign_id": "spring",
    # Far ahead: a campaign whose window has closed is not stored, and an example is there to be tried.
    "send_window": {"starts_at": "2026-03-01T00:00:00Z", "ends_at": "2099-04-01T00:00:00Z"},
    "slots": ["09:00:00", "18:00:00"],
    "offers": [
        {
            "offer_id": "spring_coats",
            "margin_minor": 3000,
            "content": {
                "text": {
                    "subject": "Coats",
                    "body": "Coats are in.",
                    "link_url": "https://shop.example/coats",
                }
            },
        }
    ],
    "channels": ["email", "sms"],
    "experiment": {"experiment_id": "spring", "holdout_share": 0.1},
    "conversion_value_minor": 3000,
}
CAMPAIGNS = _body({"campaign": {"campaign": _CAMPAIGN}})
CHANNEL_CHANGES = _body(
    {
        "cost": {"cost_minor": 1.45, "cost_source": "our contract, 2026-03"},
        "capacity": {"capacity_per_day": 500},
        "off": {"enabled": False},
    }
)

_FORECAST = {
    "as_of": "2026-03-01T14:12:05.101Z",
    "n_members": 48_210,
    "n_sampled": 20_000,
    "contacts": {"email": 21_877.2, "sms": 9_998.6},
    "cost_minor": 14_716.7,
    "net_value_minor": 1_204_331.8,
    "most_minor": 1_204_340.2,
    "shadow_prices": {"sms": 6.4},
}
SHADOW_PRICES = {
    "responses": {
        "200": {
            "content": {
                "application/json": {
                    "examples": {
                        "sms_is_scarce": {
                            "value": {
                                "paced": True,
                                "as_of": "2026-03-02T14:12:03.412Z",
                                "n_expected": {"spring": 61250.0},
                                "scarce": [
                                    {
                                        "channel": "sms",
                                        "day": "2026-03-02",
                                        "campaign_id": None,
                                        "left": 312.0,
                                        "shadow_price_minor": 6.4,
                                    },
                                    {
                                        "channel": "sms",
                                        "day": "2026-03-03",
                                        "campaign_id": None,
                                        "left": 1000.0,
                                        "shadow_price_minor": 6.1,
                                    },
                                ],
                                "prices": {"spring": {"sms": 6.4}},
                            }
                        }
                    }
                }
            }
        }
    }
}

PLANS = _body(
    {
        "gold_members": {"campaign_id": "spring", "segment": "gold"},
        "look_first": {"campaign_id": "spring", "segment": "gold", "start": False},
        "everybody": {"campaign_id": "spring"},
    }
) | {
    "responses": {
        "202": {
            "content": {
                "application/json": {
                    "examples": {
                        "made": {
                            "value": {
                                "plan_id": _ID,
                                "campaign_id": "spring",
                                "segment": "gold",
                                "status": "forecasting",
                                "created_at": "2026-03-01T14:12:03.412Z",
                                "started_at": None,
                                "ended_at": None,
                                "forecast": None,
                                "shadow_prices": {},
                                "n_members": None,
                                "n_decided": 0,
                                "contacts": {},
                                "cost_minor": 0.0,
                                "net_value_minor": None,
                                "n_problems": 0,
                                "problem": None,
                            }
                        }
                    }
                }
            }
        }
    }
}
INCENTIVES = _body(
    {
        "one_code_a_customer": {
            "incentive": {
                "title": {"en": "10 % off", "zh-Hant": "九折", "ja": "1割引"},
                "coupon": {"codes": "generated"},
                "valid_until": "2026-04-01T00:00:00Z",
                "cost_minor": 300.0,
            }
        }
    }
)
OCCASIONS = _body(
    {
        "birthday": {
            "occasion": {
                "campaign_id": "birthday",
                "date": {"attribute": "birth_date", "days": -3, "at": "09:00:00"},
                "catch_up_days": 2,
            }
        },
        "warranty": {
            "occasion": {
                "campaign_id": "care",
                "date": {"attribute": "warranty_ends", "every_year": False, "days": -30},
            }
        },
        "referral": {"occasion": {"campaign_id": "thanks", "referral": {}}},
        "care": {
            "occasion": {
                "campaign_id": "care",
                "after": {
                    "fact": {"kind": "purchased"},
                    "seconds": 1_209_600,
                    "unless": [{"kind": "issue_raised", "attributes": {"about": "return"}}],
                },
            }
        },
    }
)
REDEMPTIONS = _body(
    {
        "at_the_till": {
            "source": "till-7",
            "event_id": "r-2026-03-02-0192",
            "code": "7KQ2-M9XW-HB4P",
            "shop_id": "taipei-main",
            "value_minor": 4_900.0,
            "order_id": "o-55120",
        }
    }
)
SEGMENTS = _body(
    {
        "gold_and_here": {
            "description": "Gold members who came by in the last 30 days",
            "condition": {
                "all": [
                    {"attribute": "tier", "op": "==", "value": "gold"},
                    {"interactions": {"kind": "visited", "within_days": 30}},
                ]
            },
        }
    }
)
ANSWERS = _body(
    {
        "keywords_and_office_hours": {
            "answers": {
                "groups": [
                    {
                        "keywords": ["Opening hours", "hours"],
                        "content": {"body": "Every day from nine to six."},
                    },
                    {
                        "keywords": ["Orders"],
                        "content": {"body": "What about your order, {{ first_name }}?"},
                        "groups": [
                            {"keywords": ["Status"], "link_url": "https://shop.example/orders"},
                            {"keywords": ["Returns"], "content": {"body": "Within thirty days."}},
                        ],
                    },
                ],
                "fields": {"first_name": "dear customer"},
                "office": {
                    "time_zone": "Asia/Taipei",
                    "hours": {
                        "mon": [
                            {"opens": "09:00", "closes": "12:00"},
                            {"opens": "13:00", "closes": "18:00"},
                        ]
                    },
                    "closed_on": ["2026-10-10"],
                },
            }
        }
    }
)
REGISTRATIONS = _body(
    {
        "person": {
            "source": "crm",
            "customers": [
                {
                    "customer_id": "c-1001",
                    "time_zone": "Asia/Taipei",
                    "created_at": "2025-11-03T00:00:00Z",
                    "attributes": {"tier": "gold", "age": 41},
                    "identities": [{"kind": "email", "value": "ada@example.com"}],
                    "consents": [{"channel": "email", "status": "granted"}],
                }
            ],
        }
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
        },
        "by_cookie": {
            "interactions": [
                {
                    "source": "site",
                    "event_id": "view-4711",
                    "identity": {"kind": "cookie", "value": "7f9c24e5"},
                    "kind": "viewed",
                    "occurred_at": "2026-03-02T10:09:12Z",
                    "attributes": {
                        "page": "/coats/spring",
                        "utm_source": "search",
                        "utm_term": "spring coat",
                    },
                }
            ]
        },
    }
)
