"""What commands open: the history, the features and the registry of the installation that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.domain.errors import InvalidInputError, StoreUnavailableError
from nextchannel.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from features.registry import ModelRegistry
    from features.workspace import FeatureWorkspace


def open_history(settings: Settings) -> Engine:
    """The database, with its schema up to date and the known channels in it.

    Raises:
        InvalidInputError: its address cannot be read.
        StoreUnavailableError: it does not answer.
    """
    from datetime import UTC, datetime

    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    from features.history.engine import connect, migrate
    from features.history.query import seed_channels

    try:
        engine = connect(settings.database_url)
        migrate(engine)
        with engine.begin() as conn:
            seed_channels(conn, datetime.now(UTC))
    except (ArgumentError, NoSuchModuleError) as exc:
        raise InvalidInputError(
            "NEXTCHANNEL_DATABASE", settings.database, f"must be an address ({exc})"
        ) from exc
    except DBAPIError as exc:
        raise StoreUnavailableError(f"the database does not answer: {exc.orig}") from exc
    return engine


def open_features(settings: Settings, engine: Engine) -> FeatureWorkspace:
    """The feature workspace beside the history."""
    from features.workspace import FeatureWorkspace

    return FeatureWorkspace(settings.home.resolve(), engine, settings.online_store)


def open_registry(settings: Settings) -> ModelRegistry:
    """The model registry; only one on this machine keeps its files in `home`."""
    from features.registry import ModelRegistry

    return ModelRegistry(settings.tracking_uri, None if settings.mlflow else settings.artifact_root)
