"""Small versions of the benchmarks of the decision, so that they cannot rot."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks import batch, decide


def test_both_benchmarks_answer_every_request_and_give_their_figures(tmp_path: Path, capsys):
    options = ["--quick", "--customers", "300", "--home", str(tmp_path)]
    decide.main(options)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == "decide"
    assert figures["statuses"] == {"200": 2 * (100 + 200)}
    assert {"p50_over_bare", "rps_over_bare", "p99_over_p50", "rss_mb"} <= figures.keys()
    assert figures["stages"]["commit"] > 0
    batch.main(options)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bench"] == "batch"
    assert figures["statuses"] == {"200": 5}
    assert figures["customers_per_s_over_bare_rps"] > 0
