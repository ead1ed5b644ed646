"""The side file of an import: its bad rows, with line, column and reason."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TextIO

from training.spreadsheet import safe_cell


@dataclass(frozen=True, slots=True)
class Reject:
    """One bad row.

    Attributes:
        line: Line of the file.
        column: The column at fault; empty where the whole row is.
        value: What stood there.
        reason: What is wrong with it.
    """

    line: int
    column: str
    value: str
    reason: str


class Rejects:
    """Writes the side file; there is none while every row is good, and none of an earlier import is left.

    Attributes:
        path: The file.
        n: Number of bad rows so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n = 0
        self._file: TextIO | None = None

    def __enter__(self) -> Rejects:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """Write one bad row."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            csv.writer(self._file).writerow([field.name for field in fields(Reject)])
        csv.writer(self._file).writerow(safe_cell(value) for value in astuple(reject))
        self.n += 1
