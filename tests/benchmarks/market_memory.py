"""What a learner may know of a simulated market, in memory: facts, decisions and their final outcomes.

Features come from `features.compute` itself; outcomes follow the rules of `features.history.rewards`, written again
for arrays, without a database in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

from features.compute import POINTS, Known, compute
from features.feature_list import FeatureList, describe_attributes, describe_channels
from features.history.export import MOMENT
from models.choice import FloatArray
from models.domain.interaction import Interaction
from models.domain.interaction import InteractionKind as Kind
from models.logged import IntArray, LoggedRows
from training.simulator.market import Market
from training.simulator.outcomes import COVERED_DAYS, Outcomes
from training.simulator.state import DAY

# Customers decide in turns: one seventh of them each day of the week.
GROUPS = 7
_REFUSALS = (Kind.UNSUBSCRIBED, Kind.COMPLAINED)
_FACTS = {
    "customer_id": pl.String(),
    "kind": pl.String(),
    "occurred_at": MOMENT,
    "channel": pl.String(),
    "value_minor": pl.Float64(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """What is known of the people of one group."""

    customers: pl.DataFrame
    identities: pl.DataFrame


@dataclass(slots=True, kw_only=True)
class Decided:
    """One day's decisions as they were logged; shapes (n, ...)."""

    row: IntArray
    action: IntArray
    propensity: FloatArray
    decided_at: FloatArray
    randomised: bool
    features: FloatArray
    outcomes: Outcomes


