"""What both demonstrations share: where they live, how they tell what they do, how they end."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from models.domain.errors import InvalidInputError
from nextchannel.settings import Settings
from serving.smtp_sink import ReceivedMail

_MARKER = ".demonstration"
_MAIL_LINES = 12


class Stages:
    """Prints one line a stage on standard error; on a terminal with a spinner and the present step."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._started = time.monotonic()

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[str], None]]:
        """Run a stage; the caller may tell in words what step it is at."""
        with self._console.status(f"{title} ...") as status:
            yield lambda step: status.update(f"{title}: {step} ...")
        self._console.print(f"[dim]{time.monotonic() - self._started:5.0f} s[/dim]  {title}")


def installation_for(settings: Settings, name: str) -> Settings:
    """An empty installation of its own below `settings.home`, on the embedded defaults.

    Whatever an earlier demonstration of that name left there is removed; a folder that no demonstration made is not
    touched.

    Raises:
        InvalidInputError: there is such a folder already and it is none of ours.
    """
    home = settings.home / f"demo-{name}"
    if home.exists() and not (home / _MARKER).exists():
        raise InvalidInputError(
            "NEXTCHANNEL_HOME", str(home), "must be empty or hold an earlier demonstration"
        )
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / _MARKER).write_text("Made by `nextchannel demo`; the next demonstration removes this folder.\n")
    return settings.model_copy(
        update={
            "home": home,
            "database": None,
            "mlflow": None,
            "online_store": None,
            "public_url": f"http://{settings.host}:{settings.port}",
        }
    )


def require_free_port(settings: Settings) -> None:
    """Find out before the work that the service will be able to listen.

    Raises:
        InvalidInputError: somebody listens there already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as exc:
            raise InvalidInputError(
                "NEXTCHANNEL_PORT", settings.port, f"must be free: {exc.strerror}; end what listens there"
            ) from exc


def address_of(settings: Settings) -> str:
    """Where the service answers."""
    return f"http://{settings.host}:{settings.port}"


def show_mail(mail: ReceivedMail | None) -> None:
    """Print the head of a mail as the local mail server received it."""
    if mail is None:
        return
    message = mail.parsed
    text = message.get_body(("plain",))
    sys.stdout.write("\nThe first mail, as the local mail server received it:\n")
    for name in ("From", "To", "Subject", "Message-ID", "List-Unsubscribe-Post"):
        sys.stdout.write(f"    {name}: {message[name]}\n")
    for line in (text.get_content() if text else "").splitlines()[:_MAIL_LINES]:
        sys.stdout.write(f"    {line}\n")


def conclude(lines: Sequence[str]) -> None:
    """Print the result."""
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()
