"""kill -9 of a service that answers in chat: every acknowledged text is answered, in order, and nothing is said twice.

    make chaos NAME=chat_kill [ARGS="--kills 20 --postgres --park"]

People write to a LINE account: most of them keywords, some ask for a person, whom agents then answer. A process that serves
the API and sends is killed at random moments and started again; LINE reports again what was not answered with 200, and at times what
was. LINE's end refuses calls, takes calls without an answer that arrives, and forgets reply tokens after a minute.

In the end every acknowledged text must have its answer, in the order in which they were written, and every answer of an
agent that was acknowledged must have reached the person once. A push is taken once by its key, a reply by its token. One
case is left in which nobody can know: a reply was taken, its answer never came, and the token has become too old to ask.
Then it is pushed, perhaps for the second time, and counted; with `--park` it is left to people, and counted likewise.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine, func, select

from features.history.append import append_identities
from features.history.channels import seed_channels
from features.history.tables import chat_lines, interactions
from models.domain.channel import IdentityKind
from models.domain.customer import Identity
from serving.app import create_app
from serving.channels.contract import AdapterContext
from serving.channels.line import LineAdapter
from serving.channels.testing import ExampleLinks
from serving.chat.document import from_document
from serving.chat.lines import line_id
from serving.chat.sender import ChatSender
from serving.chat.store import save_answers
from serving.dispatch_settings import ChatSettings, UnknownPolicy
from serving.security.protection import Protection
from serving.sending import SendingThread
from serving.service import utc_now
from serving.store.endings import OutboxStatus
from tests.benchmarks.bare import serving
from tests.chaos._line_platform import Accepted, LinePlatform
from tests.fresh_database import database, open_database
from tests.integration.conftest import NOW, Market

N_WRITERS, N_TALKERS, N_AGENTS = 10, 4, 2
# Between the first acknowledged text of a life and its end.
LONGEST_LIFE_SECONDS = 3.0
_PAUSE_SECONDS = (0.1, 0.8)
_AGAIN = 0.15
_DRAIN_SECONDS = 300.0
# An answer that arrived is written down so soon; only a kill in between leaves it open.
_SETTLES_WITHIN = timedelta(seconds=5)
_PERSON = "Talk to a person"
_KEYWORDS = tuple(f"word {number}" for number in range(11))
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ANSWERS = {
    "groups": [{"keywords": [word], "content": {"body": f"About {word}."}} for word in _KEYWORDS],
    "office": {
        "time_zone": "Asia/Taipei",
        "hours": {day: [{"opens": "00:00", "closes": "00:00"}] for day in _DAYS},
    },
}
_DATABASE, _LINE, _POLICY = "CHAOS_DATABASE", "CHAOS_LINE", "CHAOS_UNKNOWN_OUTCOME"
VIOLATIONS = (
    "lost",
    "unanswered",
    "agents_unsaid",
    "out_of_order",
    "wrong",
    "twice_unexplained",
    "open",
    "refused",
    "other_statuses",
)


def main(arguments: list[str]) -> int:
    """Kill the service again and again; 1 where a text was lost, left without its answer, or answered wrongly."""
    parser = argparse.ArgumentParser(prog="chat_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--park", action="store_true", help="leave to people what was perhaps said")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with database(chosen.postgres) as engine:
        found = kill(engine, chosen.kills, parks=chosen.park, seed=chosen.seed)
    for name, figure in found.items():
        sys.stdout.write(f"{name:28} {figure}\n")
    sys.stdout.write(json.dumps({"chaos": "chat_kill", **found}) + "\n")
    return int(any(found[name] for name in VIOLATIONS))


def create() -> FastAPI:
    """The service that is killed: the API, and the sender of chats with the settings that it always has."""
    market = Market(open_database(os.environ[_DATABASE]))
    context = AdapterContext(links=ExampleLinks(), settings=json.loads(os.environ[_LINE]))
    settings = ChatSettings(unknown_outcome=UnknownPolicy(os.environ[_POLICY]))
    sends = LineAdapter.build(context)
    sender = ChatSender(market.engine, {"line": sends}, settings, Random())
    service = replace(
        market.service(start=False, protection=Protection(requests_per_second=0)),
        clock=utc_now,
        adapters={"line": LineAdapter.build(context)},
        sender=SendingThread((sender,), (sends,), utc_now),
    )
    return create_app(service, owns_process=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A line that a person must get: an answer of the rules, or of an agent."""

    line_id: str
    text: str


