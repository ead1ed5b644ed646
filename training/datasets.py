"""Logged decisions with their outcomes and the features that were known at the time: what is learned from.

Outcomes are final rewards, so machine-made ones do not count and a decision whose message reached nobody is not
here. Features come through Feast, as of the moment of the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Select, case, select

from features.history.campaigns import load_campaign
from features.history.channels import load_channels
from features.history.contested import contested
from features.history.decisions import shadow_prices_of
from features.history.engine import read_only
from features.history.export import frame
from features.history.tables import customers, decisions, interactions, rewards
from features.offline import build_snapshots, training_frame
from features.workspace import FeatureWorkspace
from models.choice import BoolArray, FloatArray
from models.domain.action import ActionGrid
from models.domain.campaign import Campaign, PolicyName
from models.domain.errors import NotFoundError
from models.domain.experiment import Arm
from models.domain.interaction import InteractionKind
from models.domain.slots import next_send_times
from models.logged import IntArray, LoggedRows
from training.candidates import candidates

_REFUSALS = (InteractionKind.UNSUBSCRIBED, InteractionKind.COMPLAINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecisions:
    """Rows to learn from, and the choice that stood behind each.

    Attributes:
        rows: Decisions, oldest first.
        mask: Which actions were candidates and are still on offer in the present campaign, shape (n, A).
        customer_ids: One a row.
        time_zones: Of the customers, one a row.
        shadow_price_minor: What a message took of what was scarce when it was decided, minor units, shape (n, C).
    """

    rows: LoggedRows
    mask: BoolArray
    customer_ids: tuple[str, ...]
    time_zones: tuple[str, ...]
    shadow_price_minor: FloatArray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.int64]) -> LoggedDecisions:
        """The same, of some rows."""
        return LoggedDecisions(
            rows=self.rows.take(chosen),
            mask=self.mask[chosen],
            customer_ids=tuple(self.customer_ids[i] for i in chosen),
            time_zones=tuple(self.time_zones[i] for i in chosen),
            shadow_price_minor=self.shadow_price_minor[chosen],
        )

    def send_at(self) -> FloatArray:
        """When each slot came round after each decision, seconds since 1970, shape (n, S)."""
        known: dict[tuple[str, float], list[float]] = {}
        for key in zip(self.time_zones, self.rows.decided_at.tolist(), strict=True):
            if key not in known:
                moments = next_send_times(self.rows.slots, key[0], datetime.fromtimestamp(key[1], UTC))
                known[key] = [moment.timestamp() for moment in moments]
        rows = [known[key] for key in zip(self.time_zones, self.rows.decided_at.tolist(), strict=True)]
        return np.array(rows, dtype=np.float64).reshape(len(self), len(self.rows.slots))


def in_order(features: FloatArray, names: Sequence[str], wanted: Sequence[str]) -> FloatArray:
    """The columns in another order; NaN where there is no such column.

    Args:
        features: Shape (n, F).
        names: Of its columns.
        wanted: Names of the columns of the answer.
    """
    if tuple(names) == tuple(wanted):
        return features
    column = {name: features[:, index] for index, name in enumerate(names)}
    blank = np.full(len(features), np.nan)
    return np.array([column.get(name, blank) for name in wanted]).reshape(len(wanted), len(features)).T


def logged_rows(engine: Engine, workspace: FeatureWorkspace, campaign_id: str, as_of: datetime) -> LoggedRows:
    """The rows alone: see `logged_decisions`."""
    return logged_decisions(engine, workspace, campaign_id, as_of).rows


def logged_decisions(
    engine: Engine,
    workspace: FeatureWorkspace,
    campaign_id: str,
    as_of: datetime,
    *,
    since: datetime | None = None,
    only_final: bool = True,
) -> LoggedDecisions:
    """Every decision of a campaign whose reward is final.

    Args:
        engine: The history; rewards must be settled.
        workspace: Its features, defined; rows that are not there yet are built.
        campaign_id: The campaign.
        as_of: Decisions made later are left out.
        since: So are those made by then; None leaves out none.
        only_final: False takes rewards that may still change too: of opens and clicks they tell most.

    Raises:
        NotFoundError: there is no such campaign, or none of its decisions has a final reward.
    """
    with read_only(engine).connect() as conn:
        campaign = load_campaign(conn, campaign_id)
        log = frame(conn, _query(campaign_id, as_of, since, only_final=only_final))
        if log.is_empty():
            raise NotFoundError("decisions with a final reward", campaign_id)
        versions = {
            version: load_campaign(conn, campaign_id, version)
            for version in sorted(set(log["campaign_version"].to_list()))
        }
        grid = _common_grid([campaign, *versions.values()])
        refused = _refused(conn, log, campaign, as_of)
        mask = candidates(conn, log, versions, campaign, load_channels(conn), grid)
    points = log.select("customer_id", pl.col("decided_at").alias("event_timestamp"))
    build_snapshots(workspace, points, as_of)
    features = training_frame(workspace, points).select(workspace.features.names)
    rows = _assemble(log, versions, grid, features, refused)
    return LoggedDecisions(
        rows=rows,
        mask=mask,
        customer_ids=tuple(log["customer_id"].to_list()),
        time_zones=tuple(log["time_zone"].to_list()),
        shadow_price_minor=_shadow_prices(log["shadow_prices"], grid.channels),
    )


def _query(campaign_id: str, as_of: datetime, since: datetime | None, *, only_final: bool) -> Select[Any]:
    query = (
        select(
            decisions.c.decision_id,
            decisions.c.customer_id,
            decisions.c.campaign_version,
            decisions.c.decided_at,
            decisions.c.arm,
            decisions.c.policy,
            decisions.c.offer_id,
            decisions.c.channel,
            decisions.c.slot,
            decisions.c.send_at,
            decisions.c.propensity,
            decisions.c.evidence,
            decisions.c.shadow_prices,
            # Where it was written before evidence had a column of its own.
            case((decisions.c.evidence.is_(None), decisions.c.document["evidence"])).label("older_evidence"),
            contested().label("contested"),
            customers.c.time_zone,
            rewards.c.opened,
            rewards.c.opened_at,
            rewards.c.converted_at,
            rewards.c.discounted,
            rewards.c.clicked,
            rewards.c.converted,
            rewards.c.value_minor,
            rewards.c.cost_minor,
        )
        .join(rewards, rewards.c.decision_id == decisions.c.decision_id)
        .join(customers, customers.c.customer_id == decisions.c.customer_id)
        .where(decisions.c.campaign_id == campaign_id, decisions.c.decided_at <= as_of)
        .order_by(decisions.c.decided_at, decisions.c.decision_id)
    )
    if only_final:
        query = query.where(rewards.c.final)
    return query if since is None else query.where(decisions.c.decided_at > since)


def _refused(conn: Connection, log: pl.DataFrame, campaign: Campaign, as_of: datetime) -> set[str]:
    """Decisions whose contact was followed by an unsubscription or complaint.

    A refusal that names no decision falls to the last contact on its channel within the attribution window.
    """
    facts = frame(
        conn,
        select(
            interactions.c.decision_id,
            interactions.c.customer_id,
            interactions.c.channel,
            interactions.c.occurred_at,
        ).where(
            interactions.c.kind.in_([kind.value for kind in _REFUSALS]),
            interactions.c.machine_made.is_(False),
            interactions.c.occurred_at <= as_of,
        ),
    )
    named = facts.filter(pl.col("decision_id").is_not_null())
    unnamed = facts.filter(pl.col("decision_id").is_null(), pl.col("channel").is_not_null())
    contacts = log.filter(pl.col("channel").is_not_null())
    traced = (
        unnamed.drop("decision_id")
        .sort("occurred_at")
        .join_asof(
            contacts.select("decision_id", "customer_id", "channel", "send_at").sort("send_at"),
            left_on="occurred_at",
            right_on="send_at",
            by=["customer_id", "channel"],
            strategy="backward",
            tolerance=timedelta(seconds=campaign.attribution_window_seconds),
            check_sortedness=False,
        )
        .drop_nulls("decision_id")
    )
    return {*named["decision_id"].to_list(), *traced["decision_id"].to_list()}


def _assemble(
    log: pl.DataFrame,
    versions: Mapping[int, Campaign],
    grid: ActionGrid,
    features: pl.DataFrame,
    refused: set[str],
) -> LoggedRows:
    slot_of = {
        (version, index): grid.slots.index(slot)
        for version, then in versions.items()
        for index, slot in enumerate(then.slots)
    }
    drawn_blindly = (pl.col("policy") == PolicyName.UNIFORM) & ~pl.col("contested").cast(pl.Boolean)
    randomised = pl.any_horizontal(drawn_blindly, pl.col("arm") == Arm.HOLDOUT)
    return LoggedRows(
        offers=grid.offers,
        channels=grid.channels,
        slots=grid.slots,
        feature_names=tuple(features.columns),
        features=features.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64),
        customer=np.unique(log["customer_id"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        offer=_positions(log["offer_id"], grid.offers),
        channel=_positions(log["channel"], grid.channels),
        slot=np.array(
            [
                -1 if slot is None else slot_of[version, slot]
                for version, slot in zip(log["campaign_version"], log["slot"], strict=True)
            ],
            dtype=np.int64,
        ),
        propensity=log["propensity"].to_numpy(),
        decided_at=log["decided_at"].dt.timestamp("us").to_numpy() / 1e6,
        opened=_known(log["opened"]),
        clicked=_known(log["clicked"]),
        converted=log["converted"].cast(pl.Float64).to_numpy(),
        value_minor=log["value_minor"].to_numpy(),
        cost_minor=log["cost_minor"].to_numpy(),
        unsubscribed=log["decision_id"].is_in(list(refused)).cast(pl.Float64).to_numpy(),
        randomised=log.select(randomised).to_series().to_numpy(),
        opened_after=_share_of_window(log, "opened_at", versions),
        converted_after=_share_of_window(log, "converted_at", versions),
        discounted=_known(log["discounted"]),
    )


def _share_of_window(log: pl.DataFrame, moment: str, versions: Mapping[int, Campaign]) -> FloatArray:
    """Moments after the start of each decision, as shares of its attribution window; NaN for none, shape (n,)."""
    window = np.array(
        [versions[version].attribution_window_seconds for version in log["campaign_version"]],
        dtype=np.float64,
    )
    starts = pl.coalesce("send_at", "decided_at").dt.timestamp("us")
    after = log.select((pl.col(moment).dt.timestamp("us") - starts) / 1e6).to_series()
    return np.asarray(after.cast(pl.Float64).fill_null(float("nan")).to_numpy() / window)


def _common_grid(campaigns: Sequence[Campaign]) -> ActionGrid:
    """Whatever any version of the campaign had; the present one's order first."""
    grids = [campaign.grid for campaign in campaigns]
    return ActionGrid(
        offers=tuple(dict.fromkeys(offer for grid in grids for offer in grid.offers)),
        channels=tuple(dict.fromkeys(channel for grid in grids for channel in grid.channels)),
        slots=tuple(sorted({slot for grid in grids for slot in grid.slots})),
    )


def _shadow_prices(written: pl.Series, channels: Sequence[str]) -> FloatArray:
    """What a message took of what was scarce, minor units, shape (n, C); 0 where there was enough."""
    prices = np.zeros((len(written), len(channels)))
    position = {name: index for index, name in enumerate(channels)}
    for row, text in enumerate(written):
        for name, price in shadow_prices_of(text).items():
            prices[row, position[name]] = price
    return prices


def _positions(names: pl.Series, known: Sequence[str]) -> IntArray:
    """Index of each name; -1 for none."""
    position = {name: index for index, name in enumerate(known)}
    return np.array([-1 if name is None else position[name] for name in names], dtype=np.int64)


def _known(outcomes: pl.Series) -> FloatArray:
    return outcomes.cast(pl.Float64).fill_null(float("nan")).to_numpy()
