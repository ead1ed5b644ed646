"""A rehearsal: simulated customers play weeks against the whole service, over HTTP, in minutes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from typer.testing import CliRunner

from features.history.engine import connect
from features.history.tables import decisions, interactions, outbox
from models.domain.campaign import PolicyName
from models.domain.errors import ConflictError, InvalidInputError
from models.domain.follow_up import FollowUpRule, Trigger
from nextchannel.main import cli
from serving.app import create_app
from serving.bootstrap import ServiceConfig, build
from training.rehearse import Rehearsed, RehearsedService, ServiceError, rehearse
from training.simulator.market import Market

BEGINS = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0) - timedelta(days=30)


@pytest.fixture
def rehearsed(config: ServiceConfig) -> ServiceConfig:
    return replace(config, run_dispatcher=False, rehearse_from=BEGINS)


@pytest.fixture
def api(rehearsed: ServiceConfig) -> Iterator[TestClient]:
    with TestClient(create_app(build(rehearsed))) as client:
        yield client


@dataclass(frozen=True)
class Played:
    """Two days of a market, and the service that lived through them."""

    config: ServiceConfig
    api: TestClient
    done: Rehearsed


def play(api: TestClient, days: int = 2) -> Rehearsed:
    return rehearse(
        RehearsedService(api),
        Market("retail", 140, 5),
        lambda campaign: replace(
            campaign,
            policy=PolicyName.UNIFORM,
            follow_ups=(FollowUpRule(on=Trigger.UNOPENED, after_seconds=86_400),),
            most_follow_ups=1,
        ),
        days,
        datetime.now(UTC),
        np.random.default_rng(5),
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Played once: it takes some seconds, and the tests only look."""
    home = tmp_path_factory.mktemp("rehearsal")
    config = ServiceConfig(
        database_url=f"sqlite:///{home / 'history.db'}",
        data_dir=home,
        tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
        artifact_root=home / "mlartifacts",
        adapters={"email": "console"},
        run_dispatcher=False,
        rehearse_from=BEGINS,
    )
    with TestClient(create_app(build(config))) as client:
        yield Played(config, client, play(client))


def test_what_the_service_holds_is_what_the_customers_did(played: Played) -> None:
    done = played.done
    (week,) = done.weeks
    assert (week.n_decisions, week.refused) == (40, {})
    assert done.ended_at == BEGINS + timedelta(days=10)
    assert datetime.fromisoformat(played.api.get("/v1/clock").json()["now"]) == done.ended_at
    asked = decisions.c.parent_id.is_(None)
    with connect(played.config.database_url).connect() as conn:
        days = conn.scalars(select(decisions.c.decided_at).where(asked).distinct()).all()
        states = conn.scalars(
            select(outbox.c.status)
            .join(decisions, outbox.c.decision_id == decisions.c.decision_id)
            .where(asked)
        ).all()
        facts = conn.execute(
            select(
                interactions.c.source,
                interactions.c.kind,
                interactions.c.decision_id,
                interactions.c.occurred_at,
                interactions.c.received_at,
            )
        ).all()
    assert sorted(days) == [BEGINS, BEGINS + timedelta(days=1)]
    assert states == ["sent"] * week.n_contacts
    assert sum(fact.kind == "sent" and fact.decision_id is not None for fact in facts) == week.n_contacts
    told = [fact for fact in facts if fact.source == "simulated"]
    assert len(told) == done.n_facts
    waited = [fact.received_at - fact.occurred_at for fact in told if fact.occurred_at > BEGINS]
    assert timedelta() <= min(waited)
    assert max(waited) <= timedelta(hours=1)
    assert done.share_of_oracle == pytest.approx(week.true / week.oracle)


def test_the_report_says_that_it_is_simulated(played: Played) -> None:
    report = played.api.get("/v1/report", params={"campaign_id": "simulated_retail"})
    assert report.status_code == 200, report.text
    assert report.json()["simulated"] is True