@dataclass
class Town:
    """Everybody who writes and answers, until they are stopped.

    Attributes:
        address: Of the service that lives, or lived last.
        wanted: What each person must get, by LINE id, in order.
        heard: Event ids of the texts that were acknowledged.
        alive: Set with each text that is acknowledged.
    """

    platform: LinePlatform
    seed: int
    address: str = ""
    wanted: dict[str, list[Wanted]] = field(default_factory=lambda: defaultdict(list))
    heard: list[str] = field(default_factory=list)
    n_said: int = 0
    alive: threading.Event = field(default_factory=threading.Event)
    _closed: threading.Event = field(default_factory=threading.Event)
    _done: threading.Event = field(default_factory=threading.Event)
    _ended: dict[str, threading.Event] = field(default_factory=dict)

    @contextmanager
    def open(self) -> Iterator[None]:
        """People write until the block ends; then what was written is acknowledged, and agents answer all of it."""
        people = [
            *(threading.Thread(target=self._write, args=(number,)) for number in range(N_WRITERS)),
            *(threading.Thread(target=self._talk, args=(N_WRITERS + number,)) for number in range(N_TALKERS)),
        ]
        agents = [threading.Thread(target=self._answer, args=(f"agent-{n}",)) for n in range(N_AGENTS)]
        self._ended = {_person(N_WRITERS + number): threading.Event() for number in range(N_TALKERS)}
        for thread in (*people, *agents):
            thread.start()
        try:
            yield
        finally:
            self._closed.set()
            for thread in people:
                thread.join()
            self._done.set()
            for thread in agents:
                thread.join()

    def _say(self, client: httpx.Client, number: int, place: int, text: str, draw: Random) -> str:
        """Write something; the id of the report once it is acknowledged."""
        event_id = f"event-{number}-{place}"
        self.platform.report(
            client, lambda: self.address, _person(number), text, event_id, again=draw.random() < _AGAIN
        )
        self.heard.append(event_id)
        self.alive.set()
        return event_id

    def _write(self, number: int) -> None:
        """Write keywords, one after the other."""
        draw, place = Random(f"{self.seed}/{number}"), 0
        with httpx.Client(timeout=30) as client:
            while not self._closed.is_set():
                word = draw.choice(_KEYWORDS)
                event_id = self._say(client, number, place, word, draw)
                self.wanted[_person(number)].append(Wanted(_answer_to(event_id), f"About {word}."))
                place += 1
                time.sleep(draw.uniform(*_PAUSE_SECONDS))

    def _talk(self, number: int) -> None:
        """Ask for a person, tell what it is about, wait until the chat has ended, and begin anew."""
        draw, place, person = Random(f"{self.seed}/{number}"), 0, _person(number)
        with httpx.Client(timeout=30) as client:
            while not self._closed.is_set():
                self._ended[person].clear()
                event_id = self._say(client, number, place, _PERSON, draw)
                self.wanted[person].append(Wanted(_answer_to(event_id), ""))
                self._say(client, number, place + 1, f"order {place}", draw)
                self._ended[person].wait()
                place += 2
                time.sleep(draw.uniform(*_PAUSE_SECONDS))

    def _answer(self, agent: str) -> None:
        """Take whoever waits, answer what they told, and end the chat."""
        with httpx.Client(timeout=30) as client:
            while not self._done.is_set():
                try:
                    waiting = client.get(f"{self.address}/v1/chats").json().get("chats", [])
                except (httpx.TransportError, ValueError):
                    waiting = []
                for chat in waiting:
                    if chat["held_by"] in (None, agent):
                        self._serve(client, agent, chat["chat_id"])
                time.sleep(0.1)

    def _serve(self, client: httpx.Client, agent: str, chat_id: str) -> None:
        path, by = f"/v1/chats/{chat_id}", {"agent": agent}
        if self._insists(client, f"{path}/take", by) is None:
            return
        try:
            chat = client.get(self.address + path).json()
        except httpx.TransportError:
            return
        said = next(
            (one["text"] for one in reversed(chat.get("lines", ())) if one["speaker"] == "customer"), ""
        )
        if not said.startswith("order "):
            return  # not told yet what it is about
        person = f"U{chat['customer_id']}"
        text, key = f"Re: {said}", f"{chat_id}/{said}"
        if self._insists(client, f"{path}/say", by | {"text": text}, key) is not None:
            self.wanted[person].append(Wanted(line_id("agent", chat_id, f"{agent}/{key}"), text))
            self.n_said += 1
            # Who ended it before without hearing so is told 409.
            self._insists(client, f"{path}/end", by)
            self._ended[person].set()

    def _insists(
        self, client: httpx.Client, path: str, posted: Mapping[str, str], key: str = ""
    ) -> httpx.Response | None:
        """Ask until there is an answer, the same again under the same key; None where it is a refusal."""
        while True:
            try:
                headers = {"Idempotency-Key": key} if key else {}
                answer = client.post(self.address + path, json=posted, headers=headers)
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            if answer.is_success:
                return answer
            if answer.status_code == httpx.codes.CONFLICT and not key:
                return None
            if answer.status_code not in (409, 429, 503):
                self.platform.other_statuses[answer.status_code] += 1
                return None
            time.sleep(0.2)


