"""LINE on loopback: it outlives the service, verifies what LINE verifies, and reports what people write until it is told 200."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, Self

import httpx

from serving.service import utc_now
from tests.integration.channels import providers

# https://developers.line.biz/en/reference/messaging-api/#send-reply-message: within a minute after the report.
TOKEN_SECONDS = 60.0
_REDELIVER_SECONDS = 0.25
_LONGEST_ANSWER_SECONDS = 0.05
# Shares of the calls: refused before they are taken, and taken without an answer that arrives.
_REFUSED, _LOST, _TORN = 0.03, 0.03, 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A message that reached a person.

    Attributes:
        person: Their LINE id.
        token: Of the reply; None of a push.
        key: Of the push; None of a reply.
        answered: Whether the sender was told so.
        at: Aware.
    """

    person: str
    text: str
    token: str | None
    key: str | None
    answered: bool
    at: datetime


@dataclass
class _Token:
    person: str
    reported_at: float


@dataclass
class LinePlatform:
    """The Messaging API and its webhook.

    Attributes:
        accepted: What reached people, in order.
        refused: Refusals that are the sender's fault, by their words; of tokens none.
        n_refused_tokens: Replies whose token was used before, or is too old.
        n_lost_answers: Calls that were taken and whose sender was not told so.
        n_redelivered: Reports that were made again.
        other_statuses: Answers to reports that were neither 200 nor a refusal that says to come again.
    """

    rng: Random
    accepted: list[Accepted] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    n_refused_tokens: int = 0
    n_lost_answers: int = 0
    n_redelivered: int = 0
    other_statuses: Counter[int] = field(default_factory=Counter)
    _line: providers.Line = field(default_factory=lambda: providers.Line(quota=10**9))
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def settings(self) -> dict[str, str]:
        """Of the adapter that is to speak to it."""
        return {
            "channel_access_token": self._line.token,
            "channel_secret": self._line.secret,
            "base_url": f"http://127.0.0.1:{self._server.server_port}",
        }

    def report(
        self,
        client: httpx.Client,
        address: Callable[[], str],
        person: str,
        text: str,
        event_id: str,
        *,
        again: bool,
    ) -> None:
        """Report what somebody wrote until it is answered with 200, and then perhaps once more.

        Args:
            client: Of the caller's thread.
            address: Gives where the service is by now.
            person: Their LINE id.
            text: What they wrote.
            event_id: Of the report, the same in every redelivery.
            again: Whether to deliver it once more although it was answered.
        """
        event = providers.line_event("message", person) | {
            "webhookEventId": event_id,
            "timestamp": int(time.time() * 1_000),
            "message": {"type": "text", "id": event_id, "text": text},
            "replyToken": event_id,
        }
        n_delivered = 0
        while not self._deliver(client, address(), event, n_delivered):
            n_delivered += 1
            time.sleep(_REDELIVER_SECONDS)
        if again:
            while not self._deliver(client, address(), event, n_delivered + 1):
                time.sleep(_REDELIVER_SECONDS)

    def _deliver(self, client: httpx.Client, address: str, event: dict[str, Any], n_before: int) -> bool:
        signed = self._line.hook(event | {"deliveryContext": {"isRedelivery": n_before > 0}})
        with self._lock:
            self._tokens[event["replyToken"]] = _Token(event["source"]["userId"], time.monotonic())
            self.n_redelivered += n_before > 0
        try:
            answer = client.post(
                f"{address}/v1/receipts/line", content=signed.body, headers=dict(signed.headers)
            )
        except httpx.TransportError:
            return False
        if answer.status_code not in (200, 429, 503):
            with self._lock:
                self.other_statuses[answer.status_code] += 1
        return answer.status_code == httpx.codes.OK

    def take(self, request: httpx.Request) -> httpx.Response | None:
        """LINE's answer to one call; None where it is lost on its way."""
        with self._lock:
            fate = self.rng.random()
            if fate < _REFUSED:
                return providers.problem(429, message="The API rate limit has been exceeded")
            said = json.loads(request.content)
            token = said.get("replyToken")
            known = self._tokens.get(token)
            if token is not None and (known is None or time.monotonic() - known.reported_at > TOKEN_SECONDS):
                self._line.spent.add(token)
            answer = self._line.answer(request)
            if answer.is_success:
                lost = fate > 1.0 - _LOST - _TORN
                self.n_lost_answers += lost
                self.accepted.append(
                    Accepted(
                        person=said["to"] if token is None else self._tokens[token].person,
                        text=said["messages"][0].get("text", ""),
                        token=token,
                        key=request.headers.get("x-line-retry-key"),
                        answered=not lost,
                        at=utc_now(),
                    )
                )
                if lost:
                    return None if fate > 1.0 - _LOST else providers.problem(500, message="Internal error")
            elif token is not None and answer.status_code == httpx.codes.BAD_REQUEST:
                self.n_refused_tokens += 1
            elif answer.status_code != httpx.codes.CONFLICT:
                self.refused[answer.text] += 1
            return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the sender was killed meanwhile
                    super().handle()

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    self.close_connection = True  # the sender was killed in the middle
                    return
                address = f"https://api.line.me{self.path}"
                request = httpx.Request("POST", address, headers=dict(self.headers), content=body)
                answer = platform.take(request)
                time.sleep(platform.rng.uniform(0, _LONGEST_ANSWER_SECONDS))
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
