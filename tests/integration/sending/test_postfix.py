"""Bounces as Debian's Postfix really makes them: sent through it, refused behind it, returned by it, read.

Postfix runs from a configuration of its own on a free port of this machine; whatever is installed is left alone.
Skipped where it is not installed, or where nobody may start it: its master process must begin as root.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from features.history.query import load_customers
from models.domain.channel import IdentityKind
from serving.bounces import read_bounces
from serving.channels.registry import AdapterConfiguration, build_adapters
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.smtp_sink import SmtpSink

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POSTFIX = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_START_SECONDS = 60
_RETURN_SECONDS = 90

_MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
myhostname = mail.shop.example
mydestination =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_host_lookup = native
alias_maps =
alias_database =
transport_maps = inline:{{ example.com=smtp:[127.0.0.1]:{sink} }}
virtual_mailbox_domains = shop.example
virtual_mailbox_base = {home}/boxes
virtual_mailbox_maps = inline:{{ bounces@shop.example=bounces/ }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
recipient_delimiter = +
maillog_file = {home}/log
maillog_file_prefixes = {home}
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup    unix n - n - 0 cleanup
qmgr       unix n - n 300 1 qmgr
tlsmgr     unix - - n 1000? 1 tlsmgr
rewrite    unix - - n - - trivial-rewrite
bounce     unix - - n - 0 bounce
defer      unix - - n - 0 bounce
trace      unix - - n - 0 bounce
verify     unix - - n - 1 verify
flush      unix n - n 1000? 0 flush
proxymap   unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp       unix - - n - - smtp
relay      unix - - n - - smtp
error      unix - - n - - error
retry      unix - - n - - error
virtual    unix - n n - - virtual
anvil      unix - - n - 1 anvil
scache     unix - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class RunningPostfix:
    """A Postfix of our own.

    Attributes:
        port: Where it takes mail.
        bounces: The Maildir of `bounces@shop.example`.
        log: What it says.
    """

    port: int
    bounces: Path
    log: Path


@pytest.fixture
def postfix(sink: SmtpSink) -> Iterator[RunningPostfix]:
    """It relays mail for `example.com` to the sink, and delivers that for `shop.example` into a Maildir."""
    if POSTFIX is None:
        pytest.skip("Postfix is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root can start Postfix")
    # Its processes give up root: they must be able to walk there, which they cannot into pytest's own folders.
    home = Path(tempfile.mkdtemp(prefix="nextchannel-postfix-"))
    home.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    for folder in ("etc", "queue", "data", "boxes"):
        (home / folder).mkdir()
    shutil.chown(home / "data", "postfix")
    shutil.chown(home / "boxes", nobody.pw_uid, nobody.pw_gid)
    given = {"home": home, "port": port, "sink": sink.port, "uid": nobody.pw_uid, "gid": nobody.pw_gid}
    (home / "etc/main.cf").write_text(_MAIN.format(**given))
    (home / "etc/master.cf").write_text(_MASTER.format(**given))
    command = [POSTFIX, "-c", str(home / "etc")]
    running = RunningPostfix(port, home / "boxes/bounces", home / "log")
    try:
        started = subprocess.run([*command, "start"], capture_output=True, text=True, timeout=60, check=False)
        assert started.returncode == 0, started.stderr + _said(running)
        _wait_for(port, running)
        yield running
    finally:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([*command, "abort"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(home, ignore_errors=True)


def _wait_for(port: int, running: RunningPostfix) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
            if wire.recv(3) == b"220":
                return
        time.sleep(0.1)
    raise AssertionError(f"Postfix does not answer:\n{_said(running)}")


def _said(running: RunningPostfix) -> str:
    return running.log.read_text(errors="replace") if running.log.exists() else ""


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_bounce_that_postfix_makes_closes_the_address_and_no_other(shop, sink, postfix):
    gone, full, _ = messages = shop.add_messages(3)
    sink.answers = {
        "c0@example.com": "550 5.1.1 no such user",
        "c1@example.com": "552 5.2.2 mailbox full",
    }
    settings = {
        "host": "127.0.0.1",
        "port": str(postfix.port),
        "sender": "offers@shop.example",
        "return_path": "bounces@shop.example",
    }

    async def send():
        adapters = build_adapters(["email"], AdapterConfiguration(settings={"email": settings}), shop.links)
        sender = Dispatcher(shop.engine, adapters, shop.links, DispatchSettings(), Random(1))
        report = await sender.run_once(NOON)
        await adapters["email"].aclose()
        return report

    assert asyncio.run(send()).sent == len(
        messages
    )  # Postfix took them all: what comes back comes back later
    until = time.monotonic() + _RETURN_SECONDS
    arrived = postfix.bounces / "new"
    while time.monotonic() < until and not (arrived.is_dir() and len(list(arrived.iterdir())) == 2):
        time.sleep(0.1)
    told = read_bounces(shop.engine, postfix.bounces, NOON + timedelta(hours=1))
    assert (told.n_mails, told.n_new, told.n_unmatched) == (2, 2, 0), _said(postfix)
    assert [mail.recipients for mail in sink.received] == [("c2@example.com",)]
    with shop.engine.begin() as conn:
        people = load_customers(conn, ["c0", "c1", "c2"], NOON + timedelta(hours=2))
    reachable = {name for name, person in people.items() if IdentityKind.EMAIL in person.identities}
    assert reachable == {"c1", "c2"}
    assert (shop.row(gone)["receipt"], shop.row(full)["receipt"]) == ("bounced", "failed")