def kill(engine: Engine, n_kills: int, *, parks: bool = False, seed: int = 1) -> dict[str, object]:
    """Kill the service that often while people write, then hold what reached them against what was acknowledged.

    Args:
        engine: An empty database.
        n_kills: How often; each time it has acknowledged at least one text.
        parks: Whether what was perhaps said is left to people.
        seed: Of the moments, the texts and LINE's failures.
    """
    moments = Random(seed)
    with LinePlatform(Random(seed)) as platform, ExitStack() as lives:
        _prepare(engine)
        told = {
            _DATABASE: engine.url.render_as_string(hide_password=False),
            _LINE: json.dumps(platform.settings),
            _POLICY: UnknownPolicy.PARK_UNKNOWN if parks else UnknownPolicy.AT_LEAST_ONCE,
        }
        town = Town(platform, seed)
        killed_at = []
        with town.open():
            for n_killed in range(n_kills + 1):
                server = lives.enter_context(serving("tests.chaos.chat_kill:create", told, "/healthz"))
                town.alive.clear()
                town.address = f"http://127.0.0.1:{server.port}"
                if not town.alive.wait(120):
                    raise TimeoutError("no text is acknowledged")
                if n_killed == n_kills:
                    break
                time.sleep(moments.uniform(0, LONGEST_LIFE_SECONDS))
                os.kill(server.pid, signal.SIGKILL)
                killed_at.append(utc_now())
                lives.close()
        seconds = _drained(engine)
        return {
            "backend": engine.dialect.name,
            "kills": n_kills,
            "parks": parks,
            "seconds_to_the_last_answer": seconds,
        } | inspect(engine, town, killed_at)


