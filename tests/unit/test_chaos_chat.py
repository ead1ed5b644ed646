"""The program that kills a service which answers in chat tells right from wrong, and its LINE from a kind one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import httpx
import pytest

from serving.channels.line import LineAdapter
from tests.chaos import _line_platform
from tests.chaos._line_platform import Accepted, LinePlatform
from tests.chaos.chat_kill import Wanted, _explained, _turned
from tests.integration.channels import providers
from tests.integration.conftest import NOW

SECOND = timedelta(seconds=1)
STALE = NOW + LineAdapter.reply_within
REPLY = Accepted(person="U1", text="a", token="t", key=None, answered=True, at=NOW + SECOND)
PUSH = Accepted(person="U1", text="a", token=None, key="k", answered=True, at=STALE)
LOST = replace(REPLY, answered=False)


@pytest.mark.parametrize(
    ("each", "killed", "explained"),
    [
        ([LOST, PUSH], [], True),
        ([REPLY, PUSH], [REPLY.at + SECOND], True),
        ([REPLY, PUSH], [], False),  # its answer came, and nobody died
        ([REPLY, PUSH], [REPLY.at - SECOND], False),
        ([REPLY, PUSH], [REPLY.at + 6 * SECOND], False),
        ([LOST, replace(PUSH, at=STALE - SECOND)], [], False),  # the token would have told
        ([LOST, PUSH, PUSH], [], False),
        ([LOST, LOST], [], False),
        ([replace(PUSH, answered=False), PUSH], [], False),
    ],
)
def test_only_what_nobody_could_know_explains_a_second_time(each, killed, explained):
    assert _explained(each, NOW, killed) is explained


def test_an_answer_that_came_before_an_older_one_is_counted():
    lines = [Wanted(name, "") for name in "abc"]
    came = {name: [replace(REPLY, at=NOW + n * SECOND)] for name, n in zip("abc", (0, 2, 1), strict=True)}
    assert _turned(lines, came) == 1
    assert _turned(lines, {name: came[name] for name in "ab"}) == 0


@pytest.fixture
def platform(monkeypatch) -> LinePlatform:
    """One that neither refuses nor loses anything, and told of one text."""
    for share in ("_REFUSED", "_LOST", "_TORN"):
        monkeypatch.setattr(_line_platform, share, 0.0)
    made = LinePlatform(Random(1))
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as service:
        made.report(service, lambda: "http://service.test", "U1", "word", "token-1", again=True)
    assert made.n_redelivered == 1
    return made


def called(platform: LinePlatform, way: str, key: str = "", **said: str) -> int | None:
    headers = {"authorization": f"Bearer {providers.Line.token}"} | ({"x-line-retry-key": key} if key else {})
    body = json.dumps(said | {"messages": [{"type": "text", "text": "a"}]})
    request = httpx.Request(
        "POST", f"https://api.line.me/v2/bot/message/{way}", headers=headers, content=body
    )
    answer = platform.take(request)
    return None if answer is None else answer.status_code


def test_a_token_is_taken_once_and_for_a_minute_and_a_key_once(platform, monkeypatch):
    assert [called(platform, "reply", replyToken="token-1") for _ in range(2)] == [200, 400]
    assert called(platform, "reply", replyToken="never-given") == 400
    key = str(UUID(int=1))
    assert [called(platform, "push", key, to="U1") for _ in range(2)] == [200, 409]
    assert [(one.person, one.token, one.key) for one in platform.accepted] == [
        ("U1", "token-1", None),
        ("U1", None, key),
    ]
    assert (platform.n_refused_tokens, platform.refused) == (2, {})
    platform._line.spent.clear()
    monkeypatch.setattr(_line_platform, "TOKEN_SECONDS", -1.0)
    assert called(platform, "reply", replyToken="token-1") == 400
    assert called(platform, "push", "no key", to="U1") == 400
    assert platform.refused.total() == 1


def test_an_answer_that_is_lost_leaves_the_message_taken(platform, monkeypatch):
    monkeypatch.setattr(_line_platform, "_LOST", 1.0)
    assert called(platform, "reply", replyToken="token-1") is None
    assert [one.answered for one in platform.accepted] == [False]
    assert platform.n_lost_answers == 1
