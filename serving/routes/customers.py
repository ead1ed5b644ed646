"""`/v1/customers/{id}`: profile, history, consents, export, erase."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from features.history.erase import Erasure
from features.history.timeline import EntryType
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus
from models.domain.interaction import InteractionKind
from models.domain.party import Party
from serving.customers import WholeProfile
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Moment, Name, ShortName
from serving.routes.schemas import SaidIn
from serving.security.gate import SCOPES
from serving.security.keys import Scope
from serving.service import Service

LARGEST_PAGE = 200
LONGEST_CURSOR = 512
_STRICT = ConfigDict(extra="forbid")
_OF_DOMAIN = ConfigDict(from_attributes=True)

CustomerId = Annotated[Name, Path(description="Any of the person's ids.")]


class ContactPointOut(BaseModel):
    """An identity."""

    model_config = _OF_DOMAIN

    kind: IdentityKind
    contact_point: str = Field(description="Masked, unless the caller's key has the scope `admin`.")
    linked_at: datetime
    source: str


class ConsentOut(BaseModel):
    """What holds for a channel and purpose; channel `*` is every channel."""

    model_config = _OF_DOMAIN

    channel: str
    purpose: str
    status: ConsentStatus
    since: datetime
    source: str


class FeatureOut(BaseModel):
    """One feature."""

    model_config = _OF_DOMAIN

    name: str
    value: float | None
    unit: str
    why: str


class OfferOut(BaseModel):
    """A decision and what came of it."""

    model_config = _OF_DOMAIN

    decision_id: str
    decided_at: datetime
    campaign_id: str
    offer: str | None = Field(description="Null with `channel`: no contact.")
    channel: str | None
    send_at: datetime | None
    status: str | None = Field(description="Of the message in the outbox.")
    outcomes: list[InteractionKind]
    converted: bool | None = Field(description="Null while nobody can tell.")
    value_minor: float | None
    occasion: str | None = Field(description="Name of the one that asked for it; null where none did.")


class RefusalOut(BaseModel):
    """The person said no."""

    model_config = _OF_DOMAIN

    kind: str
    at: datetime
    channel: str | None
    campaign_id: str | None


class SourceOut(BaseModel):
    """What one system told about the person."""

    model_config = _OF_DOMAIN

    source: str
    party: Party = Field(
        description="`first`: our own; `second`: a marketplace or partner; `third`: bought, or of a visitor "
        "who was anonymous."
    )
    n_interactions: int
    n_identities: int
    n_consents: int
    n_tags: int
    first_at: datetime
    last_at: datetime


class VoucherShownOut(BaseModel):
    """What an offer gave the person."""

    model_config = _OF_DOMAIN

    decision_id: str
    campaign_id: str
    offer_id: str
    code: str
    given_at: datetime
    redeemed_at: datetime | None
    prize: str | None = Field(description="That was won; null for none, or for what is no draw.")


class ProfileOut(BaseModel):
    """Everything that a call centre needs to know about a person."""

    customer_id: str
    merged_ids: list[str] = Field(description="Other ids that are this person.")
    anonymous: bool = Field(description="Only devices are known of them.")
    time_zone: str
    created_at: datetime
    attributes: dict[str, float | str]
    identities: list[ContactPointOut]
    consents: list[ConsentOut]
    features: list[FeatureOut]
    features_as_of: datetime | None
    last_offers: list[OfferOut] = Field(description="Newest first.")
    refusals: list[RefusalOut] = Field(description="Newest first.")
    sources: list[SourceOut] = Field(description="Which systems told about the person, and whose data it is.")
    points: int = Field(description="Given, neither redeemed nor lapsed.")
    vouchers: list[VoucherShownOut] = Field(description="What offers gave them, newest first.")

    @classmethod
    def of(cls, whole: WholeProfile) -> ProfileOut:
        """From the domain."""
        profile = whole.profile
        return cls(
            customer_id=profile.customer_id,
            merged_ids=list(profile.merged_ids),
            anonymous=profile.anonymous,
            time_zone=profile.time_zone,
            created_at=profile.created_at,
            attributes=dict(profile.attributes),
            identities=[ContactPointOut.model_validate(one) for one in profile.identities],
            consents=[ConsentOut.model_validate(one) for one in profile.consents],
            features=[FeatureOut.model_validate(one) for one in whole.features],
            features_as_of=whole.features_as_of,
            last_offers=[OfferOut.model_validate(one) for one in profile.last_offers],
            refusals=[RefusalOut.model_validate(one) for one in profile.refusals],
            sources=[SourceOut.model_validate(one) for one in profile.sources],
            points=profile.points,
            vouchers=[VoucherShownOut.model_validate(one) for one in profile.vouchers],
        )


class HistoryEntryOut(BaseModel):
    """An interaction, a decision, or what was answered in a chat."""

    model_config = _OF_DOMAIN

    type: EntryType
    entry_id: str
    at: datetime
    kind: str = Field(
        description="Of an interaction; `contact` or `no_contact` of a decision; `answered` in a chat."
    )
    channel: str | None
    campaign_id: str | None
    offer: str | None
    decision_id: str | None
    value_minor: float | None
    source: str
    attributes: dict[str, Any]


class HistoryOut(BaseModel):
    """A page, the latest first."""

    model_config = _OF_DOMAIN

    entries: list[HistoryEntryOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null at the end.")


class ConsentsOut(BaseModel):
    """What held at a moment."""

    customer_id: str
    as_of: datetime
    consents: list[ConsentOut]


class ConsentIn(SaidIn):
    """What the person said, and where."""

    source: ShortName = Field(description="Where they said it: a form, a call, a shop.")


class ConsentsIn(BaseModel):
    """Statements to record: all of them, or none if one is wrong."""

    model_config = _STRICT

    consents: Annotated[list[ConsentIn], Field(min_length=1, max_length=100)]


class ConsentsTakenOut(BaseModel):
    """How many were new, and what holds now."""

    n_new: int
    consents: list[ConsentOut]


class ErasureOut(BaseModel):
    """What was erased."""

    model_config = _OF_DOMAIN

    tombstone_id: str = Field(description="Stands where the person's ids were; tells nothing about them.")
    requested_at: datetime
    finished_at: datetime | None = Field(description="Null while files are still being cleaned.")
    rows: dict[str, int] = Field(description="Rows made nameless or removed, by table.")

    @classmethod
    def of(cls, erasure: Erasure) -> ErasureOut:
        """From the domain."""
        return cls.model_validate(erasure)


def customer_routes(service: Service) -> APIRouter:
    """The endpoints of one customer."""
    router = APIRouter(prefix="/v1/customers", tags=["customers"], responses=PROBLEMS)

    @router.get("/{customer_id}")
    async def profile(request: Request, customer_id: CustomerId) -> ProfileOut:
        """Who they are, what they allow, what they were last offered and what they refused."""
        now = service.clock()
        clear = sees_contact_points(request)
        return ProfileOut.of(
            await service.in_thread(lambda: service.customers.profile(customer_id, now, in_the_clear=clear))
        )

    @router.get("/{customer_id}/history")
    async def history(
        customer_id: CustomerId,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        cursor: Annotated[str | None, Query(max_length=LONGEST_CURSOR)] = None,
    ) -> HistoryOut:
        """Interactions and decisions, the latest first, in pages that new entries do not shift."""
        return HistoryOut.model_validate(
            await service.in_thread(lambda: service.customers.history(customer_id, limit, cursor))
        )

    @router.get("/{customer_id}/consents")
    async def consents(
        customer_id: CustomerId, as_of: Annotated[Moment | None, Query()] = None
    ) -> ConsentsOut:
        """What held at a moment, by default now."""
        moment = as_of or service.clock()
        held = await service.in_thread(lambda: service.customers.consents(customer_id, moment))
        return ConsentsOut(
            customer_id=customer_id,
            as_of=moment,
            consents=[ConsentOut.model_validate(one) for one in held],
        )

    @router.post("/{customer_id}/consents")
    async def say(customer_id: CustomerId, posted: ConsentsIn) -> ConsentsTakenOut:
        """Record what the person said; a withdrawal holds at once, for messages on their way too."""
        now = service.clock()
        statements = [one.of(customer_id, one.source, now) for one in posted.consents]
        n_new = await service.in_thread(lambda: service.customers.say(statements, now))
        service.refresher.request([customer_id])
        held = await service.in_thread(lambda: service.customers.consents(customer_id, now))
        return ConsentsTakenOut(n_new=n_new, consents=[ConsentOut.model_validate(one) for one in held])

    @router.get("/{customer_id}/export")
    async def export(customer_id: CustomerId) -> dict[str, Any]:
        """Everything that is held about the person, contact points in the clear."""
        now = service.clock()
        return await service.in_thread(lambda: service.customers.export(customer_id, now))

    async def erase(customer_id: CustomerId) -> ErasureOut:
        """Erase the person; totals of reports stay as they were, and no import brings the person back."""
        return ErasureOut.of(await service.in_thread(lambda: service.eraser.erase(customer_id)))

    router.add_api_route("/{customer_id}/erase", erase, methods=["POST"], name="erase")
    router.add_api_route("/{customer_id}", erase, methods=["DELETE"], name="delete")
    return router


def sees_contact_points(request: Request) -> bool:
    """Whether the caller may see contact points: with the scope `admin`, or where no keys are asked for."""
    scopes = request.scope.get(SCOPES)
    return scopes is None or Scope.ADMIN in scopes
