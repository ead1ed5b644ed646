"""`POST /v1/customers`: take in people whole, as the customer register knows them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from features.history.append import CustomerRecord
from features.history.register import Registration
from features.json_types import KEYS_ALIKE, Number
from models.domain.customer import Identity, zone
from models.domain.errors import InvalidInputError
from models.domain.interaction import MOST_ATTRIBUTES
from serving.routes.examples import PROBLEMS, REGISTRATIONS
from serving.routes.fields import LongText, Moment, Name, ShortName, TimeZone
from serving.routes.schemas import IdentityIn, SaidIn
from serving.service import Service

MOST_CUSTOMERS = 1_000
_MOST_CONTACT_POINTS = 20
_MOST_CONSENTS = 100
_STRICT = ConfigDict(extra="forbid")


class CustomerIn(BaseModel):
    """One person."""

    model_config = _STRICT

    customer_id: Name
    time_zone: TimeZone = Field(description="IANA name, for example `Asia/Taipei`.")
    created_at: Moment = Field(description="When they became a customer.")
    attributes: Annotated[
        dict[ShortName, Number | LongText],
        KEYS_ALIKE,
        Field(
            default_factory=dict,
            max_length=MOST_ATTRIBUTES,
            description="Number or text by name, all that are known: those of a known person are replaced. Each becomes "
            "a feature `attr_<name>` when features are next defined.",
        ),
    ]
    identities: Annotated[
        list[IdentityIn],
        Field(
            default_factory=list,
            max_length=_MOST_CONTACT_POINTS,
            description="Contact points; those that the person has already stay.",
        ),
    ]
    consents: Annotated[
        list[SaidIn],
        Field(default_factory=list, max_length=_MOST_CONSENTS, description="The latest statement counts."),
    ]

    def of(self, source: str) -> Registration:
        """In the words of the domain."""
        return Registration(
            customer=CustomerRecord(
                customer_id=self.customer_id,
                time_zone=self.time_zone,
                created_at=self.created_at,
                attributes=self.attributes,
            ),
            identities=tuple(
                Identity(
                    customer_id=self.customer_id,
                    kind=each.kind,
                    value=each.value,
                    linked_at=self.created_at,
                    source=source,
                )
                for each in self.identities
            ),
            consents=tuple(said.of(self.customer_id, source, self.created_at) for said in self.consents),
        )


class CustomersIn(BaseModel):
    """People to take in: all of them, or none if one is wrong."""

    model_config = _STRICT

    source: ShortName = Field(description="Your system.")
    customers: Annotated[list[CustomerIn], Field(min_length=1, max_length=MOST_CUSTOMERS)]

    def of(self) -> list[Registration]:
        """In the words of the domain.

        Raises:
            InvalidInputError: a time zone is unknown; names the person by their position.
        """
        for position, one in enumerate(self.customers):
            try:
                zone(one.time_zone)
            except InvalidInputError as exc:
                raise InvalidInputError(f"customers.{position}.{exc.field}", exc.value, exc.bound) from exc
        return [one.of(self.source) for one in self.customers]


class RegisteredOut(BaseModel):
    """How many were new, how many were known already and took the new values, and how many were erased before."""

    n_new: int
    n_known: int
    n_erased: int = Field(description="Whoever was erased does not come back.")


def registration_routes(service: Service) -> APIRouter:
    """The endpoint of the customer register."""
    router = APIRouter(prefix="/v1/customers", tags=["customers"], responses=PROBLEMS)

    @router.post("", openapi_extra=REGISTRATIONS)
    async def register(posted: CustomersIn) -> RegisteredOut:
        """Take in up to 1,000 people with their contact points and permissions, in one transaction.

        Who is known already takes the new time zone and attributes; the former attributes are kept for what was
        decided while they held. A contact point of somebody else is refused: `POST /v1/identities:link` is for
        people who may be one. Features follow within a second.
        """
        people, now = posted.of(), service.clock()
        taken = await service.in_thread(lambda: service.customers.register(people, now))
        service.refresher.request(one.customer.customer_id for one in people)
        return RegisteredOut(n_new=taken.n_new, n_known=taken.n_repeated, n_erased=taken.n_erased)

    return router
