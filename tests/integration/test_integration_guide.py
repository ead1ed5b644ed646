"""What the guide and the reference tell an integrator to type does what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select

from features.history.tables import outbox
from models.domain import errors
from models.domain.campaign import Caps, PolicyName
from serving.app import create_app
from serving.problems import problem_of

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "how-to/integrate.md").read_text(encoding="utf-8")
REFERENCE = (DOCS / "reference/api.md").read_text(encoding="utf-8")
BEFORE_THE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def served(market) -> Iterator[str]:
    market.customers(*(f"sim-000000{i}" for i in range(5)))
    market.campaign("spring_sale", policy=PolicyName.GREEDY, caps=Caps(contacts=None))
    service = market.service(start=False)
    server = uvicorn.Server(
        uvicorn.Config(create_app(service), host="127.0.0.1", port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    market.opened.remove(service)
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def run(command: list[str], program: str, served: str, folder: Path) -> str:
    given = program.replace("127.0.0.1:8000", served)
    (folder / command[-1]).write_text(given, encoding="utf-8")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{given}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@BEFORE_THE_DATABASE
def test_the_commands_of_the_guide_are_answered_as_it_says(served, tmp_path):
    decide, report, what_if, stream = blocks("sh")
    first, again = (run(["bash", "-eu", "block.sh"], decide, served, tmp_path) for _ in range(2))
    assert first == again
    assert json.loads(run(["bash", "-eu", "block.sh"], report, served, tmp_path))["n_new"] == 1
    compared = json.loads(run(["bash", "-eu", "block.sh"], what_if, served, tmp_path))
    assert compared["base"]["action"]["channel"] == "sms"
    assert compared["what_if"]["action"]["channel"] == "push"
    outcomes = run(["bash", "-eu", "block.sh"], stream, served, tmp_path).splitlines()
    assert [json.loads(one)["decision"]["customer_id"] for one in outcomes] == [
        f"sim-000000{i}" for i in range(5)
    ]


def message_of(market, customer_id: str):
    with market.engine.connect() as conn:
        return conn.execute(select(outbox).where(outbox.c.customer_id == customer_id)).one()


@BEFORE_THE_DATABASE
def test_the_python_of_the_guide_sends_and_says_so(served, market, tmp_path):
    (program,) = blocks("python")
    assert run([sys.executable, "guide.py"], program, served, tmp_path).splitlines()[-1] == "sent"
    message = message_of(market, "sim-0000001")
    assert (message.status, message.provider_message_id) == ("sent", "message-sms")


@BEFORE_THE_DATABASE
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_sender_in_node_sends_and_says_so(served, market, tmp_path):
    (program,) = blocks("js")
    assert run(["node", "sender.mjs"], program, served, tmp_path).splitlines()[-1] == "sent"
    message = message_of(market, "sim-0000002")
    assert (message.status, message.provider_message_id) == ("sent", "message-sms")


class _Busy(BaseHTTPRequestHandler):
    """Stands before the service, and tells every path to come again before it lets it through."""

    behind = ""
    refusals: ClassVar[dict[str, list[int]]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        verb = self.path.rpartition("/")[2]
        left = self.refusals.setdefault(verb, [429, 503, 409])
        if left:
            status, kind = left.pop(0), "request-in-progress"
            told = json.dumps(
                {"type": f"/problems/{kind if status == 409 else 'busy'}", "detail": "come again"}
            )
        else:
            kept = {name: self.headers[name] for name in ("content-type", "idempotency-key")}
            answer = httpx.post(f"http://{self.behind}{self.path}", content=body, headers=kept)
            status, told = answer.status_code, answer.text
        self.send_response(status)
        self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(told.encode())))
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@BEFORE_THE_DATABASE
@pytest.mark.parametrize(
    ("language", "command"), [("python", [sys.executable, "guide.py"]), ("js", ["node", "sender.mjs"])]
)
def test_the_senders_of_the_guide_come_again_as_they_are_told(served, market, tmp_path, language, command):
    if shutil.which(command[0]) is None:
        pytest.skip("Node is not installed")
    stand = type("Stand", (_Busy,), {"behind": served, "refusals": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), stand)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (program,) = blocks(language)
    try:
        assert run(command, program, f"127.0.0.1:{server.server_port}", tmp_path).splitlines()[-1] == "sent"
    finally:
        server.shutdown()
    assert stand.refusals == {"decisions": [], "activate": []}
    with market.engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(outbox)) == 1


@BEFORE_THE_DATABASE
def test_the_reference_names_every_call_and_every_problem(market):
    described = create_app(market.service()).openapi()
    for path, operations in described["paths"].items():
        for method in operations:
            if path.startswith("/v1/"):
                assert f"| `{method.upper()} {path}` |" in REFERENCE, f"{method} {path}"
    raised = [
        errors.InvalidInputError("a", 1, "must be 2"),
        errors.InvalidInputsError([errors.InvalidInputError("a", 1, "must be 2")]),
        errors.CampaignExpiredError("a", 1, "must be 2"),
        errors.NotFoundError("a", "1"),
        errors.ConflictError("no"),
        errors.KeyReusedError("no"),
        errors.InProgressError("no"),
        errors.StateError("1", "sent", "cancelled"),
        errors.OverloadedError("no"),
        errors.StoreUnavailableError("no"),
        errors.NextchannelError("no"),
    ]
    for error in raised:
        problem = problem_of(error, "/v1")
        assert f"| `{problem.type}` | {problem.status} |" in REFERENCE, problem.type
