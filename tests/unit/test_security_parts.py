"""The parts of the gate, each by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from serving.observability.redact import redact
from serving.security.buckets import Buckets
from serving.security.json_depth import within_depth
from serving.security.keys import Scope
from serving.security.protection import Protection, is_local_name
from serving.security.rules import UNLISTED, RuleTable
from serving.security.sessions import LASTS, Sessions, cookie_of, from_own_page, safe_next

NOW = datetime(2026, 3, 1, tzinfo=UTC)

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=40,
)


def depth(document: object) -> int:
    if isinstance(document, dict):
        return 1 + max(map(depth, document.values()), default=0)
    if isinstance(document, list):
        return 1 + max(map(depth, document), default=0)
    return 0


@given(documents, st.integers(0, 5), st.booleans())
def test_depth_is_what_a_parser_would_find(document, deepest, ascii_only):
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert within_depth(text, deepest) == (depth(document) <= deepest)


def test_brackets_in_strings_do_not_count():
    assert within_depth(json.dumps({"a": "[" * 100, 'b"\\': '{[\\"' * 50}).encode())


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 50 + b"}" * 50, b'"[' * 99])
def test_endless_nesting_is_refused_without_parsing(text):
    assert not within_depth(text)


def test_a_bucket_lets_a_burst_through_and_then_the_steady_rate():
    seconds = [0.0]
    buckets = Buckets(10, 5, lambda: seconds[0])
    assert [buckets.take("a").granted for _ in range(6)] == [True] * 5 + [False]
    assert buckets.take("b").granted  # another key has a bucket of its own
    seconds[0] = 0.35  # 3.5 tokens have flowed in
    assert [buckets.take("a").granted for _ in range(4)] == [True, True, True, False]
    assert buckets.take("a").reset_seconds == 1
    seconds[0] = 100.0  # never more than the burst
    full = buckets.take("a")
    assert (full.limit, full.remaining, full.granted) == (5, 4, True)


def test_no_rate_is_no_limit():
    assert Buckets(0, 5).take("a") is None


def test_rules_are_found_by_method_and_path():
    table = RuleTable()
    assert table.find("POST", "/v1/decisions").scope is Scope.DECIDE
    assert table.find("POST", "/v1/decisions/batch").path == "/v1/decisions/batch"
    assert table.find("GET", "/v1/decisions/batch").path == "/v1/decisions/{decision_id}"
    assert table.find("HEAD", "/healthz").scope is None
    assert table.find("GET", "/t/o/abc.gif").scope is None
    assert table.find("GET", "/static/a/b.css").scope is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/decisions"),
        ("GET", "/v1/new"),
        ("GET", "/v1/decisions/a/b"),
        ("GET", "/healthz/"),
        ("GET", "//healthz"),
        ("GET", "/t/o/a/b.gif"),
        ("POST", "/static/x"),
    ],
)
def test_what_no_row_names_needs_admin(method, path):
    rule = RuleTable().find(method, path)
    assert (rule.scope, rule.path) == (Scope.ADMIN, UNLISTED)


def test_a_session_holds_until_it_ends_and_cannot_be_altered():
    sessions = Sessions("a secret of the tests")
    cookie = sessions.issue("abc", NOW)
    assert sessions.read(cookie, NOW) == "abc"
    assert sessions.read(cookie, NOW + LASTS - timedelta(seconds=1)) == "abc"
    assert sessions.read(cookie, NOW + LASTS) is None
    assert Sessions("another secret, also long").read(cookie, NOW) is None
    for at in range(len(cookie)):
        altered = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
        # The last character of base64 carries bits that nobody reads.
        if at != len(cookie) - 1:
            assert sessions.read(altered, NOW) is None
    for nonsense in ("", ".", "..", "a.b.c", "é.1.2", "\ud800"):
        assert sessions.read(nonsense, NOW) is None


def test_the_session_is_found_among_other_cookies():
    assert cookie_of(b"a=b; nextchannel_session=x.y.z; c=d") == "x.y.z"
    assert cookie_of(b"not_nextchannel_session=x") is None


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({b"sec-fetch-site": b"same-origin"}, True),
        ({b"sec-fetch-site": b"same-site"}, False),
        ({b"sec-fetch-site": b"cross-site", b"origin": b"http://a", b"host": b"a"}, False),
        ({b"origin": b"https://shop.test:8000", b"host": b"shop.test:8000"}, True),
        ({b"origin": b"https://evil.test", b"host": b"shop.test"}, False),
        ({b"origin": b"null", b"host": b"shop.test"}, False),
        ({}, False),
    ],
)
def test_only_our_own_page_is_our_own(headers, own):
    assert from_own_page(headers) is own


@pytest.mark.parametrize("path", ["https://evil.test", "//evil.test", "/\\evil.test", "evil", "", "/a\nb"])
def test_a_sign_in_leads_nowhere_else(path):
    assert safe_next(path) == "/"
    assert safe_next("/decisions/1?language=ja") == "/decisions/1?language=ja"


def test_only_this_machine_may_be_open():
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert not Protection(host=host, require_keys=False).keys_required(no_key_yet=False)
        assert Protection(host=host).keys_required(no_key_yet=False)
        assert not Protection(host=host).keys_required(no_key_yet=True)
    for host in ("0.0.0.0", "::", "10.0.0.7", "shop.test", ""):  # noqa: S104 - what is to be refused
        assert Protection(host=host).keys_required(no_key_yet=True)
        with pytest.raises(InvalidInputError, match="NEXTCHANNEL_REQUIRE_KEYS == False, must be true"):
            Protection(host=host, require_keys=False)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:8000", True),
        ("localhost", True),
        ("[::1]:8000", True),
        ("evil.test:8000", False),
        ("127.0.0.1.evil.test", False),
        ("10.0.0.7", False),
        ("[fe80::1]:80", False),
    ],
)
def test_a_strangers_domain_is_no_name_of_this_machine(host, local):
    assert is_local_name(host) is local


@pytest.mark.parametrize(
    "secret",
    [
        "ada.lovelace+news@mail.example.co.uk",
        "+886912345678",
        "+1 (415) 555-0100",
        "nck_abcdefghij_Zm9vYmFyLXNlY3JldA",
        "Bearer abcdefghijklmnop",
        "postgresql://user:hunter2secret@db.test/x",
    ],
)
def test_secrets_and_contact_points_are_taken_out(secret):
    kept = redact(f"failed for {secret}, again")
    assert kept.startswith("failed for ")
    assert kept.endswith(", again")
    for part in (
        secret,
        "hunter2secret",
        "Zm9vYmFyLXNlY3JldA",
        "abcdefghijklmnop",
        "lovelace",
        "0100",
        "5678",
    ):
        assert part not in kept


@pytest.mark.parametrize("text", ["2026-03-01T05:00:00+08:00", "c-1001", "0.5 + 3", "12345678901", "a @ b"])
def test_ordinary_text_stays_as_it_is(text):
    assert redact(text) == text
