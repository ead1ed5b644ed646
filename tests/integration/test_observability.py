"""Figures, logs and traces of the real application."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from io import StringIO
from pathlib import Path
from unittest.mock import ANY

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from features.history.tables import outbox
from models.domain.experiment import Experiment
from serving.app import create_app
from serving.observability.logs import LogFormat, configure
from serving.observability.metrics import MOST_NAMES, OTHER, BoundedNames, Metrics
from serving.observability.traces import trace_to

BOARD = Path(__file__).parents[2] / "docs" / "how-to" / "grafana-board.json"
ONE_DATABASE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def api(market):
    market.customers("ada", "bob", "cid")
    market.campaign(budget_minor=500.0)
    service = market.service(start=False)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        market.opened.remove(service)
        client.service = service
        yield client


def samples(api: TestClient) -> dict[str, float]:
    """Every sample of a scrape, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return found


def decide(api: TestClient, customer_id: str, **more: object) -> dict:
    answer = api.post("/v1/decisions", json={"customer_id": customer_id, "campaign_id": "spring", **more})
    return answer.json()


def test_decisions_are_counted_by_channel_and_arm_with_their_figures(api, market):
    made = [decide(api, who) for who in ("ada", "bob", "cid")]
    scraped = samples(api)
    for channel in {one["action"]["channel"] for one in made}:
        expected = sum(one["action"]["channel"] == channel for one in made)
        assert scraped[f"nextchannel_decisions_total{{arm=treatment,channel={channel}}}"] == expected
    assert scraped["nextchannel_decision_propensity_sum"] == pytest.approx(
        sum(one["propensity"] for one in made), rel=1e-3
    )
    assert scraped["nextchannel_decision_net_value_minor_count"] == 3
    for stage in ("features", "choose"):
        assert scraped[f"nextchannel_decision_stage_seconds_count{{stage={stage}}}"] == 3
    assert scraped["nextchannel_request_seconds_count{method=POST,route=/v1/decisions,status=200}"] == 3


def test_silence_and_what_was_missing_are_counted(api, market):
    market.campaign("quiet", experiment=Experiment(experiment_id="quiet", holdout_share=1.0))
    api.service.snapshots.reload()
    api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "quiet"})
    market.features.without.add("bob")
    decide(api, "bob")
    scraped = samples(api)
    assert scraped["nextchannel_decisions_total{arm=holdout,channel=no_contact}"] == 1
    assert scraped["nextchannel_decisions_degraded_total{reason=features_missing}"] == 1


def test_outbox_budget_and_ages_are_read_at_the_scrape(api, market):
    decision = decide(api, "ada")
    with market.engine.begin() as conn:
        conn.execute(update(outbox).values(due_at=market.now - timedelta(minutes=5)))
    scraped = samples(api)
    assert scraped["nextchannel_outbox_messages{status=pending}"] == 1
    assert scraped["nextchannel_outbox_messages{status=unknown}"] == 0
    assert scraped["nextchannel_outbox_oldest_due_seconds"] == 300
    left = 500.0 - decision["expected"]["cost_minor"]
    assert scraped["nextchannel_budget_left_minor{campaign=spring}"] == pytest.approx(left)
    assert 0 <= scraped["nextchannel_snapshot_age_seconds"] < 60
    assert (scraped["nextchannel_writer_queue"], scraped["nextchannel_model_loaded"]) == (0, 1)
    assert scraped["nextchannel_database_up"] == 1


@ONE_DATABASE
def test_problems_are_counted_by_type_and_failures_too(api, market):
    decide(api, "nobody")
    decide(api, "")
    api.get("/v1/nothing")
    api.delete("/v1/decisions")
    writer, api.service.decider._writer = api.service.decider._writer, None
    answer = api.post("/v1/decisions", json={"customer_id": "ada", "campaign_id": "spring"})
    api.service.decider._writer = writer
    assert answer.status_code == 500
    value = api.service.metrics.registry.get_sample_value
    assert value("nextchannel_rate_limited_total") == 0
    for problem in ("not-found", "invalid-request", "method-not-allowed", "internal"):
        assert value("nextchannel_problems_total", {"problem": problem}) >= 1, problem
    assert (
        value("nextchannel_request_seconds_count", {"method": "GET", "route": "unlisted", "status": "404"})
        == 1
    )


@ONE_DATABASE
def test_labels_stay_few_whatever_is_asked(api):
    for number in range(200):
        api.get(f"/v1/nothing/{number}")
        api.get(f"/t/o/{number}.gif")
        api.request(f"VERB{number}", "/healthz")
    routes = [name for name in samples(api) if name.startswith("nextchannel_request_seconds_count")]
    assert len(routes) < 12
    names = BoundedNames()
    assert [names(str(number)) for number in range(MOST_NAMES + 2)][-3:] == [
        str(MOST_NAMES - 1),
        OTHER,
        OTHER,
    ]
    assert names("3") == "3"


@ONE_DATABASE
def test_every_query_of_the_board_names_a_figure_that_exists(api, market):
    decide(api, "ada")
    described = {
        line.split()[2] for line in api.get("/metrics").text.splitlines() if line.startswith("# TYPE")
    }
    board = json.loads(BOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= 15
    named = {name for query in queries for name in re.findall(r"nextchannel_\w+", query)}
    for name in named:
        assert re.sub(r"_(bucket|count|sum)$", "", name) in described, name
    # And nothing is measured that nobody sees.
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named}
    assert {name for name in described if not name.endswith("_created")} <= shown


@ONE_DATABASE
@pytest.mark.parametrize(
    ("given", "kept"),
    [("order-7.1_x", "order-7.1_x"), ("a b", ANY), ("x" * 65, ANY), ('"}\n', ANY), (None, ANY)],
)
def test_every_answer_names_its_request(api, given, kept):
    headers = {} if given is None else {"X-Request-ID": given}
    for path in ("/healthz", "/v1/nothing"):
        name = api.get(path, headers=headers).headers["x-request-id"]
        assert name == kept
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)


@ONE_DATABASE
def test_a_line_of_the_log_names_request_and_decision(api, market):
    log = StringIO()
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        configure(LogFormat.JSON, "info", log)
        answer = api.post(
            "/v1/decisions",
            json={"customer_id": "ada", "campaign_id": "spring"},
            headers={"X-Request-ID": "r-1"},
        )
    finally:
        root.handlers, root.level = before
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (request,) = (line for line in lines if line["logger"] == "nextchannel.requests")
    assert request["message"] == "POST /v1/decisions 200"
    assert (request["request_id"], request["decision_id"]) == ("r-1", answer.json()["decision_id"])
    assert request["level"] == "INFO"
    assert request["duration_ms"] > 0


@ONE_DATABASE
def test_a_request_is_a_span_of_the_callers_trace(market):
    market.customers("ada")
    market.campaign()
    service = market.service(start=False)
    app = create_app(service)
    exporter = InMemorySpanExporter()
    flush = trace_to(app, exporter)
    with TestClient(app) as api:
        market.opened.remove(service)
        trace = "0af7651916cd43dd8448eb211c80319c"
        decision = api.post(
            "/v1/decisions",
            json={"customer_id": "ada", "campaign_id": "spring"},
            headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
        ).json()
    flush()
    (span,) = exporter.get_finished_spans()
    assert span.name == "POST /v1/decisions"
    assert format(span.context.trace_id, "032x") == trace
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["nextchannel.decision_id"] == decision["decision_id"]


def test_metrics_of_two_services_do_not_meet():
    one, other = Metrics(), Metrics()
    one.rate_limited.inc()
    assert other.registry.get_sample_value("nextchannel_rate_limited_total") == 0
