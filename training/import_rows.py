"""What a row of an imported file means: one documented list of columns a kind, and the record that a row becomes.

A row is text by column; empty text is "not given". Whatever does not fit raises `InvalidInputError`, which
names column, value and bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from features.history.append import CustomerRecord
from features.history.register import Registration
from models.domain.action import Action
from models.domain.campaign import Campaign, Mode
from models.domain.channel import Channel, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity, zone
from models.domain.decision import Decision, Expected
from models.domain.errors import InvalidInputError, PropensityError, require
from models.domain.experiment import Arm
from models.domain.interaction import (
    LONGEST_ID,
    Interaction,
    InteractionKind,
    Place,
    require_moment,
    require_text,
)

SOURCE = "import"
NOT_YET_KNOWN = "(not yet known)"
_ATTRIBUTE = "attr_"
_CONSENT = "consent_"

Row = Mapping[str, str]
_Member = TypeVar("_Member", ConsentStatus, InteractionKind, Place, Arm)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns a kind of file has.

    Attributes:
        required: Must be there, and be filled in every row.
        optional: May be there, and may be empty.
        prefixes: Any column that starts so is welcome too.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    prefixes: tuple[str, ...] = ()

    def check(self, header: tuple[str, ...]) -> None:
        """Refuse a header with a missing, repeated or unknown column.

        Raises:
            InvalidInputError: names the column.
        """
        for name in self.required:
            require(
                name in header, "column", name, f"must be in the file; its header has: {', '.join(header)}"
            )
        for name in header:
            require(header.count(name) == 1, "column", name, "must not repeat")
            require(
                name in self.required
                or name in self.optional
                or any(name.startswith(prefix) and len(name) > len(prefix) for prefix in self.prefixes),
                "column",
                name,
                f"must be one of {', '.join((*self.required, *self.optional, *(f'{p}...' for p in self.prefixes)))}",
            )


CUSTOMER_COLUMNS = Columns(
    required=("customer_id", "time_zone", "created_at"),
    optional=(*(kind.value for kind in IdentityKind), "consent_purpose", "consent_since"),
    prefixes=(_CONSENT, _ATTRIBUTE),
)
INTERACTION_COLUMNS = Columns(
    required=("event_id", "kind", "occurred_at"),
    optional=(
        "customer_id",
        *(kind.value for kind in IdentityKind),
        "source",
        "channel",
        "campaign_id",
        "offer_id",
        "decision_id",
        "value_minor",
        "place",
        "machine_made",
    ),
    prefixes=(_ATTRIBUTE,),
)
DECISION_COLUMNS = Columns(
    required=("decision_id", "customer_id", "campaign_id", "decided_at", "propensity"),
    optional=("offer_id", "channel", "slot", "send_at", "cost_minor", "policy", "policy_version", "arm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionRow:
    """All that one row of an interactions file says.

    Attributes:
        fact: Its customer is `NOT_YET_KNOWN` where a contact point names them.
        point: The contact point.
    """

    fact: Interaction
    point: tuple[IdentityKind, str] | None


def customer(row: Row) -> Registration:
    """Read a row of a customers file."""
    customer_id = _id(row, "customer_id")
    created_at = _moment(row, "created_at")
    zone(row["time_zone"])
    since = _moment(row, "consent_since") if row.get("consent_since") else created_at
    purpose = row.get("consent_purpose") or "marketing"
    return Registration(
        customer=CustomerRecord(
            customer_id=customer_id,
            time_zone=row["time_zone"],
            created_at=created_at,
            attributes=_attributes(row),
        ),
        identities=tuple(
            Identity(
                customer_id=customer_id, kind=kind, value=row[kind.value], linked_at=created_at, source=SOURCE
            )
            for kind in IdentityKind
            if row.get(kind.value)
        ),
        consents=tuple(
            Consent(
                customer_id=customer_id,
                channel=name.removeprefix(_CONSENT),
                purpose=purpose,
                status=_one_of(row, name, ConsentStatus),
                since=since,
                source=SOURCE,
            )
            for name in row
            if name.startswith(_CONSENT) and name not in CUSTOMER_COLUMNS.optional and row[name]
        ),
    )


def interaction(row: Row) -> InteractionRow:
    """Read a row of an interactions file, whose customer is named by their id or by one contact point."""
    points = [(kind, row[kind.value]) for kind in IdentityKind if row.get(kind.value)]
    if row.get("customer_id"):
        require(not points, "customer_id", row["customer_id"], "must be empty beside a contact point")
    else:
        named = ", ".join(kind.value for kind, _ in points)
        require(len(points) == 1, "customer_id", named, "must be given, or exactly one contact point instead")
    return InteractionRow(
        point=points[0] if points else None,
        fact=Interaction(
            source=row.get("source") or SOURCE,
            event_id=_id(row, "event_id"),
            customer_id=row.get("customer_id") or NOT_YET_KNOWN,
            kind=_one_of(row, "kind", InteractionKind),
            occurred_at=_moment(row, "occurred_at"),
            channel=row.get("channel") or None,
            campaign_id=row.get("campaign_id") or None,
            offer_id=row.get("offer_id") or None,
            decision_id=row.get("decision_id") or None,
            value_minor=_number(row, "value_minor") if row.get("value_minor") else None,
            place=_one_of(row, "place", Place) if row.get("place") else None,
            machine_made=_flag(row, "machine_made"),
            attributes={
                name.removeprefix(_ATTRIBUTE): text
                for name, text in row.items()
                if text and name.startswith(_ATTRIBUTE)
            },
        ),
    )


def decision(row: Row, campaigns: Mapping[str, Campaign], channels: Mapping[str, Channel]) -> Decision:
    """Read a row of a decisions file.

    Args:
        row: The row.
        campaigns: Every campaign of the history, by id.
        channels: Every channel of the history, by name.
    """
    campaign = campaigns.get(_id(row, "campaign_id"))
    if campaign is None:
        raise InvalidInputError("campaign_id", row["campaign_id"], "must be a campaign of the history")
    propensity = _number(row, "propensity")
    if not 0 < propensity <= 1:
        raise PropensityError("propensity", propensity, "must be in (0, 1]")
    decided_at = _moment(row, "decided_at")
    action = _action(row, campaign, decided_at)
    return Decision(
        decision_id=_id(row, "decision_id", longest=64),
        customer_id=_id(row, "customer_id"),
        campaign_id=campaign.campaign_id,
        campaign_version=campaign.version,
        decided_at=decided_at,
        action=action,
        propensity=propensity,
        expected=Expected(
            p_open=None,
            p_convert=None,
            p_convert_no_contact=None,
            uplift=None,
            cost_minor=_cost(row, action, channels),
            net_value_minor=None,
        ),
        alternatives=(),
        exclusions=(),
        arm=_one_of(row, "arm", Arm) if row.get("arm") else Arm.TREATMENT,
        mode=Mode.LIVE,
        policy=row.get("policy") or "imported",
        policy_version=row.get("policy_version") or "",
        degraded=(),
        explanation="Imported.",
    )


def _action(row: Row, campaign: Campaign, decided_at: datetime) -> Action | None:
    offer, channel, slot = (row.get(name, "") for name in ("offer_id", "channel", "slot"))
    if not (offer or channel or slot):
        return None
    grid = campaign.grid
    for name, value, known in (("offer_id", offer, grid.offers), ("channel", channel, grid.channels)):
        require(
            value in known,
            name,
            value,
            f"must be one of {', '.join(known)}, or offer_id, channel and slot all empty for no contact",
        )
    last = len(grid.slots) - 1
    require(slot.isdecimal() and int(slot) <= last, "slot", slot, f"must be a whole number in [0, {last}]")
    send_at = _moment(row, "send_at") if row.get("send_at") else decided_at
    return Action(
        offer=offer,
        channel=channel,
        slot=int(slot),
        send_at=send_at,
        expires_at=send_at + timedelta(seconds=campaign.message_ttl_seconds),
    )


def _cost(row: Row, action: Action | None, channels: Mapping[str, Channel]) -> float:
    if row.get("cost_minor"):
        cost = _number(row, "cost_minor")
        require(cost >= 0, "cost_minor", cost, "must be >= 0")
        return cost
    if action is None:
        return 0.0
    configured = channels[action.channel].cost_minor if action.channel in channels else None
    if configured is None:
        raise InvalidInputError("cost_minor", "", f"must be given: channel {action.channel} has no cost")
    return configured


def _attributes(row: Row) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, text in row.items():
        if name.startswith(_ATTRIBUTE) and text:
            try:
                found[name.removeprefix(_ATTRIBUTE)] = _number(row, name)
            except InvalidInputError:
                found[name.removeprefix(_ATTRIBUTE)] = text
    return found


def _id(row: Row, name: str, longest: int = LONGEST_ID) -> str:
    value = row[name]
    require(bool(value), name, value, "must not be empty")
    require_text(name, value, longest)
    return value


def _moment(row: Row, name: str) -> datetime:
    text = row[name]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInputError(
            name, text, "must be an ISO 8601 moment, for example 2026-01-31T09:00:00Z"
        ) from exc
    require(moment.tzinfo is not None, name, text, "must carry a time zone, for example 2026-01-31T09:00:00Z")
    require_moment(name, moment)
    return moment.astimezone(UTC)


def _number(row: Row, name: str) -> float:
    text = row[name]
    try:
        number = float(text)
    except ValueError as exc:
        raise InvalidInputError(name, text, "must be a number, for example 12.5") from exc
    require(abs(number) < float("inf"), name, text, "must be finite")
    return number


def _flag(row: Row, name: str) -> bool:
    text = row.get(name, "").lower()
    require(text in ("", "true", "false", "1", "0"), name, text, "must be true or false")
    return text in ("true", "1")


def _one_of(row: Row, name: str, members: type[_Member]) -> _Member:
    try:
        return members(row[name].lower())
    except ValueError as exc:
        allowed = ", ".join(member.value for member in members)
        raise InvalidInputError(name, row[name], f"must be one of {allowed}") from exc