@dataclass(slots=True)
class Memory:
    """Facts by group of customers, and the log of decisions.

    Attributes:
        features: The list that is computed.
        registers: By group.
        consents: By group; leavings are added.
        facts: By group, frames that grow day by day.
        log: Decisions, oldest first.
        bought: (customer, moment, value, decision that the fact names or -1, at a discount) of every conversion.
    """

    features: FeatureList
    registers: list[Register]
    consents: list[list[pl.DataFrame]]
    facts: list[list[pl.DataFrame]]
    log: list[Decided] = field(default_factory=list)
    bought: list[pl.DataFrame] = field(default_factory=list)

    @classmethod
    def of(cls, market: Market, group: IntArray, born: datetime) -> Memory:
        """The register of a market at its birth, without any fact."""
        people = market.customers(born)
        features = FeatureList(
            channels=describe_channels(market.channels().values()),
            attributes=describe_attributes(person.attributes for person in people),
        )
        register = pl.DataFrame(
            {
                "customer_id": [person.customer_id for person in people],
                "time_zone": [person.time_zone for person in people],
                "created_at": [person.created_at for person in people],
            }
        ).with_columns(
            pl.col("created_at").cast(MOMENT),
            *(
                pl.Series(
                    column,
                    [
                        person.attributes.get(attribute.name)
                        if value is None
                        else int(person.attributes.get(attribute.name) == value)
                        for person in people
                    ],
                )
                for attribute in features.attributes
                for column, value in attribute.columns.items()
            ),
        )
        accounts = market.identities(born)
        identities = pl.DataFrame(
            {
                "customer_id": [each.customer_id for each in accounts],
                "linked_at": pl.Series([born] * len(accounts), dtype=MOMENT),
            }
        )
        said = market.consents(born)
        consents = pl.DataFrame(
            {
                "customer_id": [each.customer_id for each in said],
                "channel": [each.channel for each in said],
                "purpose": [each.purpose for each in said],
                "status": [str(each.status) for each in said],
                "since": pl.Series([born] * len(said), dtype=MOMENT),
                "consent_id": np.arange(len(said)),
            }
        )
        registers, permissions = [], []
        for g in range(GROUPS):
            own = pl.DataFrame({"customer_id": market.customer_ids(np.flatnonzero(group == g))})
            registers.append(
                Register(
                    customers=register.join(own, on="customer_id", how="semi"),
                    identities=identities.join(own, on="customer_id", how="semi"),
                )
            )
            permissions.append([consents.join(own, on="customer_id", how="semi")])
        return cls(features, registers, permissions, [[] for _ in range(GROUPS)])

    def fork(self) -> Memory:
        """The same memory, to be added to apart."""
        return Memory(
            self.features,
            self.registers,
            [list(part) for part in self.consents],
            [list(part) for part in self.facts],
            list(self.log),
            list(self.bought),
        )

    def add(self, found: Sequence[Interaction], group: IntArray) -> None:
        """Take note of what happened; facts of the future are not seen before their moment."""
        if not found:
            return
        people = [each for each in found if not each.machine_made]
        row = np.array([_row(each.customer_id) for each in people], dtype=np.int64)
        frame = pl.DataFrame(
            {
                "customer_id": [each.customer_id for each in people],
                "kind": [str(each.kind) for each in people],
                "occurred_at": [each.occurred_at for each in people],
                "channel": [each.channel for each in people],
                "value_minor": [each.value_minor for each in people],
            },
            schema=_FACTS,
        ).with_columns(
            group=pl.Series(group[row]),
            row=pl.Series(row),
            discounted=pl.Series([each.discounted for each in people], dtype=pl.Boolean),
        )
        named = [-1 if each.decision_id is None else int(each.decision_id) for each in people]
        self.bought.append(
            frame.with_columns(decision=pl.Series(named, dtype=pl.Int64))
            .filter(pl.col("kind") == Kind.CONVERTED)
            .select(
                "row",
                pl.col("occurred_at").dt.timestamp("us") / 1e6,
                "value_minor",
                "decision",
                pl.col("discounted").cast(pl.Float64).fill_null(float("nan")),
            )
        )
        for (g,), part in frame.partition_by("group", as_dict=True).items():
            assert isinstance(g, int)
            self.facts[g].append(part.drop("group", "row", "discounted"))
            left = part.filter(pl.col("kind").is_in([str(kind) for kind in _REFUSALS]))
            self.consents[g].append(
                left.select(
                    "customer_id",
                    "channel",
                    purpose=pl.lit("marketing"),
                    status=pl.col("kind"),
                    since=pl.col("occurred_at"),
                    consent_id=pl.lit(1_000_000_000, dtype=pl.Int64),
                )
            )

    def read(self, market: Market, rows: IntArray, g: int, now: datetime) -> FloatArray:
        """Features of some customers of one group, shape (n, F); NaN where missing."""
        self.facts[g] = [pl.concat(self.facts[g])]
        register = self.registers[g]
        points = pl.DataFrame({"customer_id": market.customer_ids(rows)}).with_columns(
            event_timestamp=pl.lit(now).cast(POINTS["event_timestamp"])
        )
        known = Known(
            interactions=self.facts[g][0].filter(pl.col("occurred_at") < now),
            customers=register.customers,
            identities=register.identities,
            consents=pl.concat(self.consents[g]),
        )
        table = compute(self.features, points, known).select(self.features.names)
        return table.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)

    def rows(
        self, market: Market, as_of: datetime, *, since: float = -np.inf, final: bool = True
    ) -> LoggedRows:
        """The log with its outcomes as they are known.

        Args:
            market: Gives the grid and what channels report.
            as_of: Later facts are ignored.
            since: Only decisions from then on, seconds since 1970.
            final: Only decisions whose attribution window has closed.
        """
        now = as_of.timestamp()
        days = [day for day in self.log if day.decided_at[0] < now]
        row = np.concatenate([day.row for day in days])
        start = np.concatenate([day.outcomes.start_at for day in days])
        failed = np.concatenate([day.outcomes.failed for day in days])
        decided = np.concatenate([day.decided_at for day in days])
        converted, value, converted_after, discounted = self._conversions(row, start, failed, now)
        kept = ~failed & (decided >= since)
        if final:
            kept &= start + COVERED_DAYS * DAY <= now
        grid = market.grid
        _, n_channels, n_slots = grid.shape
        action = np.concatenate([day.action for day in days])
        contact = action != grid.no_contact
        channel = np.where(contact, action // n_slots % n_channels, -1)
        described = list(market.channels().values())

        def seen(kind: Kind, at: FloatArray) -> FloatArray:
            known = np.array([each.reports(kind) for each in described] + [False])[channel]
            happened = (at <= now) & (at < start + COVERED_DAYS * DAY)
            return np.where(known, happened, np.nan)

        left = np.concatenate([day.outcomes.unsubscribed_at for day in days])
        opened_at = np.concatenate([day.outcomes.opened_at for day in days])
        opened = seen(Kind.OPENED, opened_at)
        everything = {
            "customer": row,
            "offer": np.where(contact, action // (n_slots * n_channels), -1),
            "channel": channel,
            "slot": np.where(contact, action % n_slots, -1),
            "propensity": np.concatenate([day.propensity for day in days]),
            "decided_at": decided,
            "opened": opened,
            "opened_after": np.where(opened == 1, (opened_at - start) / (COVERED_DAYS * DAY), np.nan),
            "converted_after": converted_after,
            "discounted": discounted,
            "clicked": seen(Kind.CLICKED, np.concatenate([day.outcomes.clicked_at for day in days])),
            "converted": converted,
            "value_minor": value,
            "cost_minor": np.concatenate([day.outcomes.cost_minor for day in days]),
            "unsubscribed": (left <= now).astype(np.float64),
            "randomised": np.concatenate([np.full(len(day.row), day.randomised) for day in days]),
        }
        return LoggedRows(
            offers=grid.offers,
            channels=grid.channels,
            slots=grid.slots,
            feature_names=self.features.names,
            features=np.concatenate([day.features for day in days])[kept],
            **{name: values[kept] for name, values in everything.items()},
        )

    def _conversions(
        self, row: IntArray, start: FloatArray, failed: np.ndarray, now: float
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Whether each decision was followed by a conversion of its own, their value, how soon the first came, at a discount."""
        facts = pl.concat(self.bought)
        who, at, value, named, cheap = (facts.to_series(i).to_numpy() for i in range(5))
        # A fact that names no decision belongs to the customer's latest one that had started and reached them.
        reached = np.flatnonzero(~failed)
        order = reached[np.lexsort((start[reached], row[reached]))]
        span = 1e11
        key = row[order] * span + start[order]
        place = np.searchsorted(key, who * span + at, side="right") - 1
        latest = np.where(place >= 0, order[np.maximum(place, 0)], -1)
        latest = np.where((latest >= 0) & (row[latest] == who), latest, -1)
        decision = np.where(named >= 0, named, latest)
        counts = (decision >= 0) & (decision < len(row)) & (at <= now)
        decision, at, value, cheap = decision[counts], at[counts], value[counts], cheap[counts]
        inside = (at >= start[decision]) & (at < start[decision] + COVERED_DAYS * DAY)
        n = np.bincount(decision[inside], minlength=len(row))
        total = np.bincount(decision[inside], weights=value[inside], minlength=len(row))
        first = np.full(len(row), np.inf)
        np.minimum.at(first, decision[inside], at[inside])
        after = np.where(n > 0, (first - start) / (COVERED_DAYS * DAY), np.nan)
        discounted = np.full(len(row), np.nan)
        np.fmax.at(discounted, decision[inside], cheap[inside])
        return (n > 0).astype(np.float64), total, after, discounted


def _row(customer_id: str) -> int:
    return int(customer_id.rsplit("-", 1)[1])


def utc(seconds: float) -> datetime:
    """Aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)
