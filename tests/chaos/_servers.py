"""Servers of a program's own, to be stopped, hung and restarted without harm to anybody else's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgres_cluster() -> Iterator[tuple[str, Callable[[], None]]]:
    """Address of a fresh PostgreSQL, and a function that restarts it at once, aborting whatever is under way."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *map(str, programs)]))
    if initdb is None:
        raise SystemExit("PostgreSQL's server programs are not installed")
    pg_ctl = Path(initdb).with_name("pg_ctl")
    # PostgreSQL refuses to run as root.
    whose = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        if whose:
            shutil.chown(folder, "postgres")
        port = free_port()

        def call(*command: object) -> None:
            subprocess.run([*whose, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=folder)

        call(initdb, "--auth=trust", "--username=postgres", "--no-sync", "-D", data)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        call(pg_ctl, "-D", data, "-o", options, "-l", data / "log", "-w", "start")
        try:
            yield (
                f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres",
                lambda: call(pg_ctl, "-D", data, "-l", data / "log", "-m", "immediate", "-w", "restart"),
            )
        finally:
            call(pg_ctl, "-D", data, "-m", "immediate", "stop")


class RedisServer:
    """A Redis that keeps what it has when it is stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it had."""
        options = ["--port", str(self.port), "--dir", str(self._folder), "--save", "3600 1"]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                    wire.sendall(b"PING\r\n")
                    if wire.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError("Redis does not start")

    def hang(self) -> None:
        """Take connections and answer nothing."""
        self._tell(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._tell(signal.SIGCONT)

    def stop(self) -> None:
        """Save and end."""
        if self._process is not None:
            self.go_on()
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _tell(self, what: signal.Signals) -> None:
        assert self._process is not None, "it was started"
        self._process.send_signal(what)


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A Redis of one's own until the block ends."""
    if shutil.which("redis-server") is None:
        raise SystemExit("Redis is not installed")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
