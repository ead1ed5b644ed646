"""The log: text or JSON lines on standard error, each with the request and the decision that it belongs to."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from serving.observability.context import current
from serving.observability.redact import redact

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_IDS = ("request_id", "decision_id")


class LogFormat(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class _WithIds(logging.Filter):
    """Puts the ids of the present request on a record that has none of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = current()
        if context is not None:
            for name in _IDS:
                if getattr(record, name, None) is None and getattr(context, name) is not None:
                    setattr(record, name, getattr(context, name))
        return True


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ids = [f"{name}={getattr(record, name)}" for name in _IDS if getattr(record, name, None)]
        line = super().format(record)
        return redact(f"{line} [{' '.join(ids)}]" if ids else line)


class _JsonLines(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(form: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process to one handler; contact points and secrets are taken out of each line.

    Args:
        form: Text for people, JSON for a log store.
        level: Name of the least level that is written.
        stream: Where to; default: standard error.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.addFilter(_WithIds())
    handler.setFormatter(
        _TextLines(_TEXT)
        if form is LogFormat.TEXT
        else _JsonLines(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp=True,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # One line a request is ours to write; a client library's would name addresses.
    for name in ("uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
