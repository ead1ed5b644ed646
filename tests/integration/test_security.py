"""Keys, scopes, limits and pages of the real application."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from time import monotonic, sleep

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from features.history.tables import api_keys
from models.domain.errors import ConflictError, InvalidInputError, NotFoundError
from serving.app import create_app
from serving.observability.logs import LogFormat, configure
from serving.security.gate import Gate
from serving.security.key_ring import REFRESH_SECONDS
from serving.security.keys import NewKey, Scope, create_key, list_keys, revoke_key, rotate_key
from serving.security.protection import Protection
from serving.security.rules import RULES
from serving.security.sessions import Sessions

ONE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
ASK = {"customer_id": "ada", "campaign_id": "spring", "dry_run": True}


def eventually(check: Callable[[], bool], seconds: float = 20) -> bool:
    end = monotonic() + seconds
    while not check() and monotonic() < end:
        sleep(0.05)
    return check()


@pytest.fixture
def make_key(market) -> Callable[..., NewKey]:
    def make(*scopes: Scope, name: str = "shop", **more) -> NewKey:
        with market.engine.begin() as conn:
            return create_key(conn, name, scopes, market.now, **more)

    return make


@pytest.fixture
def open_app(market) -> Iterator[Callable[..., TestClient]]:
    """Applications over the market; each is a replica."""
    opened: list[TestClient] = []

    def make(**protection) -> TestClient:
        service = market.service(start=False, protection=Protection(**protection))
        client = TestClient(create_app(service), raise_server_exceptions=False, follow_redirects=False)
        client.__enter__()
        market.opened.remove(service)
        opened.append(client)
        client.service = service
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def by(key: NewKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.text}"}


def refused(answer: httpx.Response, status: int, kind: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "instance", "errors"}
    assert document["type"] == f"/problems/{kind}"
    return document


def test_every_route_is_in_the_table_and_every_row_is_a_route(market):
    app = create_app(market.service())
    routes: set[tuple[str, str]] = set()
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        if hasattr(route, "original_router"):  # how FastAPI keeps a router that was included
            waiting += route.original_router.routes
        elif isinstance(route, Mount):
            routes.add(("GET", f"{route.path}/{{path:path}}"))
        else:
            routes |= {(method, route.path) for method in route.methods - {"HEAD"}}
    described = {
        (method.upper(), path) for path, operations in app.openapi()["paths"].items() for method in operations
    }
    rows = {(rule.method, rule.path) for rule in RULES}
    assert described <= rows, "a route is in no row of serving/security/rules.py"
    assert routes <= rows, "a route is in no row of serving/security/rules.py"
    assert rows <= routes, "a row of serving/security/rules.py names no route"


@ONE_DATABASE
def test_without_any_key_this_machine_alone_is_answered(market, open_app, caplog):
    api = open_app()
    assert "nextchannel keys create" in caplog.text
    assert api.get("/v1/campaigns").status_code == 200
    assert api.get("/readyz").json()["keys_required"] is False
    for header in (
        {"Host": "evil.test"},  # DNS rebinding
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
    ):
        refused(api.get("/v1/campaigns", headers=header), 401, "unauthenticated")


@ONE_DATABASE
def test_beyond_this_machine_keys_are_needed_from_the_start(open_app):
    api = open_app(host="0.0.0.0")  # noqa: S104 - what a container listens on
    refused(api.get("/v1/campaigns"), 401, "unauthenticated")
    assert api.get("/readyz").json()["keys_required"] is True


def test_the_first_key_closes_the_service(market, open_app, make_key):
    api = open_app()
    key = make_key(Scope.READ)
    assert eventually(lambda: api.get("/v1/campaigns").status_code == 401)
    assert api.get("/v1/campaigns", headers=by(key)).status_code == 200
    with market.engine.begin() as conn:
        revoke_key(conn, "shop", market.now)
    # It does not open again when no live key is left.
    assert eventually(lambda: api.get("/v1/campaigns", headers=by(key)).status_code == 401)
    assert api.get("/v1/campaigns").status_code == 401


def test_a_revoked_key_is_refused_by_every_replica_soon(market, open_app, make_key):
    key = make_key(Scope.READ)
    replicas = [open_app(), open_app()]
    for api in replicas:
        assert api.get("/v1/channels", headers=by(key)).status_code == 200
    with market.engine.begin() as conn:
        assert revoke_key(conn, key.key.key_id, market.now) == [key.key.key_id]
    assert all(
        eventually(lambda api=api: api.get("/v1/channels", headers=by(key)).status_code == 401)
        for api in replicas
    )
    assert REFRESH_SECONDS <= 1.0  # and a query: within two seconds


@ONE_DATABASE
@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.scope is not None], ids=lambda r: f"{r.method} {r.path}"
)
def test_a_route_takes_its_own_scope_and_no_other(market, open_app, make_key, rule):
    market.customers("ada")
    market.campaign()
    keys = {scope: make_key(scope, name=scope.value) for scope in Scope}
    api = open_app()
    path = re.sub(r"\{\w+\}", "01a2019c-ff02-74e0-82f9-fc1c4292b790", rule.path)
    for scope, key in keys.items():
        answer = api.request(rule.method, path, headers=by(key), json={} if rule.method == "POST" else None)
        if scope in (rule.scope, Scope.ADMIN):
            assert answer.status_code not in (401, 403, 303)
        else:
            document = refused(answer, 403, "forbidden")
            assert rule.scope.value in document["detail"]
    answer = api.request(rule.method, path)
    if rule.page:
        assert (answer.status_code, answer.headers["location"][:14]) == (303, "/sign-in?next=")
    else:
        refused(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@ONE_DATABASE
@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.scope is None], ids=lambda r: f"{r.method} {r.path}"
)
def test_open_routes_ask_for_no_key(open_app, make_key, rule):
    make_key(Scope.READ)
    api = open_app()
    path = rule.path.replace("{text}", "forged").replace("{path:path}", "dashboard.css")
    assert api.request(rule.method, path).status_code not in (401, 429, 500)


@ONE_DATABASE
def test_a_wrong_key_opens_nothing(open_app, make_key):
    key = make_key(Scope.ADMIN)
    api = open_app()
    text = key.text
    for wrong in (
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text.replace(key.key.key_id, "aaaaaaaaaa"),
        text.upper(),
        key.key.digest,
        key.key.key_id,
        f"nck_{key.key.key_id}_",
        "x" * 10_000,
        "",
    ):
        refused(api.get("/v1/channels", headers={"Authorization": f"Bearer {wrong}"}), 401, "unauthenticated")
    refused(api.get("/v1/channels", headers={"Authorization": f"Basic {text}"}), 401, "unauthenticated")
    refused(api.get(f"/v1/channels?key={text}"), 401, "unauthenticated")
    refused(api.get("/v1/channels", headers={b"Authorization": b"Bearer \xff\xfe"}), 401, "unauthenticated")
    assert api.get("/v1/channels", headers={"Authorization": f"bearer  {text}"}).status_code == 200


def test_only_the_hash_of_a_key_is_stored(market, make_key):
    key = make_key(Scope.READ)
    with market.engine.connect() as conn:
        row = conn.execute(select(api_keys)).one()
    secret = key.text.split("_", 2)[2]
    assert len(secret) == 43  # 32 bytes in base64
    assert secret not in repr(row)
    assert re.fullmatch("[0-9a-f]{64}", row.digest)


def test_rotation_keeps_two_keys_alive_for_the_overlap(market, open_app, make_key):
    old = make_key(Scope.READ)
    with market.engine.begin() as conn:
        new = rotate_key(conn, "shop", market.now, timedelta(hours=24))
        assert new.key.scopes == old.key.scopes
        with pytest.raises(ConflictError, match="2 live keys"):
            rotate_key(conn, "shop", market.now, timedelta(hours=24))
    api = open_app()
    assert [api.get("/v1/channels", headers=by(key)).status_code for key in (old, new)] == [200, 200]
    market.now += timedelta(hours=24)
    assert [api.get("/v1/channels", headers=by(key)).status_code for key in (old, new)] == [401, 200]


@ONE_DATABASE
def test_keys_that_cannot_be_made_say_why(market, make_key):
    with pytest.raises(InvalidInputError, match="name == ''"):
        make_key(Scope.READ, name="")
    with pytest.raises(InvalidInputError, match="must be at least one of decide, ingest, send, read, admin"):
        make_key()
    with pytest.raises(InvalidInputError, match="must be after now"):
        make_key(Scope.READ, expires_at=market.now)
    make_key(Scope.READ)
    with pytest.raises(ConflictError, match="rotate it"):
        make_key(Scope.READ)
    with market.engine.begin() as conn, pytest.raises(NotFoundError):
        revoke_key(conn, "nobody", market.now)


@ONE_DATABASE
def test_use_is_remembered(market, open_app, make_key):
    key = make_key(Scope.READ)
    api = open_app()
    api.get("/v1/channels", headers=by(key))

    def used() -> bool:
        with market.engine.connect() as conn:
            return list_keys(conn)[0].last_used_at == market.now

    assert eventually(used)


@ONE_DATABASE
def test_a_key_that_asks_too_often_is_told_when_to_come_back(open_app, make_key):
    key, other = make_key(Scope.READ), make_key(Scope.READ, name="other")
    api = open_app(requests_per_second=0.01, burst=3)
    answers = [api.get("/v1/channels", headers=by(key)) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["ratelimit-remaining"] for one in answers] == ["2", "1", "0", "0"]
    assert {one.headers["ratelimit-limit"] for one in answers} == {"3"}
    refused(answers[3], 429, "rate-limited")
    assert 90 <= int(answers[3].headers["retry-after"]) <= 100
    assert api.get("/v1/channels", headers=by(other)).status_code == 200
    assert api.get("/healthz").status_code == 200
    text = api.get("/metrics", headers=by(other)).text
    assert "nextchannel_rate_limited_total 1.0" in text


@ONE_DATABASE
def test_a_body_has_a_largest_size_however_it_is_sent(open_app):
    api = open_app(most_body_bytes=2_000)
    headers = {"content-type": "application/json"}
    refused(api.post("/v1/decisions", content=b" " * 2_001, headers=headers), 413, "payload-too-large")
    chunked = api.post("/v1/decisions", content=iter([b" " * 1_500, b" " * 1_500]), headers=headers)
    refused(chunked, 413, "payload-too-large")
    refused(api.post("/v1/decisions", content=b" " * 2_000, headers=headers), 422, "invalid-request")
    refused(
        api.post("/v1/decisions", content=b"", headers=headers | {"content-length": "-1"}),
        413,
        "payload-too-large",
    )


@ONE_DATABASE
def test_a_body_has_a_type_that_is_read_there(open_app):
    api = open_app()
    for media in ("text/plain", "application/x-www-form-urlencoded", "application/xml", ""):
        answer = api.post("/v1/decisions", content=b"{}", headers={"content-type": media})
        assert "application/json" in refused(answer, 415, "unsupported-media-type")["detail"]
    refused(api.post("/v1/decisions", content=b"{}"), 415, "unsupported-media-type")
    answer = api.post(
        "/v1/decisions", content=b"[]", headers={"content-type": "application/json; charset=utf-8"}
    )
    refused(answer, 422, "invalid-request")


@ONE_DATABASE
def test_an_address_tells_its_methods(open_app):
    api = open_app()
    answer = api.get("/v1/decisions/batch")
    refused(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert api.request("OPTIONS", "/v1/campaigns").headers["allow"] == "GET, POST"
    for path, methods in (
        ("/v1/campaigns/spring", "GET, PUT"),
        ("/v1/channels/sms", "GET, PUT, PATCH"),
        ("/v1/customers/ada", "GET, DELETE"),
        ("/v1/customers/ada/consents", "GET, POST"),
        ("/v1/receipts/email", "POST, GET"),
    ):
        answer = api.request("OPTIONS", path)
        refused(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == methods


@ONE_DATABASE
def test_the_head_of_a_request_has_a_largest_size(open_app):
    api = open_app()
    refused(api.get("/healthz", headers={"x": "y" * 17_000}), 431, "headers-too-large")
    refused(api.get("/healthz", headers={f"x-{i}": "y" for i in range(101)}), 431, "headers-too-large")
    refused(api.get("/healthz?" + "q" * 17_000), 431, "headers-too-large")


@ONE_DATABASE
def test_a_caller_who_leaves_in_the_middle_of_a_body_is_no_failure(open_app, caplog):
    api = open_app()
    statuses: list[int] = []

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        statuses.append(message.get("status"))

    for path, media in (
        ("/v1/decisions", b"application/json"),
        ("/sign-in", b"application/x-www-form-urlencoded"),
    ):
        headers = [(b"host", b"localhost"), (b"content-type", media), (b"content-length", b"9")]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        asyncio.run(api.app(scope, receive, send))
    assert statuses == [400, None, 400, None]
    assert "Traceback" not in caplog.text


@ONE_DATABASE
def test_a_body_that_does_not_arrive_is_not_waited_for(market, monkeypatch):
    monkeypatch.setattr("serving.security.gate.BODY_SECONDS", 0.02)
    sent: list[dict] = []

    async def ask() -> None:
        async def never() -> dict:
            return await asyncio.get_running_loop().create_future()

        async def send(message: dict) -> None:
            sent.append(message)

        service = market.service()
        gate = Gate(
            create_app(service),
            service.key_ring,
            Sessions(service.tracking_secret),
            Protection(),
            service.clock,
        )
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"9")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/decisions",
            "query_string": b"",
            "headers": headers,
        }
        await gate(scope, never, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


@ONE_DATABASE
def test_deep_json_is_refused_before_it_is_parsed(open_app):
    api = open_app()
    answer = api.post("/v1/decisions", content=b"[" * 90_000, headers={"content-type": "application/json"})
    document = refused(answer, 422, "invalid-request")
    assert document["errors"] == [
        {"field": "body", "value": "", "bound": "must be JSON, nested at most 32 deep"}
    ]


@ONE_DATABASE
def test_text_that_is_no_json_is_called_body(open_app):
    api = open_app()
    answer = api.post("/v1/decisions", content=b'{"a": }', headers={"content-type": "application/json"})
    document = refused(answer, 422, "invalid-request")
    assert document["errors"] == [
        {"field": "body", "value": "", "bound": "must be JSON: Expecting value at byte 6"}
    ]


@ONE_DATABASE
@pytest.mark.parametrize("body", [b"\xff\xfe\xff", b"\xc3\x28", b"1" * 5_000])
def test_bytes_that_are_no_text_are_called_body_too(open_app, body):
    api = open_app()
    answer = api.post("/v1/decisions", content=body, headers={"content-type": "application/json"})
    assert refused(answer, 422, "invalid-request")["errors"][0]["field"] == "body"


@ONE_DATABASE
def test_other_origins_get_no_permission(open_app):
    api = open_app()
    asked = {"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}
    for answer in (api.options("/v1/decisions", headers=asked), api.get("/v1/channels", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@ONE_DATABASE
def test_every_answer_says_that_its_type_is_meant(market, open_app, make_key):
    market.customers("ada")
    market.campaign()
    api = open_app(https=True)
    for path in ("/", "/docs", "/healthz", "/static/dashboard.css", "/u/forged", "/sign-in", "/v1/nothing"):
        answer = api.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        if answer.headers["content-type"].startswith("text/html"):
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self'" in policy or "script-src" not in policy
            assert "'unsafe-inline'" not in policy.replace("style-src-attr 'unsafe-inline'", "")
            assert "<script>" not in answer.text
            assert not re.search(r"\son\w+=", answer.text)


OWN = {"Origin": "http://testserver", "Host": "testserver"}


@ONE_DATABASE
def test_a_browser_signs_in_with_a_key_and_sees_the_pages(market, open_app, make_key):
    market.customers("ada")
    market.campaign()
    key = make_key(Scope.READ)
    api = open_app()
    sent_away = api.get("/?campaign=spring")
    assert sent_away.headers["location"] == "/sign-in?next=%2F%3Fcampaign%3Dspring"
    form = api.get(sent_away.headers["location"])
    assert 'value="/?campaign=spring"' in form.text
    wrong = api.post("/sign-in", data={"key": key.text + "x", "next": "/"}, headers=OWN)
    assert (wrong.status_code, wrong.headers.get("set-cookie")) == (401, None)
    assert key.text not in wrong.text
    signed_in = api.post("/sign-in", data={"key": key.text, "next": "/?campaign=spring"}, headers=OWN)
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/?campaign=spring")
    cookie = signed_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert key.text not in cookie
    assert api.get("/?campaign=spring").status_code == 200
    assert api.get("/v1/report", params={"campaign_id": "spring"}).status_code == 200
    assert "key of shop" in api.get("/sign-in").text
    with market.engine.begin() as conn:
        revoke_key(conn, "shop", market.now)
    assert eventually(lambda: api.get("/").status_code == 303)


@ONE_DATABASE
def test_a_strangers_page_can_neither_sign_in_nor_write_with_a_session(market, open_app, make_key):
    key = make_key(Scope.ADMIN)
    api = open_app()
    for headers in (
        {"Origin": "https://evil.test"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {},
    ):
        answer = api.post("/sign-in", data={"key": key.text}, headers=headers)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)
    api.post("/sign-in", data={"key": key.text}, headers=OWN)
    assert api.get("/v1/channels").status_code == 200
    for headers in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "same-site"}, {}):
        refused(api.post("/v1/decisions", json=ASK, headers=headers), 401, "unauthenticated")
    assert api.post("/v1/decisions", json=ASK, headers=OWN).status_code == 404
    api.post("/sign-out", headers=OWN)
    refused(api.get("/v1/channels"), 401, "unauthenticated")


@ONE_DATABASE
def test_a_secure_service_marks_its_cookie_so(open_app, make_key):
    key = make_key(Scope.READ)
    api = open_app(https=True)
    answer = api.post("/sign-in", data={"key": key.text}, headers=OWN)
    assert "Secure" in answer.headers["set-cookie"]


@ONE_DATABASE
def test_the_api_pages_come_from_this_machine_and_can_be_switched_off(open_app):
    api = open_app()
    page = api.get("/docs").text
    assert "//" not in page.replace("<!doctype html>", "")
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert api.get(path).status_code == 200, path
    closed = open_app(docs=False)
    for path in ("/docs", "/openapi.json", "/docs/static/swagger-ui.css", "/redoc"):
        assert closed.get(path).status_code == 404


@ONE_DATABASE
def test_the_description_tells_the_scope_of_every_operation(open_app):
    described = open_app().get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    decide = described["paths"]["/v1/decisions"]["post"]
    assert decide["security"] == [{"key": ["decide"]}]
    assert {"401", "403", "413", "415", "429"} <= set(decide["responses"])
    assert "security" not in described["paths"]["/healthz"]["get"]


@ONE_DATABASE
@pytest.mark.parametrize("form", list(LogFormat))
def test_no_secret_and_no_contact_point_reaches_the_log(market, open_app, make_key, form):
    address, phone = "planted.person@example.com", "+886912345678"
    market.customers("ada")
    market.campaign()
    key = make_key(Scope.ADMIN)
    api = open_app()
    log = StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        configure(form, "debug", log)
        for identity in ({"kind": "email", "value": address}, {"kind": "phone", "value": phone}):
            answer = api.post(
                "/v1/decisions", json={"identity": identity, "campaign_id": "spring"}, headers=by(key)
            )
            assert answer.status_code == 404
            assert identity["value"] not in answer.text
        wrong = {"identity": {"kind": "email", "value": address, "more": phone}, "campaign_id": address}
        assert address not in api.post("/v1/decisions", json=wrong, headers=by(key)).text
        api.get(f"/v1/decisions/{address}?key={key.text}", headers=by(key))
        logging.getLogger("any").error("delivery to %s by %s failed: %s", address, phone, key.text)
        try:
            with market.engine.begin() as conn:
                conn.exec_driver_sql("SELECT * FROM nowhere WHERE value = :v", {"v": address})
        except Exception:
            logging.getLogger("any").exception("the database said no")
    finally:
        root.handlers, root.level = before
    written = log.getvalue()
    assert "the database said no" in written
    assert "POST /v1/decisions 404" in written
    for planted in (address, phone, key.text, key.text.split("_", 2)[2]):
        assert planted not in written


@ONE_DATABASE
@pytest.mark.parametrize(("n_parts", "read"), [(16, True), (17, False)])
def test_a_stream_is_counted_as_it_is_read(market, n_parts, read):
    parts = [b"x" * 2_000] * n_parts
    taken: list[bytes] = []

    async def reader(scope, receive, send) -> None:
        more = True
        while more:
            message = await receive()
            taken.append(message["body"])
            more = message["more_body"]

    async def receive() -> dict:
        return {"type": "http.request", "body": parts.pop(), "more_body": bool(parts)}

    async def ask() -> None:
        service = market.service()
        gate = Gate(
            reader,
            service.key_ring,
            Sessions(service.tracking_secret),
            Protection(most_body_bytes=2_000),
            service.clock,
        )
        headers = [
            (b"host", b"localhost"),
            (b"content-type", b"application/x-ndjson"),
            (b"transfer-encoding", b"chunked"),
        ]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/decisions/batch",
            "query_string": b"",
            "headers": headers,
        }
        await gate(scope, receive, None)

    if read:
        asyncio.run(ask())
        assert len(taken) == 16
    else:
        with pytest.raises(HTTPException, match="At most 32000 bytes"):
            asyncio.run(ask())
        assert len(taken) == 16
