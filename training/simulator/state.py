"""What changes from day to day: permission, recent contacts, pressure and lifecycle."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.candidates import CONSENT_CODE
from models.domain.customer import ConsentStatus
from training.simulator.population import ACTIVE, DORMANT, LAPSING, NEW, Population

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

DAY = 86_400.0

NEVER_ASKED = CONSENT_CODE[None]
CONSENT_CODES = {status: CONSENT_CODE[status] for status in ConsentStatus}
GRANTED, WITHDRAWN, UNSUBSCRIBED, COMPLAINED = CONSENT_CODES.values()

# Contacts that are remembered one by one, for rolling caps; a cap of more needs more.
REMEMBERED_CONTACTS = 8
_PRESSURE_HALF_LIFE = 5 * DAY

# Chance a day of moving from one lifecycle to the next without a purchase: a month as new, about two
# months until the active lapse, three until the lapsing are dormant. A purchase makes anybody active.
_MOVES = ((NEW, ACTIVE, 1 / 30), (ACTIVE, LAPSING, 1 / 60), (LAPSING, DORMANT, 1 / 90))


@dataclass(slots=True)
class State:
    """Mutable state of n customers; C channels of the preset, R remembered contacts.

    Attributes:
        consent: Code of the latest consent, shape (n, C).
        lifecycle: Index into `population.LIFECYCLES`, shape (n,).
        pressure: Of contacts on each channel, at `pressure_at`, shape (n, C).
        pressure_at: Seconds since 1970, shape (n,).
        contact_at: Send time of the last contacts, -inf where none, shape (n, R).
        contact_channel: Their channel, shape (n, R).
        n_contacts: Contacts ever, shape (n,).
        covered_until: Up to when purchases have been drawn by `Market.respond`, shape (n,).
    """

    consent: NDArray[np.int8]
    lifecycle: NDArray[np.int8]
    pressure: Floats
    pressure_at: NDArray[np.float64]
    contact_at: NDArray[np.float64]
    contact_channel: NDArray[np.int8]
    n_contacts: NDArray[np.int32]
    covered_until: NDArray[np.float64]

    def copy(self) -> State:
        """An independent copy."""
        return State(**{field.name: getattr(self, field.name).copy() for field in fields(self)})

    def pressure_of(self, rows: Rows, at: float | NDArray[np.float64]) -> Floats:
        """Pressure that has faded until then, shape (n, C)."""
        elapsed = np.maximum(at - self.pressure_at[rows], 0.0)
        return self.pressure[rows] * np.exp2(-elapsed / _PRESSURE_HALF_LIFE).astype(np.float32)[:, None]

    def record_contacts(
        self, rows: Rows, channel: Rows, send_at: NDArray[np.float64], intrusion: Floats
    ) -> None:
        """Count one contact of each customer, each of whom may stand in `rows` once."""
        self.pressure[rows] = self.pressure_of(rows, send_at)
        self.pressure_at[rows] = np.maximum(send_at, self.pressure_at[rows])
        self.pressure[rows, channel] += intrusion
        place = self.n_contacts[rows] % REMEMBERED_CONTACTS
        self.contact_at[rows, place] = send_at
        self.contact_channel[rows, place] = channel
        self.n_contacts[rows] += 1

    def age(self, days: int, rng: np.random.Generator) -> None:
        """Move lifecycles on by some days."""
        before = self.lifecycle.copy()
        draws = rng.random(len(before))
        for here, there, daily in _MOVES:
            self.lifecycle[(before == here) & (draws < 1 - (1 - daily) ** days)] = there


def initial_state(population: Population, reachable: NDArray[np.bool_], rng: np.random.Generator) -> State:
    """The state before anything has happened.

    Args:
        population: The people.
        reachable: Whether they have the account that the channel needs, shape (n, C).
        rng: Source of chance.
    """
    n, n_channels = reachable.shape
    refused = np.where(rng.random(reachable.shape) < 0.5, WITHDRAWN, NEVER_ASKED)
    consent = np.where(population.opted_in, GRANTED, refused)
    consent[~reachable] = NEVER_ASKED
    return State(
        consent=consent.astype(np.int8),
        lifecycle=population.lifecycle.copy(),
        pressure=np.zeros((n, n_channels), dtype=np.float32),
        pressure_at=np.zeros(n),
        contact_at=np.full((n, REMEMBERED_CONTACTS), -np.inf),
        contact_channel=np.zeros((n, REMEMBERED_CONTACTS), dtype=np.int8),
        n_contacts=np.zeros(n, dtype=np.int32),
        covered_until=np.full(n, -np.inf),
    )
