"""What the service knows about people and lets others read: the 360-degree view."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine

from features.history.append import Appended, append_consents
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.export_person import export_person
from features.history.members import person_of
from features.history.profile import ConsentShown, Profile, load_consents, load_profile
from features.history.register import Registration, register
from features.history.timeline import HistoryPage, load_history
from features.identity.link import Conflict, Link, Linked, link, list_conflicts
from features.identity.normalise import check
from features.identity.vault import vault_of
from models.domain.customer import EVERY_CHANNEL, Consent, Identity
from models.domain.errors import InvalidInputError, NextchannelError, require
from models.domain.party import Party
from serving.reading import FeatureSource
from serving.store.availability import reaching_the_store

if TYPE_CHECKING:
    from features.workspace import FeatureWorkspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureShown:
    """One feature of a person.

    Attributes:
        value: None where missing.
    """

    name: str
    value: float | None
    unit: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeProfile:
    """A person and their features; without features where the store has no row or does not answer.

    Attributes:
        features_as_of: Moment of the row.
    """

    profile: Profile
    features: tuple[FeatureShown, ...]
    features_as_of: datetime | None


class Customers:
    """Reads people, and takes what they say.

    Args:
        engine: The history.
        features: The online store.
        workspace: Says what the features mean; None where nobody defined any.
        parties: Whose data a source gives, by source, where it is not our own.
    """

    def __init__(
        self,
        engine: Engine,
        features: FeatureSource,
        workspace: FeatureWorkspace | None,
        parties: Mapping[str, Party] | None = None,
    ) -> None:
        self._engine = engine
        self._parties = parties or {}
        self._features = features
        self._workspace = workspace

    def profile(self, customer_id: str, now: datetime, *, in_the_clear: bool) -> WholeProfile:
        """A person as of now.

        Raises:
            NotFoundError: there is no such customer.
        """
        found = self._read(
            lambda conn: load_profile(
                conn, customer_id, now, in_the_clear=in_the_clear, parties=self._parties
            )
        )
        features, as_of = self._features_of(found.customer_id, now)
        return WholeProfile(profile=found, features=features, features_as_of=as_of)

    def history(self, customer_id: str, limit: int, cursor: str | None) -> HistoryPage:
        """A page of a person's history.

        Raises:
            NotFoundError: there is no such customer.
            InvalidInputError: the cursor is none of ours.
        """
        return self._read(lambda conn: load_history(conn, customer_id, limit, cursor))

    def consents(self, customer_id: str, as_of: datetime) -> list[ConsentShown]:
        """What held at a moment.

        Raises:
            NotFoundError: there is no such customer.
        """
        return self._read(lambda conn: load_consents(conn, customer_id, as_of))

    def say(self, statements: Sequence[Consent], now: datetime) -> int:
        """Record what a known customer said; in force with the commit, for messages in the outbox too.

        Returns:
            How many statements are new.

        Raises:
            NotFoundError: there is no such customer.
            InvalidInputError: a channel is not configured, or a statement is dated in the future.
        """
        with reaching_the_store(), self._engine.begin() as conn:
            for said in statements:
                person_of(conn, said.customer_id)
            _require_sayable(statements, load_channels(conn), now)
            return append_consents(conn, statements).n_new

    def register(self, people: Sequence[Registration], now: datetime) -> Appended:
        """Take in people: all of them, or none where one is wrong. Who was erased is passed over.

        Raises:
            InvalidInputError: a contact point belongs to somebody else or is none of its kind, a channel is not
                configured, or a moment lies in the future; names the person by their position.
        """
        with reaching_the_store(), self._engine.begin() as conn:
            channels = load_channels(conn)
            for position, one in enumerate(people):
                where = f"customers.{position}."
                _require_past(f"{where}created_at", one.customer.created_at, now)
                for link in one.identities:
                    _require_contact_point(link, vault_of(conn).region, where)
                _require_sayable(one.consents, channels, now, where)
            return register(conn, people, now)

    def export(self, customer_id: str, now: datetime) -> dict[str, Any]:
        """Everything that is held about a person.

        Raises:
            NotFoundError: there is no such customer.
        """
        document = self._read(lambda conn: export_person(conn, customer_id, now))
        features, as_of = self._features_of(document["customer_id"], now)
        document["features"] = {one.name: one.value for one in features}
        document["features_as_of"] = as_of
        return document

    def link(self, asked: Link, actor: str) -> Linked:
        """Link contact points to a person.

        Raises:
            InvalidInputError: something is no contact point of its kind.
            ConflictError: the person was erased.
        """
        with reaching_the_store(), self._engine.begin() as conn:
            return link(conn, asked, actor)

    def conflicts(self, after: int, limit: int) -> list[Conflict]:
        """Open conflicts."""
        return self._read(lambda conn: list_conflicts(conn, after, limit))

    def _read(self, ask: Callable[[Connection], T]) -> T:
        with reaching_the_store(), read_only(self._engine).connect() as conn:
            return ask(conn)

    def _features_of(
        self, customer_id: str, now: datetime
    ) -> tuple[tuple[FeatureShown, ...], datetime | None]:
        if self._workspace is None or not self._workspace.defined:
            return (), None
        try:
            vectors = self._features.read([customer_id], now)
        except NextchannelError:
            return (), None
        if vectors.missing[0]:
            return (), None
        meaning = {each.name: each for each in self._workspace.features.features}
        shown = tuple(
            FeatureShown(
                name=name,
                value=None if np.isnan(value) else float(value),
                unit=meaning[name].unit,
                why=meaning[name].why,
            )
            for name, value in zip(vectors.names, vectors.values[0], strict=True)
        )
        as_of = getattr(vectors, "as_of", None)
        return shown, None if as_of is None else datetime.fromtimestamp(float(as_of[0]), UTC)


def _require_sayable(
    statements: Sequence[Consent], channels: Collection[str], now: datetime, where: str = ""
) -> None:
    for index, said in enumerate(statements):
        require(
            said.channel == EVERY_CHANNEL or said.channel in channels,
            f"{where}consents.{index}.channel",
            said.channel,
            f"must be {EVERY_CHANNEL} or one of {', '.join(channels)}",
        )
        _require_past(f"{where}consents.{index}.since", said.since, now)


def _require_contact_point(link: Identity, region: str, where: str) -> None:
    try:
        check(link.kind, link.value, region)
    except InvalidInputError as exc:
        raise InvalidInputError(f"{where}{exc.field}", exc.value, exc.bound) from exc


def _require_past(field: str, moment: datetime, now: datetime) -> None:
    require(moment <= now, field, moment.isoformat(), "must not be in the future")
