"""Choose for many customers without recording or sending anything, and write the choices to a file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from sqlalchemy import Engine

from features.compute import POINTS
from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.query import load_customers
from features.online import FeatureVectors
from features.workspace import FeatureWorkspace, as_vectors
from models.bundle import Bundle
from models.choice import FloatArray
from models.choose import Choices, choose
from models.domain.campaign import Campaign, PolicyName
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.errors import require
from models.domain.experiment import Arm
from models.domain.price import priced
from models.policy.registry import build_policies
from training.datasets import in_order
from training.import_files import RowFile, open_rows
from training.opened import OpenedBundle, open_bundle
from training.spreadsheet import safe_cell

_CHUNK_CUSTOMERS = 2_000
_NEED_PREDICTIONS = (PolicyName.BANDIT, PolicyName.GREEDY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One row of the file; empty text where there is nothing to say.

    Attributes:
        slot: Local time of day.
        send_at: Aware UTC, ISO 8601.
        propensity: Probability with which the action was chosen, in (0, 1].
        expected_net_value_minor: Beyond leaving the customer alone, minor units.
        reason: Why there is no contact.
    """

    customer_id: str
    offer: str = ""
    channel: str = ""
    slot: str = ""
    send_at: str = ""
    propensity: float | str = ""
    expected_net_value_minor: float | str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How many rows the file has, and what they say."""

    n_contacts: int
    n_no_contact: int
    n_unknown: int


class FeatureSource(Protocol):
    """Gives features of customers: the online store's reader, or `ComputedFeatures`."""

    def read(self, customer_ids: Sequence[str], now: datetime) -> FeatureVectors:
        """Features of every customer as of a moment."""
        ...


@dataclass(frozen=True, slots=True)
class ComputedFeatures:
    """Features as of the very moment, by the computation that also fills the online store.

    Slower than the store, but complete and never stale: for files, and for moments in the past.

    Attributes:
        workspace: With a defined list.
    """

    workspace: FeatureWorkspace

    def read(self, customer_ids: Sequence[str], now: datetime) -> FeatureVectors:
        """Features of every customer as of a moment."""
        names = self.workspace.features.names
        n = len(customer_ids)
        if not n:
            return FeatureVectors(
                names=names,
                values=np.zeros((0, len(names))),
                missing=np.zeros(0, dtype=np.bool_),
                as_of=np.zeros(0),
                stale=np.zeros(0, dtype=np.bool_),
            )
        points = pl.DataFrame({"customer_id": customer_ids}).with_columns(
            event_timestamp=pl.lit(now).cast(POINTS["event_timestamp"])
        )
        table = as_vectors(self.workspace.compute(points), self.workspace.features)
        fresh = np.zeros(n, dtype=np.bool_)
        return FeatureVectors(names=names, values=table[:, 1:], missing=fresh, as_of=table[:, 0], stale=fresh)


@dataclass(frozen=True)
class Chooser:
    """A campaign with all that a choice needs.

    Attributes:
        engine: The history.
        features: Where features come from.
        campaign: Who asks.
        channels: By name.
        bundle: None where no model serves: business as usual decides.
    """

    engine: Engine
    features: FeatureSource
    campaign: Campaign
    channels: dict[str, Channel]
    bundle: Bundle | None

    @classmethod
    def open(
        cls, engine: Engine, features: FeatureSource, campaign_id: str, bundle: Bundle | None
    ) -> Chooser:
        """Read the campaign and its channels.

        Raises:
            NotFoundError: there is no such campaign.
        """
        with read_only(engine).connect() as conn:
            campaign, configured = load_campaign(conn, campaign_id), load_channels(conn)
        channels = {name: priced(campaign, channel) for name, channel in configured.items()}
        if bundle is None:
            control = campaign.control_policy
            usual = PolicyName.CHEAPEST_FIRST if control in _NEED_PREDICTIONS else control
            campaign = replace(campaign, policy=usual, control_policy=usual)
        return cls(engine, features, campaign, channels, bundle)

    @cached_property
    def _opened(self) -> OpenedBundle | None:
        return None if self.bundle is None else open_bundle(self.bundle)

    def choose(self, customer_ids: Sequence[str], now: datetime) -> tuple[list[Customer], Choices]:
        """Choose for those of the customers who are known, in their order."""
        with read_only(self.engine).connect() as conn:
            found = load_customers(conn, customer_ids, now)
        people = [found[customer_id] for customer_id in customer_ids if customer_id in found]
        ids = [person.customer_id for person in people]
        opened = self._opened
        bandit = None if opened is None else opened.bandit
        return people, choose(
            self.campaign,
            self.channels,
            people,
            self._features(ids, now),
            None if opened is None else opened.response,
            build_policies(self.campaign, bandit),
            [f"{self.campaign.campaign_id}/{customer_id}/{now.isoformat()}" for customer_id in ids],
            now,
        )

    def _features(self, customer_ids: Sequence[str], now: datetime) -> FloatArray:
        """In the order of the model; NaN for a feature that there no longer is."""
        if self._opened is None:
            return np.zeros((len(customer_ids), 0))
        vectors = self.features.read(customer_ids, now)
        return in_order(vectors.values, vectors.names, self._opened.response.feature_names)


