"""The common history of a drift benchmark: a simulated market that has contacted at random, and a model of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.compute import compute, load_known
from features.feature_list import FeatureList, describe_attributes, describe_channels
from features.history.append import (
    append_consents,
    append_customers,
    append_identities,
    append_interactions,
)
from features.history.engine import connect, migrate
from models.choice import Predictions
from models.domain.campaign import Campaign
from models.domain.interaction import InteractionKind as Kind
from models.logged import IntArray, LoggedRows
from models.response.model import FittedResponse, fit_response
from training.simulator.facts import moment
from training.simulator.market import Market
from training.simulator.people import customer_id
from training.simulator.randomised import RandomisedLog, randomised_log

START = datetime(2026, 3, 2, tzinfo=UTC)
PRIOR_DAYS = 60
LOG_DAYS = 30
SETTLING_DAYS = 7
DRIFT_DAYS = 20
# The response model is fitted on the older part of the log; the bandit warms up on the rest.
FITTED_SHARE = 0.9
NO_CONTACT_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where the branches part.

    Attributes:
        market: As of `now`; branches play forks of it.
        campaign: Open from the first randomised decision on.
        now: The first decision after the history.
        response: Fitted on the older part of the randomised log.
        replayed: The newer part, for the warm start.
        days: Rows of the customers that are decided on each day; every customer stands in one day.
        features: Of everybody as of their decision, from the history before `now`, shape (n, F).
    """

    market: Market
    campaign: Campaign
    now: datetime
    response: FittedResponse
    replayed: LoggedRows
    days: tuple[IntArray, ...]
    features: np.ndarray

    def predict(self, market: Market) -> Predictions:
        """What the response model says of everybody on the market's present grid."""
        return self.response.predict(self.features, market.grid, market.channels())


def build_scene(preset: str, n_customers: int, seed: int, withheld: tuple[str, ...] = ()) -> Scene:
    """Two months of behaviour, three weeks of random contact at about two decisions a customer, and a fit."""
    market = Market(preset, n_customers, seed, withheld=withheld)
    born = START - timedelta(days=PRIOR_DAYS)
    now = START + timedelta(days=LOG_DAYS + SETTLING_DAYS)
    rng = np.random.default_rng([seed, 1])
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{Path(folder) / 'history.db'}")
        migrate(engine)
        with engine.begin() as conn:
            append_customers(conn, market.customers(born))
            append_identities(conn, market.identities(born))
            append_consents(conn, market.consents(born))
            append_interactions(conn, market.prior_history(born, PRIOR_DAYS), START)
        campaign = market.campaign(START)
        log = randomised_log(market, campaign, START, LOG_DAYS, n_customers // 10, NO_CONTACT_SHARE, rng)
        settling = START + timedelta(days=LOG_DAYS)
        afterwards = market.everyday(settling, SETTLING_DAYS)
        market.advance(SETTLING_DAYS)
        order = np.random.default_rng([seed, 2]).permutation(n_customers)
        days = tuple(np.sort(part) for part in np.array_split(order, DRIFT_DAYS))
        decided = pl.concat(
            [
                _points(log.row, log.decided_at),
                *(_points(part, (now + timedelta(days=d)).timestamp()) for d, part in enumerate(days)),
            ]
        )
        attributes = [person.attributes for person in market.customers(born)]
        known_features = FeatureList(
            channels=describe_channels(market.channels().values()), attributes=describe_attributes(attributes)
        )
        with engine.begin() as conn:
            append_interactions(conn, [*log.interactions, *afterwards], now)
        with engine.connect() as conn:
            known = load_known(conn, known_features, decided)
        engine.dispose()
    table = compute(known_features, decided, known).select(known_features.names)
    matrix = table.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    rows = logged_rows(market, log, matrix[: len(log)], known_features.names)
    cut = np.quantile(rows.decided_at, FITTED_SHARE)
    response = fit_response(
        rows.take(rows.decided_at < cut),
        market.channels(),
        attention_value_minor=market.preset.unsubscribe_loss_minor,
        seed=seed,
    )
    features = np.empty((n_customers, matrix.shape[1]))
    features[np.concatenate(days)] = matrix[len(log) :]
    return Scene(
        market=market,
        campaign=campaign,
        now=now,
        response=response,
        replayed=rows.take(rows.decided_at >= cut),
        days=days,
        features=features,
    )


def _points(rows: IntArray, at: np.ndarray | float) -> pl.DataFrame:
    moments = np.broadcast_to(at, rows.shape)
    return pl.DataFrame(
        {
            "customer_id": [customer_id(row) for row in rows.tolist()],
            "event_timestamp": [moment(each) for each in moments.tolist()],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def logged_rows(
    market: Market, log: RandomisedLog, features: np.ndarray, names: tuple[str, ...]
) -> LoggedRows:
    """The log with what the channels reported of it; messages that reached nobody are left out.

    A purchase belongs to the customer's last decision before it, within the attribution window.
    """
    grid = log.campaign.grid
    position = {decision_id: i for i, decision_id in enumerate(log.decision_ids)}
    contact = log.action != grid.no_contact
    rest, slot = np.divmod(log.action, len(grid.slots))
    offer, channel = np.divmod(rest, len(grid.channels))
    channel = np.where(contact, channel, -1)
    by_kind: dict[Kind, list[int]] = {}
    bought: list[tuple[str, float, float]] = []
    for fact in log.interactions:
        if fact.kind is Kind.CONVERTED:
            bought.append((fact.customer_id, fact.occurred_at.timestamp(), fact.value_minor or 0.0))
        elif fact.decision_id is not None and not fact.machine_made:
            by_kind.setdefault(fact.kind, []).append(position[fact.decision_id])

    def flagged(*kinds: Kind) -> np.ndarray:
        found = np.zeros(len(log))
        for kind in kinds:
            found[by_kind.get(kind, [])] = 1.0
        return found

    def reported(kind: Kind) -> np.ndarray:
        able = np.array([*(market.channels()[name].reports(kind) for name in grid.channels), False])
        return np.where(able[channel], flagged(kind), np.nan)

    purchases = pl.DataFrame(bought, schema=["customer_id", "at", "value"], orient="row").sort("at")
    decisions = pl.DataFrame(
        {
            "customer_id": [customer_id(row) for row in log.row.tolist()],
            "start_at": log.start_at,
            "decision": np.arange(len(log)),
        }
    ).sort("start_at")
    traced = purchases.join_asof(
        decisions,
        left_on="at",
        right_on="start_at",
        by="customer_id",
        tolerance=float(log.campaign.attribution_window_seconds),
        check_sortedness=False,
    ).drop_nulls("decision")
    value = np.bincount(traced["decision"], weights=traced["value"], minlength=len(log))
    reached = flagged(Kind.FAILED, Kind.BOUNCED) == 0
    return LoggedRows(
        offers=grid.offers,
        channels=grid.channels,
        slots=grid.slots,
        feature_names=names,
        features=features,
        customer=log.row,
        offer=np.where(contact, offer, -1),
        channel=channel,
        slot=np.where(contact, slot, -1),
        propensity=log.propensity,
        decided_at=log.decided_at,
        opened=reported(Kind.OPENED),
        clicked=reported(Kind.CLICKED),
        converted=(value > 0).astype(np.float64),
        value_minor=value,
        cost_minor=log.cost_minor,
        unsubscribed=flagged(Kind.UNSUBSCRIBED, Kind.COMPLAINED),
        randomised=np.ones(len(log), dtype=np.bool_),
    ).take(np.flatnonzero(reached))
