"""Finished plays of the market benchmark: which are found again, and which are played again."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.benchmarks import market_cells
from tests.benchmarks.market_cells import Cell, Results
from tests.benchmarks.market_world import Played

CELL = Cell(preset="retail", seed=11, policy="ours (bandit)", kind="ours")
SOURCE = '"""What it is."""\nimport math\n\ndef twice(x: int) -> int:\n    """Two of it."""\n    return 2 * x  # or x + x\n'
INSIDE = SOURCE.replace("import math\n", "").replace("    return", "    import math\n    return")


def played(value: float) -> Played:
    totals = {
        one.name: np.full(3, value) for one in fields(Played) if one.name not in ("ineligible", "off_one")
    }
    return Played(**totals)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A repository of one file, which every kind of play depends on."""
    path = tmp_path / "code.py"
    path.write_text(SOURCE)
    monkeypatch.setattr(market_cells, "_ROOT", tmp_path)
    monkeypatch.setattr(market_cells, "_CODE", {"rule": ("code.py",), "rival": (), "ours": ()})
    return path


def results(tmp_path, weeks=10):
    return Results(tmp_path / "plays", tmp_path / "shipped", {"weeks": weeks})


def test_a_finished_play_is_found_again_and_not_by_another_size(code, tmp_path):
    results(tmp_path).save(CELL, played(1.0), 60.0)
    found = results(tmp_path).load(CELL)
    assert found is not None
    np.testing.assert_array_equal(found.true, np.ones(3))
    assert results(tmp_path, weeks=5).load(CELL) is None


@pytest.mark.parametrize(
    ("source", "again"),
    [
        (
            SOURCE.replace("What it is", "Other words").replace("or x + x", "").replace("Two of it", "!"),
            False,
        ),
        (SOURCE.replace("(x: int)", "(\n    x: int,\n)"), False),
        (INSIDE, False),
        (SOURCE.replace("import math", "import cmath as math"), True),
        (SOURCE.replace("2 * x", "3 * x"), True),
    ],
    ids=["words", "layout", "where it is imported", "what is imported", "code"],
)
def test_words_do_not_play_but_code_does(code, tmp_path, source, again):
    results(tmp_path).save(CELL, played(1.0), 60.0)
    code.write_text(source)
    assert (results(tmp_path).load(CELL) is None) == again


def test_kept_plays_come_with_the_repository_in_place_of_those_of_other_code(code, tmp_path):
    results(tmp_path).save(CELL, played(1.0), 60.0)
    assert results(tmp_path).keep([CELL]) == 1
    elsewhere = Results(tmp_path / "empty", tmp_path / "shipped", {"weeks": 10})
    assert elsewhere.load(CELL) is not None
    code.write_text(SOURCE.replace("2 * x", "3 * x"))
    assert results(tmp_path).keep([CELL]) == 1  # nothing was played by this code: what was kept stays
    results(tmp_path).save(CELL, played(2.0), 60.0)
    assert results(tmp_path).keep([CELL]) == 1
    found = Results(tmp_path / "empty", tmp_path / "shipped", {"weeks": 10}).load(CELL)
    assert found is not None
    np.testing.assert_array_equal(found.true, np.full(3, 2.0))
    assert len(list((tmp_path / "shipped").iterdir())) == 1
