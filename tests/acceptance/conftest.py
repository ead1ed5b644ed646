"""A real service in a process of its own, on a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from serving.smtp_sink import SmtpSink

ROOT = Path(__file__).parents[2]
_START_SECONDS = 240


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServiceProcess:
    """`nextchannel serve`, started and killed as often as a test wants; `settings` are `NEXTCHANNEL_*` of its own."""

    home: Path
    sink: SmtpSink
    send: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXTCHANNEL_")}
        return kept | {
            "NEXTCHANNEL_HOME": str(self.home),
            "NEXTCHANNEL_SMTP_PORT": str(self.sink.port),
            "NEXTCHANNEL_PORT": str(self.port),
            "NEXTCHANNEL_PUBLIC_URL": self.address,
            "NEXTCHANNEL_SEND": str(self.send).lower(),
            **self.settings,
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nextchannel", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nextchannel", *(command or ("serve",))], cwd=ROOT, env=self.environment
        )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, "the service ended by itself"
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready within {_START_SECONDS} s")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    """An installation of its own that nobody has started yet, with a mail server beside it."""
    with SmtpSink() as sink:
        process = ServiceProcess(home=tmp_path / "home", sink=sink)
        yield process
        process.stop()
