"""What commands open: the history, the features and the registry of the installation that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.domain.errors import InvalidInputError, StoreUnavailableError
from nextchannel.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from features.identity.vault import ContactVault
    from features.registry import ModelRegistry
    from features.workspace import FeatureWorkspace
    from serving.erasure import Eraser


def open_history(settings: Settings) -> Engine:
    """The database, with its schema up to date and the known channels in it.

    Raises:
        InvalidInputError: its address cannot be read.
        StoreUnavailableError: it does not answer.
    """
    from datetime import UTC, datetime

    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

    from features.history.channels import seed_channels
    from features.history.engine import connect, migrate
    from features.identity.rotate import check_keys

    try:
        engine = connect(settings.database_url, open_vault(settings))
        migrate(engine)
        with engine.begin() as conn:
            check_keys(conn)
            seed_channels(conn, datetime.now(UTC))
    except (ArgumentError, NoSuchModuleError) as exc:
        raise InvalidInputError(
            "NEXTCHANNEL_DATABASE", settings.database, f"must be an address ({exc})"
        ) from exc
    except DBAPIError as exc:
        raise StoreUnavailableError(f"the database does not answer: {exc.orig}") from exc
    return engine


def open_vault(settings: Settings) -> ContactVault:
    """What seals and opens contact points.

    Raises:
        InvalidInputError: the keys or the region cannot be read.
    """
    from features.identity.vault import KEY_FILE, ContactVault

    return ContactVault(settings.home.resolve() / KEY_FILE, settings.contact_keys, settings.phone_region)


def open_eraser(settings: Settings, engine: Engine) -> Eraser:
    """What erases people, from the history and from the features beside it."""
    from datetime import UTC, datetime

    from serving.erasure import Eraser

    return Eraser(engine, open_features(settings, engine), lambda: datetime.now(UTC))


def open_features(settings: Settings, engine: Engine) -> FeatureWorkspace:
    """The feature workspace beside the history."""
    from features.workspace import FeatureWorkspace

    return FeatureWorkspace(
        settings.home.resolve(),
        engine,
        settings.online_store,
        most_cached_rows=settings.cached_rows,
        dask=settings.dask,
    )


def open_registry(settings: Settings) -> ModelRegistry:
    """The model registry; only one on this machine keeps its files in `home`."""
    from features.registry import ModelRegistry

    return ModelRegistry(settings.tracking_uri, None if settings.mlflow else settings.artifact_root)
