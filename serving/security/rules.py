"""Which scope every route needs: the one table, and what the limits and figures call a route.

A route that is in no row needs `admin`; a test fails while there is one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serving.security.keys import Scope

JSON = ("application/json",)
NDJSON = "application/x-ndjson"
FORM = ("application/x-www-form-urlencoded", "multipart/form-data")
ANY: tuple[str, ...] = ()

# Labels of what no row names: figures count it, and nobody can make new labels by asking for new paths.
UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Rule:
    """One route.

    Attributes:
        method: HEAD is treated as GET.
        path: As the router has it; `{name}` is one segment, `{name:path}` the rest.
        scope: What a key must be good for; None for everybody.
        media: Content types that a body may have; empty for any.
        page: Made for a browser: who is not signed in is sent to the sign-in page.
    """

    method: str
    path: str
    scope: Scope | None
    media: tuple[str, ...] = JSON
    page: bool = False


RULES: tuple[Rule, ...] = (
    Rule("POST", "/v1/decisions", Scope.DECIDE),
    Rule("POST", "/v1/decisions/batch", Scope.DECIDE, (*JSON, NDJSON)),
    Rule("GET", "/v1/decisions", Scope.READ),
    Rule("POST", "/v1/decisions/simulate", Scope.DECIDE),
    Rule("GET", "/v1/decisions/{decision_id}", Scope.READ),
    Rule("POST", "/v1/decisions/{decision_id}/activate", Scope.SEND),
    Rule("POST", "/v1/decisions/{decision_id}/cancel", Scope.SEND),
    Rule("POST", "/v1/interactions", Scope.INGEST),
    Rule("GET", "/v1/campaigns", Scope.READ),
    Rule("POST", "/v1/campaigns", Scope.ADMIN),
    Rule("GET", "/v1/campaigns/{campaign_id}", Scope.READ),
    Rule("PUT", "/v1/campaigns/{campaign_id}", Scope.ADMIN),
    Rule("GET", "/v1/campaigns/{campaign_id}/versions", Scope.READ),
    Rule("POST", "/v1/campaigns/{campaign_id}/preview", Scope.READ),
    Rule("GET", "/v1/campaigns/{campaign_id}/offers/{offer_id}/incentive", Scope.READ),
    Rule("PUT", "/v1/campaigns/{campaign_id}/offers/{offer_id}/incentive", Scope.ADMIN),
    Rule("DELETE", "/v1/campaigns/{campaign_id}/offers/{offer_id}/incentive", Scope.ADMIN),
    Rule("POST", "/v1/campaigns/{campaign_id}/offers/{offer_id}/codes", Scope.ADMIN),
    Rule("GET", "/v1/campaigns/{campaign_id}/offers/{offer_id}/answers", Scope.READ),
    Rule("POST", "/v1/decisions/{decision_id}/voucher", Scope.SEND),
    Rule("GET", "/v1/decisions/{decision_id}/voucher", Scope.READ),
    Rule("POST", "/v1/redemptions", Scope.INGEST),
    Rule("GET", "/v1/redemptions/{code}", Scope.INGEST),
    Rule("GET", "/v1/channels", Scope.READ),
    Rule("GET", "/v1/channels/{name}", Scope.READ),
    Rule("PUT", "/v1/channels/{name}", Scope.ADMIN),
    Rule("PATCH", "/v1/channels/{name}", Scope.ADMIN),
    Rule("GET", "/v1/channels/{name}/answers", Scope.READ),
    Rule("PUT", "/v1/channels/{name}/answers", Scope.ADMIN),
    Rule("DELETE", "/v1/channels/{name}/answers", Scope.ADMIN),
    Rule("POST", "/v1/channels/{name}/answers/try", Scope.READ),
    Rule("GET", "/v1/chats", Scope.SEND),
    Rule("GET", "/v1/chats/{chat_id}", Scope.SEND),
    Rule("POST", "/v1/chats/{chat_id}/take", Scope.SEND),
    Rule("POST", "/v1/chats/{chat_id}/say", Scope.SEND),
    Rule("POST", "/v1/chats/{chat_id}/end", Scope.SEND),
    Rule("GET", "/v1/segments", Scope.READ),
    Rule("GET", "/v1/segments/{name}", Scope.READ),
    Rule("PUT", "/v1/segments/{name}", Scope.ADMIN),
    Rule("GET", "/v1/segments/{name}/size", Scope.READ),
    Rule("GET", "/v1/segments/{name}/profile", Scope.READ),
    Rule("GET", "/v1/segments/{name}/members", Scope.READ),
    Rule("GET", "/v1/segments/{name}/members/{customer_id}", Scope.READ),
    Rule("POST", "/v1/segments/{name}/decisions", Scope.DECIDE),
    Rule("GET", "/v1/plans", Scope.READ),
    Rule("POST", "/v1/plans", Scope.DECIDE),
    Rule("GET", "/v1/plans/{plan_id}", Scope.READ),
    Rule("POST", "/v1/plans/{plan_id}/start", Scope.DECIDE),
    Rule("POST", "/v1/plans/{plan_id}/pause", Scope.DECIDE),
    Rule("POST", "/v1/plans/{plan_id}/cancel", Scope.DECIDE),
    Rule("GET", "/v1/occasions", Scope.READ),
    Rule("GET", "/v1/occasions/{name}", Scope.READ),
    Rule("PUT", "/v1/occasions/{name}", Scope.ADMIN),
    Rule("DELETE", "/v1/occasions/{name}", Scope.ADMIN),
    Rule("GET", "/v1/occasions/{name}/preview", Scope.READ),
    Rule("GET", "/v1/shadow-prices", Scope.READ),
    Rule("POST", "/v1/tags", Scope.INGEST),
    Rule("POST", "/v1/receipts/{channel}", None, ANY),
    Rule("GET", "/v1/receipts/{channel}", None),
    Rule("GET", "/calls", Scope.SEND, page=True),
    Rule("GET", "/calls/{task_id}", Scope.SEND, page=True),
    Rule("POST", "/calls/{task_id}/take", Scope.SEND, FORM, page=True),
    Rule("POST", "/calls/{task_id}/outcome", Scope.SEND, FORM, page=True),
    Rule("GET", "/chats", Scope.SEND, page=True),
    Rule("GET", "/chats/{chat_id}", Scope.SEND, page=True),
    Rule("POST", "/chats/{chat_id}/take", Scope.SEND, FORM, page=True),
    Rule("POST", "/chats/{chat_id}/say", Scope.SEND, FORM, page=True),
    Rule("POST", "/chats/{chat_id}/end", Scope.SEND, FORM, page=True),
    Rule("GET", "/segments", Scope.READ, page=True),
    Rule("GET", "/segments/{name}", Scope.READ, page=True),
    Rule("GET", "/occasions", Scope.READ, page=True),
    Rule("GET", "/occasions/{name}", Scope.READ, page=True),
    Rule("GET", "/plans", Scope.READ, page=True),
    Rule("POST", "/plans", Scope.DECIDE, FORM, page=True),
    Rule("GET", "/plans/{plan_id}", Scope.READ, page=True),
    Rule("POST", "/plans/{plan_id}/start", Scope.DECIDE, FORM, page=True),
    Rule("POST", "/plans/{plan_id}/pause", Scope.DECIDE, FORM, page=True),
    Rule("POST", "/plans/{plan_id}/cancel", Scope.DECIDE, FORM, page=True),
    Rule("POST", "/v1/customers", Scope.INGEST),
    Rule("GET", "/v1/customers/{customer_id}", Scope.READ),
    Rule("DELETE", "/v1/customers/{customer_id}", Scope.ADMIN),
    Rule("GET", "/v1/customers/{customer_id}/history", Scope.READ),
    Rule("GET", "/v1/customers/{customer_id}/consents", Scope.READ),
    Rule("POST", "/v1/customers/{customer_id}/consents", Scope.INGEST),
    Rule("GET", "/v1/customers/{customer_id}/export", Scope.ADMIN),
    Rule("POST", "/v1/customers/{customer_id}/erase", Scope.ADMIN),
    Rule("POST", "/v1/identities:link", Scope.INGEST),
    Rule("GET", "/v1/identities/conflicts", Scope.READ),
    Rule("GET", "/v1/report", Scope.READ),
    Rule("GET", "/v1/experiments/{experiment_id}/report", Scope.READ),
    Rule("GET", "/v1/lifecycle", Scope.READ),
    Rule("GET", "/v1/lifecycle/channels", Scope.READ),
    Rule("GET", "/v1/models", Scope.READ),
    Rule("GET", "/v1/models/{version}", Scope.READ),
    Rule("POST", "/v1/models/{version}/promote", Scope.ADMIN),
    Rule("POST", "/v1/models:rollback", Scope.ADMIN),
    Rule("GET", "/metrics", Scope.READ),
    Rule("GET", "/v1/clock", Scope.READ),
    Rule("PUT", "/v1/clock", Scope.ADMIN),
    Rule("GET", "/", Scope.READ, page=True),
    Rule("GET", "/lifecycle", Scope.READ, page=True),
    Rule("GET", "/decisions/{decision_id}", Scope.READ, page=True),
    Rule("GET", "/customers/{customer_id}", Scope.READ, page=True),
    # Open: whoever asks has no key.
    Rule("GET", "/healthz", None),
    Rule("GET", "/readyz", None),
    Rule("GET", "/sign-in", None),
    Rule("POST", "/sign-in", None, FORM),
    Rule("POST", "/sign-out", None, FORM),
    Rule("GET", "/static/{path:path}", None),
    Rule("GET", "/docs", None),
    Rule("GET", "/docs/static/{path:path}", None),
    Rule("GET", "/openapi.json", None),
    # Open: the token in the address is signed.
    Rule("GET", "/t/o/{text}.gif", None),
    Rule("GET", "/t/c/{text}", None),
    Rule("GET", "/u/{text}", None),
    Rule("POST", "/u/{text}", None, ANY),
    Rule("GET", "/r/{text}", None),
    Rule("GET", "/r/{text}/code.png", None),
    Rule("POST", "/r/{text}", None, FORM),
)

_PARAMETER = re.compile(r"\{\w+(:path)?\}")


class RuleTable:
    """Finds the rule of a request: rows without a parameter come first, then the others in their order."""

    def __init__(self, rules: Sequence[Rule] = RULES) -> None:
        self._fixed = {(rule.method, rule.path): rule for rule in rules if "{" not in rule.path}
        self._methods: dict[str, tuple[str, ...]] = {}
        for rule in rules:
            if "{" not in rule.path:
                self._methods[rule.path] = (*self._methods.get(rule.path, ()), rule.method)
        self._others = [(rule, pattern(rule.path)) for rule in rules if "{" in rule.path]

    def find(self, method: str, path: str) -> Rule:
        """The rule; for what no row names one that asks for `admin`."""
        if method == "HEAD":
            method = "GET"
        found = self._fixed.get((method, path))
        if found is not None:
            return found
        for rule, expression in self._others:
            if rule.method == method and expression.fullmatch(path):
                return rule
        return Rule(method, UNLISTED, Scope.ADMIN, ANY)

    def others(self, rule: Rule, path: str) -> tuple[str, ...]:
        """The methods of a path, where the one that is asked for is none of them; none of a path that has none.

        Args:
            rule: What `find` gave for the request.
            path: Of the request.
        """
        known = self._methods.get(path)
        if known is not None:
            return () if rule.method in known else known
        if rule.path != UNLISTED:
            return ()
        return tuple(other.method for other, expression in self._others if expression.fullmatch(path))


def pattern(path: str) -> re.Pattern[str]:
    """The expression that the paths of a route match as a whole."""
    text, end = "", 0
    for found in _PARAMETER.finditer(path):
        text += re.escape(path[end : found.start()]) + (".*" if found.group(1) else "[^/]+")
        end = found.end()
    return re.compile(text + re.escape(path[end:]), re.DOTALL)
