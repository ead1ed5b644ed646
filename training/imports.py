"""Bring customers, interactions and decisions into the history from files.

Good rows are committed chunk by chunk; a bad row goes, whole, to a side file with its line, column and reason.
Every append passes over what is already there, so an interrupted or repeated import ends in the same history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from features.history.append import (
    Appended,
    append_decisions,
    append_interactions,
)
from features.history.campaigns import list_campaigns
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.register import register
from features.history.visitors import find_or_make_visitors
from features.identity.normalise import mask, redact
from models.domain.decision import Decision
from models.domain.errors import ConflictError, InvalidInputError, NotFoundError
from models.domain.interaction import Interaction
from training.import_files import RowFile, open_rows
from training.import_rejects import Reject, Rejects
from training.import_rows import (
    CUSTOMER_COLUMNS,
    DECISION_COLUMNS,
    INTERACTION_COLUMNS,
    Columns,
    InteractionRow,
    Row,
    customer,
    decision,
    interaction,
)

_CHUNK_ROWS = 2_000
_Parsed = TypeVar("_Parsed")
_Record = TypeVar("_Record")
# What a single row can be guilty of; anything else is the database's fault and stops the import.
_ROW_ERRORS = (InvalidInputError, NotFoundError, ConflictError, IntegrityError)


class ImportKind(StrEnum):
    """What a file holds."""

    CUSTOMERS = "customers"
    INTERACTIONS = "interactions"
    DECISIONS = "decisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How an import ended.

    Attributes:
        n_new: Rows that are in the history now and were not before.
        n_repeated: Good rows that were there already.
        n_rejected: Bad rows.
        n_erased: Rows of people who were erased; they were passed over.
        rejected: The side file with the bad rows; None where all were good.
    """

    n_new: int
    n_repeated: int
    n_rejected: int
    rejected: Path | None
    n_erased: int = 0


@dataclass(frozen=True, slots=True)
class _Importer(Generic[_Parsed, _Record]):
    """How one kind of file is brought in.

    Attributes:
        parse: A row's own meaning; raises where it has none.
        resolve: What takes the history to find out; the refusal where it finds none.
        append: Into the history.
    """

    columns: Columns
    parse: Callable[[Row], _Parsed]
    resolve: Callable[[Connection, Sequence[_Parsed]], Sequence[_Record | InvalidInputError]]
    append: Callable[[Connection, Sequence[_Record], datetime], Appended]


def import_file(
    engine: Engine,
    kind: ImportKind,
    path: Path,
    now: datetime,
    progress: Callable[[float], None] | None = None,
) -> Imported:
    """Import a file.

    Args:
        engine: The history.
        kind: What the file holds.
        path: A `.csv` or `.parquet` file; its columns are listed in `docs/reference/import.md`.
        now: When the rows are received.
        progress: Told the share of the file that has been read, in [0, 1], after every chunk.

    Raises:
        InvalidInputError: the file lacks a column, or has one that means nothing.
        NotFoundError: there is no such file.
    """
    with open_rows(path) as file:
        if kind is ImportKind.CUSTOMERS:
            return _run(engine, _CUSTOMERS, file, path, now, progress)
        if kind is ImportKind.INTERACTIONS:
            return _run(engine, _INTERACTIONS, file, path, now, progress)
        return _run(engine, _decisions_of(engine), file, path, now, progress)


def _run(
    engine: Engine,
    importer: _Importer[_Parsed, _Record],
    file: RowFile,
    path: Path,
    now: datetime,
    progress: Callable[[float], None] | None,
) -> Imported:
    importer.columns.check(file.header)
    total = Appended(0, 0)
    rows = file.rows()
    with Rejects(path.with_name(f"{path.name}.rejected.csv")) as rejects:
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            good: list[tuple[int, _Parsed]] = []
            for row in chunk:
                if row.cells is None:
                    rejects.add(Reject(row.line, "", "", row.fault))
                    continue
                try:
                    good.append((row.line, importer.parse(row.cells)))
                except InvalidInputError as error:
                    rejects.add(_reject(row.line, error))
            appended, refused = _commit(engine, importer, good, now)
            for reject in refused:
                rejects.add(reject)
            total = _sum(total, appended)
            if progress:
                progress(file.share_read())
        return Imported(
            n_new=total.n_new,
            n_repeated=total.n_repeated,
            n_rejected=rejects.n,
            rejected=rejects.path if rejects.n else None,
            n_erased=total.n_erased,
        )


def _commit(
    engine: Engine, importer: _Importer[_Parsed, _Record], good: Sequence[tuple[int, _Parsed]], now: datetime
) -> tuple[Appended, list[Reject]]:
    """Append rows in one transaction; where that fails for some row's sake, halve until that row is found."""
    if not good:
        return Appended(0, 0), []
    try:
        with engine.begin() as conn:
            resolved = importer.resolve(conn, [parsed for _, parsed in good])
            unresolved = [
                _reject(line, record)
                for (line, _), record in zip(good, resolved, strict=True)
                if isinstance(record, InvalidInputError)
            ]
            records = [record for record in resolved if not isinstance(record, InvalidInputError)]
            return importer.append(conn, records, now), unresolved
    except _ROW_ERRORS as error:
        if len(good) == 1:
            return Appended(0, 0), [_reject(good[0][0], error)]
    middle = len(good) // 2
    (first, refused), (second, also) = (
        _commit(engine, importer, half, now) for half in (good[:middle], good[middle:])
    )
    return _sum(first, second), [*refused, *also]


def _sum(first: Appended, second: Appended) -> Appended:
    return Appended(
        first.n_new + second.n_new,
        first.n_repeated + second.n_repeated,
        first.n_erased + second.n_erased,
    )


def _reject(line: int, error: Exception) -> Reject:
    if isinstance(error, InvalidInputError):
        return Reject(line, error.field, redact(str(error.value)), error.bound)
    return Reject(line, "", "", redact(str(error).splitlines()[0]))


def _whose(conn: Connection, rows: Sequence[InteractionRow]) -> Sequence[Interaction | InvalidInputError]:
    """The facts with their customers; a cookie that nobody has yet becomes a visitor."""
    points = {row.point: (row.fact.occurred_at, row.fact.source) for row in rows if row.point is not None}
    owners = find_or_make_visitors(conn, points) if points else {}
    found: list[Interaction | InvalidInputError] = []
    for row in rows:
        if row.point is None:
            found.append(row.fact)
        elif row.point in owners:
            found.append(replace(row.fact, customer_id=owners[row.point]))
        else:
            kind, value = row.point
            found.append(
                InvalidInputError(kind.value, mask(kind, value), "must be a contact point of a customer")
            )
    return found


def _as_they_are(_conn: Connection, rows: Sequence[_Record]) -> Sequence[_Record | InvalidInputError]:
    return rows


def _decisions_of(engine: Engine) -> _Importer[Decision, Decision]:
    with read_only(engine).connect() as conn:
        campaigns = {campaign.campaign_id: campaign for campaign in list_campaigns(conn)}
        channels = load_channels(conn)
    return _Importer(
        DECISION_COLUMNS,
        lambda row: decision(row, campaigns, channels),
        _as_they_are,
        lambda conn, rows, _now: append_decisions(conn, rows),
    )


_CUSTOMERS = _Importer(CUSTOMER_COLUMNS, customer, _as_they_are, register)
_INTERACTIONS = _Importer(INTERACTION_COLUMNS, interaction, _whose, append_interactions)
