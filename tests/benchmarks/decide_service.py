"""The service of the benchmarks of the decision, over an installation that is there already.

A process of its own imports this, so it loads what a service loads and nothing that installing takes: LightGBM and
scikit-learn are 63 MB.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from models.domain.channel import DEFAULT_CHANNELS
from serving.bootstrap import ServiceConfig, build
from serving.channels.registry import FALLBACK_ADAPTER
from serving.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI

HOME, DATABASE, CACHE = "BENCH_HOME", "BENCH_DATABASE", "BENCH_CACHE_SECONDS"


def service_of(home: Path, database_url: str, cache_seconds: float) -> Service:
    """The service as `bootstrap` builds it, without a sender.

    Args:
        home: Of the installation.
        database_url: Of the history.
        cache_seconds: How long a row of features that was read counts as fresh.
    """
    from features.row_cache import RowCache

    # No setting says how long rows live: the benchmark needs them always, and never.
    RowCache.__init__.__defaults__ = (100_000, cache_seconds, cache_seconds)  # type: ignore[attr-defined]
    return build(
        ServiceConfig(
            database_url=database_url,
            data_dir=home,
            tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
            artifact_root=home / "mlartifacts",
            run_dispatcher=False,
            adapters=dict.fromkeys((channel.name for channel in DEFAULT_CHANNELS), FALLBACK_ADAPTER),
        )
    )


def create() -> FastAPI:
    """The application: `uvicorn --factory tests.benchmarks.decide_service:create`."""
    from serving.app import create_app

    seconds = float(os.environ.get(CACHE, "1"))
    service = service_of(Path(os.environ[HOME]), os.environ[DATABASE], seconds)
    return create_app(service, owns_process=True)
