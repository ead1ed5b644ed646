"""The parts of the benchmarks of the decision that do not need a whole installation."""

from __future__ import annotations

from serving.routes.schemas import BatchIn, DecisionIn
from tests.benchmarks import batch, decide
from tests.benchmarks.bare import bare_requests, load, serving


def test_the_bare_endpoint_answers_one_and_sixteen_connections():
    with serving("tests.benchmarks.bare:create") as server:
        one = load(server.port, bare_requests(20))
        many = load(server.port, bare_requests(100), decide.CONNECTIONS)
        assert server.rss_mb() > 10
    assert (one.statuses, many.statuses) == ({200: 20}, {200: 100})
    assert 0 < one.quantile_ms(0.5) <= one.quantile_ms(0.99)
    assert many.per_second > 0


def test_the_requests_of_the_benchmarks_are_what_the_api_takes():
    bodies = [one.partition(b"\r\n\r\n")[2] for one in decide.decisions(99, 3, 100)]
    asked = [DecisionIn.model_validate_json(body).customer_id for body in bodies]
    assert asked == ["c-99", "c-0", "c-1"]
    calls = [one.partition(b"\r\n\r\n")[2] for one in batch.batches(0, 2_500, 100_000)]
    assert [len(BatchIn.model_validate_json(call).requests) for call in calls[:2]] == [1_000, 1_000]
