"""`/v1/shadow-prices`: what is scarce now, and what one message takes of it."""

from __future__ import annotations

from datetime import date, datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from serving.routes.examples import PROBLEMS, SHADOW_PRICES
from serving.service import Service


class ScarceOut(BaseModel):
    """A capacity or a budget."""

    model_config = ConfigDict(from_attributes=True)

    channel: str | None = Field(description="Whose capacity; null for a budget.")
    day: date | None = Field(description="Of the capacity, UTC.")
    campaign_id: str | None = Field(description="Whose budget; null for a capacity.")
    left: float = Field(description="Messages, or minor units.")
    shadow_price_minor: float = Field(
        description="What a unit is worth: minor units a message, or a minor unit of money; 0 where there is enough."
    )


class ShadowPricesOut(BaseModel):
    """Prices for requests that come by themselves."""

    paced: bool = Field(description="Whether they are asked for: the setting `NEXTCHANNEL_PACING`.")
    as_of: datetime | None = Field(description="When they were worked out; null before the first time.")
    n_expected: dict[str, float] = Field(
        description="Requests that are expected by the end of tomorrow, UTC, by campaign; one of several campaigns "
        "counts for each."
    )
    scarce: list[ScarceOut] = Field(description="Every capacity and budget of campaigns that are open.")
    prices: dict[str, dict[str, float]] = Field(
        description="What one message takes of them beside its cost, minor units, by campaign and channel; absent where "
        "there is enough."
    )


def pacing_routes(service: Service) -> APIRouter:
    """The endpoint of shadow prices."""
    router = APIRouter(prefix="/v1/shadow-prices", tags=["plans"], responses=PROBLEMS)

    @router.get("", openapi_extra=SHADOW_PRICES)
    async def now() -> ShadowPricesOut:
        """What one message takes of budgets and capacities that do not suffice for all who are expected to ask.

        A decision takes it off the net value of every contact, so that what is scarce is kept for those to whom it is
        worth more. It is worked out anew every few seconds.
        """
        pace = None if service.pacing is None else service.pacing.current
        return ShadowPricesOut(
            paced=service.pacing is not None,
            as_of=None if pace is None else pace.as_of,
            n_expected={} if pace is None else dict(pace.n_expected),
            scarce=[] if pace is None else [ScarceOut.model_validate(one) for one in pace.scarce],
            prices={} if pace is None else {name: dict(each) for name, each in pace.prices.items()},
        )

    return router