def test_follow_ups_are_decided_when_their_time_comes(played: Played) -> None:
    asked = decisions.alias()
    failed = select(interactions.c.decision_id).where(interactions.c.kind.in_(("failed", "bounced")))
    with connect(played.config.database_url).connect() as conn:
        waited = conn.execute(
            select(
                decisions.c.decided_at, asked.c.send_at, asked.c.decision_id.in_(failed).label("failed")
            ).join(asked, decisions.c.parent_id == asked.c.decision_id)
        ).all()
    assert len(waited) > 10
    for decided_at, sent_at, without_arriving in waited:
        # Who was not reached at all is silent already; the clock steps by an hour.
        silence = timedelta() if without_arriving else timedelta(days=1)
        assert silence <= decided_at - sent_at <= silence + timedelta(hours=1)


def test_nobody_meets_the_same_market_twice(played: Played) -> None:
    with pytest.raises(ConflictError, match="fresh installation"):
        play(played.api)


def test_nobody_rehearses_where_customers_were_served(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="must not be before the newest decision"):
        build(replace(played.config, rehearse_from=BEGINS - timedelta(days=1)))
    monkeypatch.setenv("NEXTCHANNEL_HOME", str(played.config.data_dir))
    at = ["--campaign", "simulated_retail", "--as-of", (BEGINS - timedelta(hours=1)).isoformat()]
    for command in (["train", *at], ["learn", "--once", *at]):
        refused = CliRunner().invoke(cli, command).exception
        assert isinstance(refused, InvalidInputError)
        assert "newest decision" in str(refused)


def test_a_rehearsal_ends_before_the_clock_of_the_machine(api: TestClient) -> None:
    fitting = (datetime.now(UTC) - BEGINS).days - 8
    with pytest.raises(
        InvalidInputError, match=rf"days == {fitting + 1}, must be <= {fitting}: the clock stands"
    ):
        play(api, days=fitting + 1)


def test_the_clock_only_goes_forward_and_never_into_the_future(api: TestClient) -> None:
    def move(to: datetime) -> Any:
        return api.put("/v1/clock", json={"now": to.isoformat()})

    assert move(BEGINS + timedelta(hours=1)).status_code == 200
    assert "must not be before" in move(BEGINS).json()["detail"]
    assert "must not be after now" in move(datetime.now(UTC) + timedelta(hours=1)).json()["detail"]
    assert api.put("/v1/clock", json={"now": "2026-01-01T00:00:00"}).status_code == 422
    assert (
        api.get("/v1/clock").json()["now"].startswith((BEGINS + timedelta(hours=1)).strftime("%Y-%m-%dT%H"))
    )
    assert any("rehearsal" in each for each in api.get("/readyz").json()["degraded"])


def test_an_ordinary_service_has_no_clock_to_move(config: ServiceConfig) -> None:
    with TestClient(create_app(build(config))) as api:
        assert api.get("/v1/clock").status_code == 404
        with pytest.raises(ServiceError, match=r"404 .*NEXTCHANNEL_REHEARSE_FROM"):
            RehearsedService(api).now()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"run_dispatcher": True}, "NEXTCHANNEL_SEND == True, must be false in a rehearsal"),
        (
            {"rehearse_from": datetime.now(UTC) + timedelta(days=1)},
            "NEXTCHANNEL_REHEARSE_FROM .* must not be after",
        ),
    ],
)
def test_a_rehearsal_that_would_send_or_foresee_does_not_start(
    rehearsed: ServiceConfig, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        build(replace(rehearsed, **wrong))


def test_the_command_says_in_a_line_what_is_wrong() -> None:
    run = CliRunner().invoke
    for arguments, words in (
        (["rehearse", "http://127.0.0.1:1"], "the service does not answer"),
        (["rehearse", "nowhere"], "must be an address"),
        (["rehearse", "http://127.0.0.1:1", "--policy", "best"], "must be one of"),
        (["learn", "--campaign", "x", "--as-of", "2026-01-01T00:00:00Z"], "needs --once"),
    ):
        assert words in str(run(cli, arguments).exception), arguments
