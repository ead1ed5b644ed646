"""What decisions are taken with, as one immutable value that is swapped when something changed.

A request takes the current snapshot once and uses it to the end; one background thread looks for a new campaign version or
channel about once a second and replaces the whole, another does so for the champion.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection, Engine, func, select

from features.history.campaigns import list_campaigns
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.tables import campaigns, channels
from models.choice import Policy, ResponseModel
from models.domain.campaign import Campaign, Mode, PolicyName
from models.domain.channel import Channel
from models.domain.errors import NotFoundError
from models.domain.price import priced
from models.policy.registry import build_policies

if TYPE_CHECKING:
    from features.registry import ModelVersion
    from models.bundle import Bundle
    from models.policy.bandit import Bandit

logger = logging.getLogger(__name__)

RELOAD_SECONDS = 1.0
# Former bundles kept in memory, for those who ask why something was decided.
_FORMER_KEPT = 4


class Registry(Protocol):
    """Where bundles come from."""

    def champion_version(self) -> int | None:
        """The version that serves, or None before the first promotion."""
        ...

    def load(self, alias_or_version: str | int) -> Bundle:
        """Load a bundle."""
        ...

    def versions(self) -> tuple[ModelVersion, ...]:
        """Every published version, newest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The champion bundle, ready to use.

    Attributes:
        version: The bundle's own version: the `policy_version` of what it decides.
        response: The response model.
        bandit: None where the bundle has none.
    """

    version: str
    response: ResponseModel
    bandit: Bandit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a decision needs beside the customer.

    Attributes:
        campaigns: Latest version by id.
        channels: By name.
        model: None before the first promotion, or where the champion cannot be read.
        policies: By campaign id, then by name.
    """

    campaigns: Mapping[str, Campaign] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    model: Model | None = None
    policies: Mapping[str, Mapping[PolicyName, Policy]] = field(default_factory=dict)
    _priced: dict[tuple[str, int], Mapping[str, Channel]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _live: dict[tuple[str, int], Campaign] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def live(self, campaign: Campaign) -> Campaign:
        """The campaign in live mode with everybody in the treatment: the optimiser decides.

        The same each time, since much is worked out once a campaign.
        """
        key = campaign.campaign_id, campaign.version
        if key not in self._live:
            everybody = replace(campaign.experiment, holdout_share=0.0, control_share=0.0)
            self._live[key] = replace(campaign, mode=Mode.LIVE, experiment=everybody)
        return self._live[key]

    def priced(self, campaign: Campaign) -> Mapping[str, Channel]:
        """The channels at what one message of the campaign costs on each."""
        key = campaign.campaign_id, campaign.version
        if key not in self._priced:
            self._priced[key] = {name: priced(campaign, channel) for name, channel in self.channels.items()}
        return self._priced[key]

    def campaign(self, campaign_id: str) -> Campaign:
        """The latest version of a campaign.

        Raises:
            NotFoundError: there is none, or it names a channel that is not configured.
        """
        found = self.campaigns.get(campaign_id)
        if found is None:
            raise NotFoundError("campaign_id", campaign_id)
        if not self.channels.keys() >= set(found.channels):
            raise NotFoundError(
                "channels", next(name for name in found.channels if name not in self.channels)
            )
        return found


class Snapshots:
    """Holds the current snapshot and keeps it current.

    Args:
        engine: Where campaigns and channels are.
        registry: Where the champion is.
        open_bundle: Makes a bundle's files usable.
    """

    def __init__(self, engine: Engine, registry: Registry, open_bundle: Callable[[Bundle], Model]) -> None:
        self._engine = read_only(engine)
        self._registry = registry
        self._open_bundle = open_bundle
        self._current: Snapshot | None = None
        self._seen: tuple[object, ...] = ()
        self._model_version: int | None = None
        self._model: Model | None = None
        self._model_error: str | None = None
        self._former: dict[str, Model] = {}
        self._swapping = threading.Lock()
        self._following = threading.Lock()
        self._campaigns_looked_at: float | None = None
        self._champion_looked_at: float | None = None

    @property
    def loaded(self) -> bool:
        """Whether there has been a first snapshot."""
        return self._current is not None

    @property
    def age_seconds(self) -> float | None:
        """How long ago it was last looked for changes, of campaigns or of the champion; None before the first time."""
        looked_at = self._campaigns_looked_at, self._champion_looked_at
        known = [one for one in looked_at if one is not None]
        return time.monotonic() - min(known) if known else None

    @property
    def model_error(self) -> str | None:
        """Why the champion could not be loaded; None where there is no such trouble."""
        return self._model_error

    @property
    def current(self) -> Snapshot:
        """The snapshot to decide with; loaded on first use."""
        if self._current is None:
            self.reload()
        assert self._current is not None
        return self._current

    def model_of(self, bundle_version: str) -> Model | None:
        """The bundle of that version: the champion, or a former one; None where it cannot be loaded any more."""
        champion = self.current.model
        if champion is not None and champion.version == bundle_version:
            return champion
        if bundle_version in self._former:
            return self._former[bundle_version]
        try:
            known = [one.version for one in self._registry.versions() if one.bundle_version == bundle_version]
            if not known:
                return None
            model = self._open_bundle(self._registry.load(known[0]))
        except Exception:  # whatever MLflow, its store or a damaged file may raise
            logger.exception("bundle %s cannot be loaded", bundle_version)
            return None
        # A new dictionary: requests read this one on other threads.
        kept = list(self._former.items())[-(_FORMER_KEPT - 1) :]
        self._former = {**dict(kept), bundle_version: model}
        return model

    def reload(self) -> bool:
        """Look for changes of everything; whether there were any."""
        model_changed = self.follow_champion()
        return self.reload_campaigns() or model_changed

    def reload_campaigns(self) -> bool:
        """Look for changes of campaigns and channels and swap the snapshot if there are any; whether there were."""
        with self._swapping:
            with self._engine.connect() as conn:
                seen = _fingerprint(conn)
                self._campaigns_looked_at = time.monotonic()
                if self._current is not None and seen == self._seen:
                    return False
                known = {campaign.campaign_id: campaign for campaign in list_campaigns(conn)}
                configured = load_channels(conn)
            self._current = self._made_of(known, configured)
            self._seen = seen
            return True

    def follow_champion(self) -> bool:
        """Follow the alias `champion`; whether it is another one now.

        A champion that cannot be read leaves the last good one in place. However late the registry is, campaigns
        and channels do not wait for it.
        """
        with self._following:
            if self._champion_looked_at is None:
                self._champion_looked_at = time.monotonic()
            try:
                version = self._registry.champion_version()
                self._champion_looked_at = time.monotonic()
                if version == self._model_version:
                    self._model_error = None
                    return False
                model = None if version is None else self._open_bundle(self._registry.load(version))
            except Exception as exc:  # whatever MLflow, its store or a damaged file may raise
                if str(exc) != self._model_error:
                    logger.exception("the champion cannot be loaded; the model in use stays")
                self._model_error = str(exc)
                return False
            self._model_error = None
            with self._swapping:
                self._model_version, self._model = version, model
                if self._current is not None:
                    self._current = self._made_of(self._current.campaigns, self._current.channels)
            logger.info("champion is version %s", version)
            return True

    def _made_of(self, known: Mapping[str, Campaign], configured: Mapping[str, Channel]) -> Snapshot:
        bandit = None if self._model is None else self._model.bandit
        return Snapshot(
            campaigns=known,
            channels=configured,
            model=self._model,
            policies={name: build_policies(campaign, bandit) for name, campaign in known.items()},
        )


def _fingerprint(conn: Connection) -> tuple[object, ...]:
    """Differs whenever a campaign version or a channel was written, whatever the clock of who wrote it says.

    Campaign versions are only added; a channel is rewritten in place, with a new moment.
    """
    versions = conn.execute(
        select(func.count(), func.max(campaigns.c.created_at)).select_from(campaigns)
    ).one()
    configured = conn.execute(select(channels.c.name, channels.c.updated_at).order_by(channels.c.name))
    return (*versions, *map(tuple, configured))
