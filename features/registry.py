"""The model registry: bundles as versions of one registered model in MLflow, `champion` and `challenger` as aliases.

Works on a local SQLite file and folder or on a tracking server, whichever address it is given.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SADeprecationWarning

from models.bundle import CHALLENGER, CHAMPION, REGISTERED_NAME, Bundle
from models.domain.errors import BundleError, ConflictError, NotFoundError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

_EXPERIMENT = "nextchannel"
_FOLDER = "bundle"
_REPORT = "report.md"
# A registered-model tag: the versions that were champion before the present one, oldest first, as JSON.
_FORMER_CHAMPIONS = "former_champions"

# Nothing leaves a self-hosted installation unasked, and standard error is for errors. MLflow reads these when it is
# imported; who sets them otherwise is obeyed.
_MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One published bundle.

    Attributes:
        version: Number in the registry, from 1.
        aliases: `champion`, `challenger`, both or neither.
        bundle_version: The bundle's own version: what decisions name as `policy_version`.
        run_id: The MLflow run that made it.
    """

    version: int
    aliases: tuple[str, ...]
    bundle_version: str
    run_id: str
    created_at: datetime


class ModelRegistry:
    """Publishes, promotes, rolls back and loads bundles.

    Args:
        tracking_uri: MLflow address, for example `sqlite:////var/lib/nextchannel/mlflow.db` or
            `http://mlflow:5000`.
        artifact_root: Where a local registry keeps its files; None leaves that to the tracking server.
        answer_seconds: How long a tracking server may take to answer, and it is asked twice at most, by this whole
            process; None for MLflow's own patience, which is minutes.
    """

    def __init__(
        self, tracking_uri: str, artifact_root: Path | None = None, answer_seconds: int | None = None
    ) -> None:
        self._tracking_uri = tracking_uri
        self._artifact_root = artifact_root
        self._defaults = _MLFLOW_DEFAULTS
        if answer_seconds is not None:
            hurry = {
                "MLFLOW_HTTP_REQUEST_TIMEOUT": str(answer_seconds),
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            }
            self._defaults = _MLFLOW_DEFAULTS | hurry
        self._opened: MlflowClient | None = None

    def publish(
        self,
        bundle: Bundle,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        report: str,
        *,
        challenger: bool = True,
    ) -> int:
        """Log a run with the bundle and register it as the next version, alias `challenger`.

        Args:
            bundle: What was trained.
            params: How: short texts.
            metrics: How well: finite numbers.
            report: The training report, Markdown.
            challenger: Whether it gets the alias.

        Returns:
            The version number.
        """
        client = self._client()
        run = client.create_run(self._experiment_id(), run_name=bundle.version)
        run_id = run.info.run_id
        try:
            for name, text in params.items():
                client.log_param(run_id, name, text)
            for name, number in metrics.items():
                client.log_metric(run_id, name, number)
            client.log_text(run_id, report, _REPORT)
            with tempfile.TemporaryDirectory() as folder:
                for name, content in bundle.to_files().items():
                    path = Path(folder) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                client.log_artifacts(run_id, folder, _FOLDER)
            self._ensure_registered()
            made = client.create_model_version(
                REGISTERED_NAME,
                source=f"{run.info.artifact_uri}/{_FOLDER}",
                run_id=run_id,
                tags={"bundle_version": bundle.version},
            )
        except BaseException:
            client.set_terminated(run_id, status="FAILED")
            raise
        client.set_terminated(run_id)
        if challenger:
            client.set_registered_model_alias(REGISTERED_NAME, CHALLENGER, made.version)
        return int(made.version)

    def promote(self, version: int) -> None:
        """Make a version the champion; the one before is remembered for `rollback`.

        Raises:
            NotFoundError: there is no such version.
        """
        known = {known.version for known in self.versions()}
        if version not in known:
            raise NotFoundError("version", str(version))
        current = self.champion_version()
        if current == version:
            return
        former = self._former_champions()
        if current is not None:
            self._remember([*former, current])
        self._client().set_registered_model_alias(REGISTERED_NAME, CHAMPION, str(version))

    def advance(self, champion: int, version: int) -> None:
        """Put a version in the place of the champion that it continues; `rollback` goes to what came before that one.

        Raises:
            ConflictError: that champion does not serve any more.
        """
        if self.champion_version() != champion:
            raise ConflictError(f"version {champion} is not champion any more")
        self._client().set_registered_model_alias(REGISTERED_NAME, CHAMPION, str(version))

    def rollback(self) -> int:
        """Make the champion before the present one champion again.

        Returns:
            The version that is champion now.

        Raises:
            ConflictError: no champion came before.
        """
        former = self._former_champions()
        if not former:
            raise ConflictError("there is no former champion to roll back to")
        self._client().set_registered_model_alias(REGISTERED_NAME, CHAMPION, str(former[-1]))
        self._remember(former[:-1])
        return former[-1]

    def champion_version(self) -> int | None:
        """The version that serves, or None before the first promotion. Cheap: services ask every second."""
        registered = self._registered()
        number = None if registered is None else registered.aliases.get(CHAMPION)
        return None if number is None else int(number)

    def load(self, alias_or_version: str | int = CHAMPION) -> Bundle:
        """Load a bundle.

        Args:
            alias_or_version: `champion`, `challenger` or a version number.

        Raises:
            NotFoundError: there is no such version, or nobody has this alias yet.
            BundleError: its files are damaged, gone, or not those that were published.
        """
        from mlflow.exceptions import MlflowException

        wanted = str(alias_or_version)
        for known in self.versions():
            if wanted in (str(known.version), *known.aliases):
                break
        else:
            raise NotFoundError("model", wanted)
        try:
            source = self._client().get_model_version(REGISTERED_NAME, str(known.version)).source
            files = _download(source, self._tracking_uri)
        except (MlflowException, OSError) as exc:
            raise BundleError(f"the files of model version {known.version} cannot be read: {exc}") from exc
        bundle = Bundle.from_files(files)
        # The files hash to their manifest; that it is the manifest that was published, the registry's database says.
        if bundle.version != known.bundle_version:
            raise BundleError(
                f"model version {known.version} holds bundle {bundle.version}, published was {known.bundle_version}"
            )
        return bundle

    def versions(self) -> tuple[ModelVersion, ...]:
        """Every published version, newest first."""
        registered = self._registered()
        if registered is None:
            return ()
        found = self._client().search_model_versions(f"name = '{REGISTERED_NAME}'")
        versions = [
            ModelVersion(
                version=int(one.version),
                # A search does not fill in aliases; the registered model has them.
                aliases=tuple(
                    sorted(
                        name for name, number in registered.aliases.items() if int(number) == int(one.version)
                    )
                ),
                bundle_version=one.tags.get("bundle_version", ""),
                run_id=one.run_id or "",
                created_at=datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
            )
            for one in found
        ]
        return tuple(sorted(versions, key=lambda one: -one.version))

    def report(self, version: int) -> str:
        """The training report of a version, Markdown.

        Raises:
            NotFoundError: there is no such version.
        """
        import mlflow.artifacts

        run_id = next((known.run_id for known in self.versions() if known.version == version), None)
        if run_id is None:
            raise NotFoundError("version", str(version))
        artifact_uri = self._client().get_run(run_id).info.artifact_uri
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{artifact_uri}/{_REPORT}", dst_path=folder, tracking_uri=self._tracking_uri
            )
            return Path(path).read_text(encoding="utf-8")

    def _client(self) -> MlflowClient:
        if self._opened is None:
            self._opened = open_client(self._tracking_uri, self._artifact_root, self._defaults)
        return self._opened

    def _experiment_id(self) -> str:
        return experiment_id(self._client(), _EXPERIMENT, self._artifact_root)

    def _registered(self) -> RegisteredModel | None:
        from mlflow.exceptions import RESOURCE_DOES_NOT_EXIST, ErrorCode, MlflowException

        try:
            return self._client().get_registered_model(REGISTERED_NAME)
        except MlflowException as exc:
            if exc.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return None
            raise

    def _ensure_registered(self) -> None:
        if self._registered() is None:
            self._client().create_registered_model(
                REGISTERED_NAME, description="Response model, bandit and feature names as one bundle."
            )

    def _former_champions(self) -> list[int]:
        registered = self._registered()
        return [] if registered is None else json.loads(registered.tags.get(_FORMER_CHAMPIONS, "[]"))

    def _remember(self, versions: list[int]) -> None:
        self._client().set_registered_model_tag(REGISTERED_NAME, _FORMER_CHAMPIONS, json.dumps(versions))


def open_client(
    tracking_uri: str, artifact_root: Path | None, defaults: Mapping[str, str] = _MLFLOW_DEFAULTS
) -> MlflowClient:
    """MLflow at that address, without telemetry and quiet; `artifact_root` is made where it is missing."""
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # It tells of making its tables at its own level, whatever the level of the library.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    if artifact_root is not None:
        artifact_root.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # MLflow's own tables use what SQLAlchemy will drop some day
        warnings.simplefilter("ignore", SADeprecationWarning)
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def experiment_id(client: MlflowClient, name: str, artifact_root: Path | None) -> str:
    """The experiment of that name; it is made where it is missing."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = None if artifact_root is None else artifact_root.resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _download(source: str, tracking_uri: str) -> dict[str, bytes]:
    """Every file below an artifact address, by its relative path."""
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as folder:
        root = Path(
            mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=folder, tracking_uri=tracking_uri
            )
        )
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
