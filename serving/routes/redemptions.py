"""`/v1/redemptions`: what tills and shop systems redeem, and whether they may."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from features.history.engine import read_only
from features.json_types import Number
from models.domain.errors import InvalidInputError, require
from models.domain.interaction import Place
from serving.incentives.distance import Position
from serving.incentives.incentive import LONGEST_CODE, IncentiveKind
from serving.incentives.redeem import Asked, Redemption, redeem
from serving.incentives.standing import VoucherStanding, Whereabouts, exhausted, in_time, standing_of
from serving.incentives.store import load_incentive
from serving.incentives.survey import Answer
from serving.incentives.vouchers import Voucher, find_by_code, find_voucher, the_one_with
from serving.routes.examples import PROBLEMS, REDEMPTIONS
from serving.routes.fields import NO_CONTROLS, Moment, Name, ShortName, either
from serving.service import Service
from serving.store.availability import reaching_the_store

# The clocks of tills are not ours.
_CLOCKS_APART = timedelta(minutes=5)

TypedCode = Annotated[
    str, Field(min_length=1, max_length=LONGEST_CODE, pattern=NO_CONTROLS, description="As typed.")
]
Latitude = Annotated[float, Field(ge=-90, le=90, description="Degrees north, WGS-84.")]
Longitude = Annotated[float, Field(ge=-180, le=180, description="Degrees east, WGS-84.")]


class PositionIn(BaseModel):
    """Where the customer is; only the distance to the nearest shop is kept of it, rounded."""

    model_config = ConfigDict(extra="forbid")

    latitude: Latitude
    longitude: Longitude


class RedemptionIn(BaseModel):
    """What was redeemed; `source` and `event_id` together make it unique. Give `code`, `decision_id` or both."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"allOf": [either("code", "decision_id", both=True)]}
    )

    source: ShortName = Field(description="Your till or shop system.")
    event_id: Name = Field(description="Its own id of the redemption.")
    code: TypedCode | None = None
    decision_id: ShortName | None = Field(
        default=None, description="Needed beside a code that is for everybody."
    )
    occurred_at: Moment | None = Field(default=None, description="Default now.")
    place: Place | None = Field(default=None, description="Default `shop` where `shop_id` is given.")
    shop_id: Name | None = Field(
        default=None, description="Your shop; one of the incentive's counts as near."
    )
    position: PositionIn | None = None
    value_minor: Number | None = Field(
        default=None, description="Of the purchase, minor units; without it the margin of the offer counts."
    )
    order_id: Name | None = Field(
        default=None,
        description="Of the sale. Facts of the customer with this `order_id` among their attributes speak of the same "
        "sale and do not count beside the redemption.",
    )
    answers: dict[ShortName, Answer] = Field(
        default_factory=dict, max_length=100, description="To a survey, by question."
    )


class RedemptionOut(BaseModel):
    """What was redeemed."""

    model_config = ConfigDict(from_attributes=True)

    decision_id: str
    campaign_id: str
    offer_id: str
    kind: IncentiveKind
    occurred_at: datetime
    points: int = Field(description="That were redeemed; 0 for other kinds.")
    prize: str | None = Field(description="That was won; null for none.")
    cost_minor: float
    repeated: bool = Field(description="It was known before, and changed nothing.")


class CheckedOut(BaseModel):
    """What a till may know of a code; not whose it is."""

    standing: VoucherStanding
    kind: IncentiveKind
    campaign_id: str
    offer_id: str
    title: dict[str, str]
    shared: bool = Field(description="For everybody: `decision_id` says who redeems it.")
    opens_at: datetime
    lapses_at: datetime | None


def redemption_routes(service: Service) -> APIRouter:
    """The endpoints of redemptions."""
    router = APIRouter(prefix="/v1/redemptions", tags=["incentives"], responses=PROBLEMS)

    @router.post("", openapi_extra=REDEMPTIONS)
    async def post(posted: RedemptionIn) -> RedemptionOut:
        """Redeem, once: it counts as a conversion of the decision. The same report again gets the same answer."""
        now = service.clock()
        occurred_at = posted.occurred_at or now
        require(
            occurred_at <= now + _CLOCKS_APART,
            "occurred_at",
            occurred_at.isoformat(),
            "must not be in the future",
        )
        at_shop = Place.SHOP if posted.shop_id is not None else None
        asked = Asked(
            source=posted.source,
            event_id=posted.event_id,
            occurred_at=occurred_at,
            place=posted.place or at_shop,
            whereabouts=_whereabouts(posted.shop_id, posted.position),
            value_minor=posted.value_minor,
            order_id=posted.order_id,
            answers=posted.answers,
        )

        def write() -> tuple[Voucher, Redemption]:
            with reaching_the_store(), service.engine.begin() as conn:
                voucher = _meant(conn, posted)
                return voucher, redeem(conn, voucher, asked, now)

        voucher, redemption = await service.in_thread(write)
        service.refresher.request([voucher.customer_id])
        return RedemptionOut.model_validate(redemption)

    @router.get("/{code}")
    async def check(
        code: Annotated[TypedCode, Path()],
        shop_id: Annotated[Name | None, Query()] = None,
        latitude: Annotated[Latitude | None, Query()] = None,
        longitude: Annotated[Longitude | None, Query()] = None,
    ) -> CheckedOut:
        """Whether a code can be redeemed now, and here; nothing is changed."""
        now = service.clock()
        require(
            (latitude is None) == (longitude is None), "longitude", longitude, "must be given with latitude"
        )
        here = (
            None
            if latitude is None or longitude is None
            else PositionIn(latitude=latitude, longitude=longitude)
        )

        def read() -> CheckedOut:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                voucher = find_by_code(conn, code)[0]
                return _checked(conn, voucher, now, _whereabouts(shop_id, here))

        return await service.in_thread(read)

    return router


def _checked(conn: Connection, voucher: Voucher, now: datetime, whereabouts: Whereabouts) -> CheckedOut:
    incentive = load_incentive(conn, voucher.campaign_id, voucher.offer_id, voucher.version).incentive
    if voucher.shared:  # nobody in particular: what holds for all of them
        standing = in_time(incentive, voucher.given_at, now)
        if standing is VoucherStanding.VALID and exhausted(conn, voucher, incentive):
            standing = VoucherStanding.LIMIT_REACHED
    else:
        standing = standing_of(conn, voucher, incentive, now, whereabouts)
    return CheckedOut(
        standing=standing,
        kind=incentive.kind,
        campaign_id=voucher.campaign_id,
        offer_id=voucher.offer_id,
        title={str(language): text for language, text in incentive.title.items()},
        shared=voucher.shared,
        opens_at=incentive.opens_at(voucher.given_at),
        lapses_at=incentive.lapses_at(voucher.given_at),
    )


def _meant(conn: Connection, posted: RedemptionIn) -> Voucher:
    """The voucher that a report speaks of."""
    if posted.decision_id is None:
        if posted.code is None:
            raise InvalidInputError("code", None, "must be given, or decision_id")
        return the_one_with(conn, posted.code)
    voucher = find_voucher(conn, posted.decision_id)
    if posted.code is not None:
        codes = {one.code for one in find_by_code(conn, posted.code)}
        require(voucher.code in codes, "code", posted.code, "must be the code of that decision")
    return voucher


def _whereabouts(shop_id: str | None, position: PositionIn | None) -> Whereabouts:
    return Whereabouts(
        shop_id=shop_id,
        position=None
        if position is None
        else Position(latitude=position.latitude, longitude=position.longitude),
    )