def inspect(engine: Engine, town: Town, killed_at: list[datetime]) -> dict[str, object]:
    """What was lost, forgotten, doubled, confused or turned round, and how much went well."""
    platform = town.platform
    with engine.connect() as conn:
        rows = conn.execute(select(chat_lines.c.line_id, chat_lines.c.status, chat_lines.c.token_at)).all()
        recorded = set(conn.scalars(select(interactions.c.event_id)))
    status_of = {row.line_id: row.status for row in rows}
    got: dict[str, list[Accepted]] = defaultdict(list)
    for one in platform.accepted:
        got[one.key or _answer_to(str(one.token))].append(one)
    wanted = {each.line_id: (person, each) for person, lines in town.wanted.items() for each in lines}
    parked = {name for name, status in status_of.items() if status == OutboxStatus.UNKNOWN}
    missing = wanted.keys() - got.keys() - parked
    twice = {name: each for name, each in got.items() if len(each) > 1}
    token_at = {row.line_id: row.token_at for row in rows}
    return {
        "acknowledged": len(town.heard),
        "redelivered": platform.n_redelivered,
        "said_by_agents": town.n_said,
        "replies": sum(one.token is not None for one in platform.accepted),
        "pushes": sum(one.key is not None for one in platform.accepted),
        "tokens_refused": platform.n_refused_tokens,
        "answers_lost": platform.n_lost_answers,
        "perhaps_twice_or_parked": len(twice) + len(parked),
        "twice": len(twice),
        "parked": len(parked),
        "lost": sum(
            line_id("heard", "line", one) not in status_of or one not in recorded for one in town.heard
        ),
        "unanswered": sum(not wanted[name][1].text.startswith("Re:") for name in missing),
        "agents_unsaid": sum(wanted[name][1].text.startswith("Re:") for name in missing),
        "out_of_order": sum(_turned(lines, got) for lines in town.wanted.values()),
        "wrong": sum(
            one.person != person or (bool(each.text) and one.text != each.text)
            for name, (person, each) in wanted.items()
            for one in got.get(name, ())
        )
        + len(got.keys() - wanted.keys()),
        "twice_unexplained": sum(
            not _explained(each, token_at[name], killed_at) for name, each in twice.items()
        ),
        "open": sum(status in (OutboxStatus.PENDING, OutboxStatus.CLAIMED) for status in status_of.values()),
        "refused": dict(platform.refused),
        "other_statuses": dict(platform.other_statuses),
        "lines": dict(Counter(status_of.values())),
    }


def _turned(lines: list[Wanted], got: Mapping[str, list[Accepted]]) -> int:
    """How many lines of a person came before one that is older."""
    came = [got[each.line_id][0].at for each in lines if each.line_id in got]
    return sum(later < earlier for earlier, later in pairwise(came))


def _explained(each: list[Accepted], token_at: datetime, killed_at: list[datetime]) -> bool:
    """Whether nobody could know better: a reply whose answer was lost, or came to a process that was killed, and then a
    push when its token was too old to ask."""
    first, *others = each
    return (
        len(others) == 1
        and first.token is not None
        and others[0].key is not None
        and others[0].at >= token_at + LineAdapter.reply_within
        and (not first.answered or any(timedelta() <= at - first.at <= _SETTLES_WITHIN for at in killed_at))
    )


def _drained(engine: Engine) -> float:
    """Wait until nothing is to be sent any more; how long it took, seconds."""
    began = time.monotonic()
    waiting = (
        select(func.count())
        .select_from(chat_lines)
        .where(chat_lines.c.status.in_((OutboxStatus.PENDING, OutboxStatus.CLAIMED)))
    )
    while time.monotonic() < began + _DRAIN_SECONDS:
        with engine.connect() as conn:
            if not conn.scalar(waiting):
                break
        time.sleep(0.5)
    return round(time.monotonic() - began, 1)


def _prepare(engine: Engine) -> None:
    """People with LINE accounts, and the answers of the channel."""
    now = utc_now()
    Market(engine).customers(*map(_customer, range(N_WRITERS + N_TALKERS)))
    with engine.begin() as conn:
        seed_channels(conn, NOW)
        append_identities(
            conn,
            [
                Identity(
                    customer_id=_customer(number),
                    kind=IdentityKind.LINE,
                    value=_person(number),
                    linked_at=now,
                    source="chaos",
                )
                for number in range(N_WRITERS + N_TALKERS)
            ],
        )
        save_answers(conn, "line", from_document(_ANSWERS), now)


def _customer(number: int) -> str:
    return f"c-{number}"


def _person(number: int) -> str:
    return f"U{_customer(number)}"


def _answer_to(event_id: str) -> str:
    """Id of the line that answers what an event reported."""
    return line_id("answer", line_id("heard", "line", event_id))
