"""Simulated customers as domain objects: what a company's register knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from features.history.append import CustomerRecord
from models.domain.campaign import Campaign
from models.domain.channel import IdentityKind
from models.domain.customer import Consent, ConsentStatus, Customer, Identity, PastContact
from models.logged import IntArray
from training.simulator.population import AGE_BANDS, TIERS, Population
from training.simulator.presets import Preset
from training.simulator.state import CONSENT_CODES, NEVER_ASKED, State

SOURCE = "simulated"
_PURPOSE = "marketing"
_STATUSES = {code: status for status, code in CONSENT_CODES.items()}


def customer_id(row: int) -> str:
    """The id of the customer in a row."""
    return f"sim-{row:07d}"


def records(preset: Preset, population: Population, now: datetime) -> list[CustomerRecord]:
    """Everybody, with age band and membership tier."""
    zones = tuple(preset.time_zones)
    columns = zip(
        population.zone.tolist(),
        population.member_days.tolist(),
        population.age_band.tolist(),
        population.tier.tolist(),
        strict=True,
    )
    return [
        CustomerRecord(
            customer_id=customer_id(row),
            time_zone=zones[zone],
            created_at=now - timedelta(days=days),
            attributes={"age_band": AGE_BANDS[age], "tier": TIERS[tier]},
        )
        for row, (zone, days, age, tier) in enumerate(columns)
    ]


def contact_point(kind: IdentityKind, row: int) -> str:
    """An account that cannot exist: a reserved domain, an unassigned country code, or an opaque token."""
    if kind is IdentityKind.EMAIL:
        return f"sim-{row:07d}@example.com"
    if kind in (IdentityKind.PHONE, IdentityKind.WHATSAPP):
        return f"+999{row:010d}"
    return f"{kind}-sim-{row:07d}"


def identities(population: Population, kinds: Iterable[IdentityKind], now: datetime) -> list[Identity]:
    """Every account of these kinds, linked before `now`."""
    found = []
    for kind in kinds:
        column = population.identity[:, population.identity_kinds.index(kind)]
        found += [
            Identity(
                customer_id=customer_id(row),
                kind=kind,
                value=contact_point(kind, row),
                linked_at=now,
                source=SOURCE,
            )
            for row in column.nonzero()[0].tolist()
        ]
    return found


def consents(state: State, channels: Mapping[int, str], now: datetime) -> list[Consent]:
    """The latest consent of everybody who was ever asked, by channel (column of the state to name)."""
    found = []
    for column, name in channels.items():
        codes = state.consent[:, column]
        found += [
            Consent(
                customer_id=customer_id(row),
                channel=name,
                purpose=_PURPOSE,
                status=_STATUSES[code],
                since=now,
                source=SOURCE,
            )
            for row, code in enumerate(codes.tolist())
            if code != NEVER_ASKED
        ]
    return found


def customers(
    preset: Preset,
    population: Population,
    state: State,
    channels: Mapping[int, str],
    rows: IntArray,
    campaign: Campaign,
) -> list[Customer]:
    """What eligibility needs to know of some customers; past contacts are the campaign's own."""
    zones = tuple(preset.time_zones)
    everything = tuple(preset.channels)
    found = []
    for row in rows.tolist():
        contacts = zip(state.contact_at[row].tolist(), state.contact_channel[row].tolist(), strict=True)
        found.append(
            Customer(
                customer_id=customer_id(row),
                time_zone=zones[population.zone[row]],
                identities=frozenset(
                    kind
                    for kind, held in zip(
                        population.identity_kinds, population.identity[row].tolist(), strict=True
                    )
                    if held
                ),
                consents={
                    (name, campaign.purpose): status
                    for column, name in channels.items()
                    if (status := _status(state, row, column)) is not None
                },
                contacts=tuple(
                    PastContact(
                        channel=everything[column],
                        campaign_id=campaign.campaign_id,
                        contacted_at=datetime.fromtimestamp(at, UTC),
                        message_class=campaign.message_class,
                    )
                    for at, column in contacts
                    if at > 0
                ),
            )
        )
    return found


def _status(state: State, row: int, column: int) -> ConsentStatus | None:
    return _STATUSES.get(int(state.consent[row, column]))
