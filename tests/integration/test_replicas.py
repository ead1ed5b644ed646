"""Processes as an installation starts them: changed under load, and without what they lean on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chaos import degrade, hot_swap
from tests.fresh_database import database

_PROGRAMS = any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb")


def test_changes_under_load_fail_no_request_and_reach_both_replicas():
    with database() as engine:
        found = hot_swap.swap(engine, 2)
    assert not found["failed"], found
    assert found["requests"] > 0


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed")
@pytest.mark.skipif(not _PROGRAMS, reason="PostgreSQL's server programs are not installed")
def test_without_features_model_or_database_decisions_go_on_or_are_refused_and_none_is_lost():
    with degrade.place(n_customers=2_000) as made:
        features = degrade.without_features(made, 1.0)
        model = degrade.without_model(made)
        lost = degrade.without_database(made, 1)
    assert features["passed"], features
    assert model["passed"], model
    assert lost["passed"], lost