def write_choices(
    chooser: Chooser,
    audience: Path,
    out: Path,
    now: datetime,
    progress: Callable[[float], None] | None = None,
) -> Written:
    """Choose for every customer of a file, in its order, in chunks of bounded memory.

    Args:
        chooser: The campaign.
        audience: `.csv` or `.parquet` with a column `customer_id`; other columns are ignored.
        out: The CSV file to write; it appears when it is complete.
        now: Aware.
        progress: Told the share of the audience that is done, in [0, 1].

    Raises:
        InvalidInputError: the audience has no such column, or holds a broken row.
        CampaignExpiredError: the send window has closed.
    """
    n_contacts = n_unknown = n_all = 0
    unfinished = out.with_name(f"{out.name}.part")
    with open_rows(audience) as file, unfinished.open("w", encoding="utf-8", newline="") as target:
        require("customer_id" in file.header, "column", "customer_id", "must be in the audience file")
        writer = csv.writer(target)
        writer.writerow(field.name for field in fields(Choice))
        customer_ids = _customer_ids(file)
        while chunk := list(islice(customer_ids, _CHUNK_CUSTOMERS)):
            people, choices = chooser.choose(chunk, now)
            made = {
                person.customer_id: _choice(chooser.campaign, choices, row, person.customer_id)
                for row, person in enumerate(people)
            }
            for customer_id in chunk:
                choice = made.get(customer_id) or Choice(customer_id=customer_id, reason="unknown customer")
                n_contacts += bool(choice.channel)
                n_unknown += customer_id not in made
                writer.writerow(safe_cell(value) for value in astuple(choice))
            n_all += len(chunk)
            if progress:
                progress(file.share_read())
    unfinished.replace(out)
    return Written(n_contacts=n_contacts, n_no_contact=n_all - n_contacts - n_unknown, n_unknown=n_unknown)


def _customer_ids(file: RowFile) -> Iterator[str]:
    for row in file.rows():
        require(row.cells is not None, f"line {row.line}", row.fault, "must be a row of the audience")
        assert row.cells is not None
        require(bool(row.cells["customer_id"]), f"line {row.line}: customer_id", "", "must not be empty")
        yield row.cells["customer_id"]


def _choice(campaign: Campaign, choices: Choices, row: int, customer_id: str) -> Choice:
    action = int(choices.action[row])
    propensity = float(choices.propensity[row])
    ranked = choices.net_value_minor
    value: float | str = "" if ranked is None else float(ranked[row, action])
    place = choices.grid.unravel(action)
    if place is None:
        return Choice(
            customer_id=customer_id,
            propensity=propensity,
            expected_net_value_minor=value,
            reason=_why_not(campaign, choices, row),
        )
    offer, channel, slot = place
    return Choice(
        customer_id=customer_id,
        offer=choices.grid.offers[offer],
        channel=choices.grid.channels[channel],
        slot=choices.grid.slots[slot].isoformat("minutes"),
        send_at=choices.eligibility[row].send_at[slot].isoformat(),
        propensity=propensity,
        expected_net_value_minor=value,
    )


def _why_not(campaign: Campaign, choices: Choices, row: int) -> str:
    if choices.arms[row] is Arm.HOLDOUT:
        return "in the holdout of the experiment"
    if choices.mask[row, :-1].any():
        return "no contact is worth more than leaving the customer alone"
    words = dict.fromkeys(exclusion.words for exclusion in choices.eligibility[row].exclusions(campaign))
    return "; ".join(words)
