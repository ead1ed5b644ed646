"""Published experiments: their known facts, through our loaders and our own path."""

from __future__ import annotations

import gzip
import math
import os
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl
import pytest
from sqlalchemy import Engine

from features.workspace import FeatureWorkspace
from models.domain.errors import InvalidInputError, NotFoundError
from models.evaluation.verdict import Verdict
from training.experiment_report import put_history, report
from training.hillstrom import HILLSTROM
from training.michigan import MICHIGAN
from training.public_experiment import PublicExperiment

# Where the setting says, or beside the checkout.
_PLACES = (os.environ.get("NEXTCHANNEL_DATA_DIR"), Path(__file__).parents[3] / "shared" / "data")


def _place(experiment: PublicExperiment) -> Path:
    for place in _PLACES:
        if place and (Path(place) / experiment.file.path).exists():
            return Path(place)
    pytest.skip(f"no {experiment.file.path}: set NEXTCHANNEL_DATA_DIR to the folder of public data sets")


@pytest.fixture(scope="module")
def hillstrom() -> pl.DataFrame:
    """The e-mail experiment, where it has been fetched."""
    return HILLSTROM.load(None, _place(HILLSTROM))


@pytest.fixture(scope="module")
def michigan() -> pl.DataFrame:
    """The voter mail, where it has been put."""
    return MICHIGAN.load(None, _place(MICHIGAN))


# Mean spend in dollars, its standard error, visit rate and conversion rate in percent.
@pytest.mark.parametrize(
    ("offer", "spend", "standard_error", "visited", "converted"),
    [
        ("mens", 1.4226, 0.122, 18.28, 1.253),
        ("womens", 1.0772, 0.103, 15.14, 0.884),
        (None, 0.6528, 0.079, 10.62, 0.573),
    ],
)
def test_the_published_means_of_every_mail_are_reproduced(
    hillstrom: pl.DataFrame,
    offer: str | None,
    spend: float,
    standard_error: float,
    visited: float,
    converted: float,
) -> None:
    arm = hillstrom.filter(pl.col("offer").eq_missing(offer))
    values = arm["value_minor"].to_numpy() / 100
    assert values.mean() == pytest.approx(spend, abs=5e-5)
    assert values.std(ddof=1) / math.sqrt(len(values)) == pytest.approx(standard_error, abs=5e-4)
    assert 100 * arm["visited"].to_numpy().mean() == pytest.approx(visited, abs=5e-3)
    assert 100 * arm["converted"].to_numpy().mean() == pytest.approx(converted, abs=5e-4)


@pytest.mark.parametrize(
    ("offer", "voted"),
    [(None, 29.66), ("civic_duty", 31.45), ("hawthorne", 32.24), ("self", 34.52), ("neighbors", 37.79)],
)
def test_the_published_turnout_under_every_letter_is_reproduced(
    michigan: pl.DataFrame, offer: str | None, voted: float
) -> None:
    assert len(michigan) == 344_084
    assert michigan["unit"].n_unique() == 10_000
    arm = michigan.filter(pl.col("offer").eq_missing(offer))
    assert arm["value_minor"].to_numpy().mean() == pytest.approx(voted, abs=5.1e-3)
    share, propensity = len(arm) / len(michigan), arm["propensity"].unique().to_list()
    assert propensity == pytest.approx([share], abs=5e-4)


@pytest.mark.parametrize("experiment", [HILLSTROM, MICHIGAN])
def test_a_changed_file_is_refused(experiment: PublicExperiment, tmp_path: Path) -> None:
    path = tmp_path / "altered.csv.gz"
    path.write_bytes(gzip.compress(b"recency,history\n1,2\n"))
    with pytest.raises(InvalidInputError, match="SHA-256"):
        experiment.load(path, tmp_path)


def test_a_file_that_nobody_serves_is_asked_for_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"shaming\.csv\.gz .*isps\.yale\.edu"):
        MICHIGAN.load(None, tmp_path)


