"""Rows of text from a CSV or Parquet file, streamed, each with its line number.

CSV goes through the standard library's reader: it keeps line numbers, and one broken row does not end the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, Protocol

from models.domain.errors import InvalidInputError, NotFoundError
from training.import_rows import Row

_PARQUET_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row.

    Attributes:
        line: In a CSV file the line on which the row starts, the header being line 1; in a Parquet file the
            number of the row plus one, so that both count alike.
        cells: Text by column; empty for "not given". None for a row that could not be split into columns.
        fault: Why `cells` is None.
    """

    line: int
    cells: Row | None
    fault: str = ""


class RowFile(Protocol):
    """An open file."""

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    def rows(self) -> Iterator[FileRow]:
        """The rows, in order."""
        ...

    def share_read(self) -> float:
        """How much of the file has been read, in [0, 1]."""
        ...


@contextmanager
def open_rows(path: Path) -> Iterator[RowFile]:
    """Open a file by its ending, `.csv` or `.parquet`.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is of another kind, or not what its name says.
    """
    if not path.is_file():
        raise NotFoundError("file", str(path))
    if path.suffix == ".csv":
        # Bytes that are not UTF-8 become lone surrogates, which are found row by row.
        with (
            path.open("rb") as raw,
            TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            yield _CsvRows(raw, text, path)
    elif path.suffix == ".parquet":
        yield _ParquetRows(path)
    else:
        raise InvalidInputError("file", str(path), "must end in .csv or .parquet")


class _CsvRows:
    def __init__(self, raw: BinaryIO, text: TextIOWrapper, path: Path) -> None:
        self._raw = raw
        self._size = max(path.stat().st_size, 1)
        self._reader = csv.reader(text, strict=True)
        try:
            self._header = tuple(name.strip() for name in next(self._reader))
        except (StopIteration, csv.Error) as exc:
            raise InvalidInputError(
                "file", str(path), "must begin with a header line of column names"
            ) from exc

    @property
    def header(self) -> tuple[str, ...]:
        return self._header

    def rows(self) -> Iterator[FileRow]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as exc:
                yield FileRow(line, None, f"is not CSV: {exc}")
                continue
            if not cells:  # an empty line
                continue
            yield self._row(line, cells)

    def share_read(self) -> float:
        return min(self._raw.tell() / self._size, 1.0)

    def _row(self, line: int, cells: Sequence[str]) -> FileRow:
        if len(cells) != len(self._header):
            return FileRow(line, None, f"has {len(cells)} cells, must have {len(self._header)}")
        if any(not cell.isascii() and _broken(cell) for cell in cells):
            return FileRow(line, None, "is not UTF-8")
        return FileRow(line, {name: cell.strip() for name, cell in zip(self._header, cells, strict=True)})


class _ParquetRows:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(path)
        except pa.ArrowInvalid as exc:
            raise InvalidInputError("file", str(path), f"must be a Parquet file ({exc})") from exc
        self._n_read = 0

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(self._file.schema_arrow.names)

    def rows(self) -> Iterator[FileRow]:
        for batch in self._file.iter_batches(batch_size=_PARQUET_ROWS):
            for values in batch.to_pylist():
                self._n_read += 1
                yield FileRow(self._n_read + 1, {name: _text(value) for name, value in values.items()})

    def share_read(self) -> float:
        return float(self._n_read / max(self._file.metadata.num_rows, 1))


def _broken(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return True
    return False


def _text(value: object) -> str:
    """A Parquet value as a CSV file would spell it; a moment without a zone counts as UTC, as Parquet has it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return str(value)
