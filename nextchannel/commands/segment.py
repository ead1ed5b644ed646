"""`nextchannel segment`: who belongs together, by stacked conditions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine

    from features.feature_list import FeatureList

app = typer.Typer(
    help="Define segments, count and export their members, tag customers.", no_args_is_help=True
)

_Name = Annotated[str, typer.Argument(help="Name of the segment.")]


@app.command()
def put(file: Annotated[Path, typer.Argument(help="One segment as JSON: docs/how-to/segments.md.")]) -> None:
    """Store a segment; a changed one becomes a new version."""
    from features.segments.everybody import check_features
    from features.segments.language import feature_names, parse_segment
    from features.segments.store import save_segment
    from nextchannel.commands.installation import open_history
    from nextchannel.commands.json_file import read_json
    from nextchannel.settings import Settings

    segment = parse_segment(read_json(file))
    engine = open_history(Settings())
    if feature_names(segment.condition):
        check_features(segment, _features(engine))
    with engine.begin() as conn:
        stored = save_segment(conn, segment, _now())
    typer.echo(f"segment {stored.name}: version {stored.version}")


@app.command("list")
def list_() -> None:
    """Every segment, in order of name."""
    from features.history.engine import read_only
    from features.segments.store import list_segments
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    with read_only(open_history(Settings())).connect() as conn:
        for segment in list_segments(conn):
            typer.echo(f"{segment.name:<24} version {segment.version}  {segment.description}".rstrip())


@app.command()
def size(name: _Name) -> None:
    """How many belong to a segment now."""
    typer.echo(f"{name}: {len(_members(name)):,} customers")


@app.command()
def describe(
    name: _Name,
    campaign: Annotated[
        str | None, typer.Option(help="Say also what this campaign did with the members.")
    ] = None,
    language: Annotated[str, typer.Option(help="Of the sentences: en, zh-Hant or ja.")] = "en",
) -> None:
    """What sets the members apart, where they can be reached, and what a campaign did with them."""
    from features.online import FeatureReader
    from models.domain.errors import InvalidInputError
    from nextchannel.commands.described import lines
    from nextchannel.commands.installation import open_features, open_history
    from nextchannel.settings import Settings
    from serving.explain.catalogue import Language
    from serving.explain.languages import CATALOGUES
    from serving.money import Currency
    from serving.profile.segment import Profiler

    if language not in set(Language):
        raise InvalidInputError("--language", language, f"must be one of {', '.join(Language)}")
    settings = Settings()
    engine = open_history(settings)
    workspace = open_features(settings, engine)
    currency = Currency(settings.currency, settings.currency_digits)
    source = FeatureReader(workspace, keeps=False)
    profiler = Profiler(engine=engine, source=source, currency=currency)
    features = workspace.features if workspace.defined else None
    words = CATALOGUES[Language(language)]
    for line in lines(profiler.profile(name, _now(), words, features, campaign), currency):
        typer.echo(line)


@app.command()
def export(
    name: _Name,
    out: Annotated[Path, typer.Option(help="The CSV file to write: a column customer_id.")],
) -> None:
    """Write the members to a CSV file that is safe to open in a spreadsheet."""
    import csv

    from training.spreadsheet import safe_cell

    found = _members(name)
    written = out.with_name(f"{out.name}.tmp")
    with written.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer_id"])
        writer.writerows([safe_cell(customer_id)] for customer_id in found)
    written.replace(out)
    typer.echo(f"{name}: {len(found):,} customers in {out}")


@app.command()
def tag(
    name: Annotated[str, typer.Argument(help="The tag.")],
    file: Annotated[Path, typer.Argument(help="A .csv or .parquet file with a column customer_id.")],
    source: Annotated[str, typer.Option(help="Who says so.")] = "command line",
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
) -> None:
    """Tag the customers of a file: all of them, or nobody where one is not known."""
    from features.segments.store import TagStatement, append_tags
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings
    from training.import_files import open_rows
    from training.import_rows import Columns

    now = _now()
    with open_rows(file) as rows:
        Columns(required=("customer_id",), optional=(), prefixes=("",)).check(rows.header)
        statements = [
            TagStatement(
                customer_id=row.cells["customer_id"], tag=name, since=now, source=source, present=not remove
            )
            for row in rows.rows()
            if row.cells is not None and row.cells["customer_id"]
        ]
    with open_history(Settings()).begin() as conn:
        appended = append_tags(conn, statements)
    typer.echo(f"{name}: {'taken off' if remove else 'put on'} {appended.n_new:,} customers")


def _members(name: str) -> list[str]:
    from features.history.engine import read_only
    from features.segments.everybody import members
    from features.segments.store import load_segment
    from nextchannel.commands.installation import open_history
    from nextchannel.settings import Settings

    engine = open_history(Settings())
    features = _features(engine)
    with read_only(engine).connect() as conn:
        return members(conn, load_segment(conn, name), _now(), features)


def _features(engine: Engine) -> FeatureList | None:
    from nextchannel.commands.installation import open_features
    from nextchannel.settings import Settings

    workspace = open_features(Settings(), engine)
    return workspace.features if workspace.defined else None


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)