def test_the_file_is_downloaded_once_and_verified(hillstrom: pl.DataFrame, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    original = _place(HILLSTROM) / HILLSTROM.file.path
    (served / "hillstrom.csv").write_bytes(gzip.decompress(original.read_bytes()))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))

    def at(address: str) -> PublicExperiment:
        return replace(HILLSTROM, file=replace(HILLSTROM.file, address=address))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hillstrom.csv"
        downloaded = at(address).load(None, tmp_path / "data")
        server.shutdown()
    assert downloaded.equals(hillstrom)
    nobody = at("http://127.0.0.1:1/nobody")
    assert nobody.load(None, tmp_path / "data").equals(hillstrom)
    with pytest.raises(NotFoundError, match="nobody"):
        nobody.load(None, tmp_path / "elsewhere")


def test_half_is_learned_from_and_the_other_half_is_judged_by_the_same_path(
    hillstrom: pl.DataFrame, sqlite_engine: Engine, tmp_path: Path
) -> None:
    some = hillstrom.sample(8_000, seed=5)
    learned, held_out = put_history(sqlite_engine, HILLSTROM, some, HILLSTROM.ran_at)
    found = report(
        sqlite_engine, FeatureWorkspace(tmp_path, sqlite_engine), HILLSTROM, some, HILLSTROM.ran_at
    )

    second = _second_half(HILLSTROM, some)
    assert (found.n_learned, found.n_held_out) == (8_000 - len(second), len(second))
    assert found.n_units == len(second)
    assert learned.offers[0].margin_minor == held_out.offers[0].margin_minor
    # With equal propensities SNIPS of a constant action is the mean of its arm: spend less 0.01 cent of mail.
    for offer, name, cost in (
        ("mens", "all mens", 0.01),
        ("womens", "all womens", 0.01),
        (None, "nobody", 0.0),
    ):
        spend = second.filter(pl.col("offer").eq_missing(offer))["value_minor"].to_numpy()
        check = found.checks[name]
        assert check.value == pytest.approx(spend.mean() - cost)
        assert check.standard_error == pytest.approx(spend.std(ddof=1) / math.sqrt(len(spend)), rel=0.01)
    assert sum(found.shares.values()) == pytest.approx(1)
    # 8,000 customers with some seventy purchases cannot show that personal choice pays.
    assert found.comparison.verdict is not Verdict.BETTER
    assert found.verdict in found.to_markdown()


def test_voters_are_halved_by_neighbourhood_and_errors_are_clustered_by_it(
    michigan: pl.DataFrame, sqlite_engine: Engine, tmp_path: Path
) -> None:
    some = michigan.filter(pl.col("unit").cast(pl.Int64) <= 60)
    put_history(sqlite_engine, MICHIGAN, some, MICHIGAN.ran_at)
    found = report(sqlite_engine, FeatureWorkspace(tmp_path, sqlite_engine), MICHIGAN, some, MICHIGAN.ran_at)

    second = _second_half(MICHIGAN, some)
    first = some.join(second, on="customer_id", how="anti")
    assert not set(first["unit"]) & set(second["unit"])
    assert (found.n_learned, found.n_held_out) == (len(first), len(second))
    assert found.n_units == second["unit"].n_unique()
    # SNIPS of a constant action is its arm's turnout T; its error sums the deviations y - T by neighbourhood:
    # se = sqrt(G / (G - 1) * sum_g (sum of g's deviations)**2) / size of the arm.
    for offer, name in ((None, "nobody"), ("neighbors", "all neighbors")):
        arm = second.filter(pl.col("offer").eq_missing(offer))
        turnout = arm["value_minor"].to_numpy().mean()
        sums = arm.group_by("unit").agg((pl.col("value_minor") - turnout).sum())["value_minor"].to_numpy()
        groups = found.n_units
        clustered = np.sqrt(groups / (groups - 1) * (sums @ sums)) / len(arm)
        assert found.checks[name].value == pytest.approx(turnout)
        assert found.checks[name].standard_error == pytest.approx(clustered)
    # The one letter that moves most moves nearly everybody most: there is nothing for personal choice to gain.
    assert found.comparison.verdict is not Verdict.BETTER
    assert "by cluster" in found.to_markdown()


def _second_half(experiment: PublicExperiment, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.col("unit").map_elements(lambda unit: experiment.in_half(unit, 0), pl.Boolean))
