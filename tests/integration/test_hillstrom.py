"""The real experiment of 2008: the published facts, through our loader and our own path."""

from __future__ import annotations

import gzip
import math
import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from sqlalchemy import Engine

from features.workspace import FeatureWorkspace
from models.domain.errors import InvalidInputError, NotFoundError
from models.evaluation.verdict import Verdict
from training import hillstrom, hillstrom_report

# Where the setting says, or beside the checkout.
_PLACES = (os.environ.get("NEXTCHANNEL_DATA_DIR"), Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """The file, where it has been fetched."""
    for place in _PLACES:
        if place and (Path(place) / hillstrom.FILE).exists():
            return hillstrom.load(None, Path(place))
    pytest.skip(f"no {hillstrom.FILE}: set NEXTCHANNEL_DATA_DIR to the folder of public data sets")


# Mean spend in dollars, its standard error, visit rate and conversion rate in percent.
@pytest.mark.parametrize(
    ("segment", "spend", "standard_error", "visited", "converted"),
    [
        ("Mens E-Mail", 1.4226, 0.122, 18.28, 1.253),
        ("Womens E-Mail", 1.0772, 0.103, 15.14, 0.884),
        ("No E-Mail", 0.6528, 0.079, 10.62, 0.573),
    ],
)
def test_the_published_means_of_every_arm_are_reproduced(
    rows: pl.DataFrame, segment: str, spend: float, standard_error: float, visited: float, converted: float
) -> None:
    arm = rows.filter(pl.col("segment") == segment)
    values = arm["spend"].to_numpy()
    assert values.mean() == pytest.approx(spend, abs=5e-5)
    assert values.std(ddof=1) / math.sqrt(len(values)) == pytest.approx(standard_error, abs=5e-4)
    assert 100 * arm["visit"].to_numpy().mean() == pytest.approx(visited, abs=5e-3)
    assert 100 * arm["conversion"].to_numpy().mean() == pytest.approx(converted, abs=5e-4)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hillstrom.csv.gz"
    path.write_bytes(gzip.compress(b"recency,history\n1,2\n"))
    with pytest.raises(InvalidInputError, match="SHA-256"):
        hillstrom.load(path, tmp_path)


def test_the_file_is_downloaded_once_and_verified(rows: pl.DataFrame, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    place = next(Path(place) for place in _PLACES if place and (Path(place) / hillstrom.FILE).exists())
    (served / "hillstrom.csv").write_bytes(gzip.decompress((place / hillstrom.FILE).read_bytes()))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hillstrom.csv"
        downloaded = hillstrom.load(None, tmp_path / "data", address)
        server.shutdown()
    assert downloaded.equals(rows)
    assert hillstrom.load(None, tmp_path / "data", "http://127.0.0.1:1/nobody").equals(rows)
    with pytest.raises(NotFoundError, match="nobody"):
        hillstrom.load(None, tmp_path / "elsewhere", "http://127.0.0.1:1/nobody")


def test_half_is_learned_from_and_the_other_half_is_judged_by_the_same_path(
    rows: pl.DataFrame, sqlite_engine: Engine, tmp_path: Path
) -> None:
    some = rows.sample(8_000, seed=5)
    learned, held_out = hillstrom_report.put_history(sqlite_engine, some, hillstrom.MAILED_AT)
    report = hillstrom_report.report(
        sqlite_engine, FeatureWorkspace(tmp_path, sqlite_engine), hillstrom.MAILED_AT
    )

    second = some.filter(
        ~pl.col("customer_id").map_elements(lambda name: hillstrom.in_half(name, 0), pl.Boolean)
    )
    assert (report.n_learned, report.n_held_out) == (8_000 - len(second), len(second))
    assert learned.offers[0].margin_minor == held_out.offers[0].margin_minor
    # With equal propensities SNIPS of a constant action is the mean of its arm: spend less 0.01 cent of mail.
    for segment, name, cost in (
        ("Mens E-Mail", "all mens", 0.01),
        ("Womens E-Mail", "all womens", 0.01),
        ("No E-Mail", "nobody", 0.0),
    ):
        spend = 100 * second.filter(pl.col("segment") == segment)["spend"].to_numpy()
        check = report.checks[name]
        assert check.value == pytest.approx(spend.mean() - cost)
        assert check.standard_error == pytest.approx(spend.std(ddof=1) / math.sqrt(len(spend)), rel=0.01)
    assert sum(report.shares.values()) == pytest.approx(1)
    # 8,000 customers with some seventy purchases cannot show that personal choice pays.
    assert report.comparison.verdict is not Verdict.BETTER
    assert report.verdict in report.to_markdown()
