"""`/v1/channels`: what a channel costs, carries and can report, and whether it is on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, Strict, StrictBool
from sqlalchemy import Connection

from features.history.campaigns import list_campaigns
from features.history.channels import load_channels, lock_channel, save_channel
from features.history.documents import ChannelDocument
from features.json_types import WHOLE, Number
from models.domain.channel import DEFAULT_CHANNELS, Channel, CostUnit
from models.domain.checks import Severity, check_channel
from models.domain.errors import InvalidInputsError, NotFoundError, require
from serving.routes.campaigns import FindingOut
from serving.routes.examples import CHANNEL_CHANGES, PROBLEMS
from serving.routes.fields import LongText, ShortName, unstorable_in
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.store.availability import reaching_the_store

# The costs of the default channels are list prices in US cents.
_LIST_CURRENCY = "USD"
_LIST_PRICES = {channel.name: channel.cost_minor for channel in DEFAULT_CHANNELS}

ChannelName = Annotated[ShortName, Path(description="Name of the channel, for example `sms`.")]


class ChannelIn(BaseModel):
    """A channel to store."""

    model_config = ConfigDict(extra="forbid")

    channel: Channel
    confirm_cost: StrictBool = Field(
        default=False, description="The cost is meant, though it reads like one in major units."
    )


class ChannelChange(BaseModel):
    """What to change; what is absent stays."""

    model_config = ConfigDict(extra="forbid")

    cost_minor: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Cost of a message, minor units; null: unknown, so that nobody uses it."
    )
    cost_source: LongText = Field(default="", description="Where the cost comes from, with its date.")
    cost_unit: CostUnit = Field(
        default=CostUnit.MESSAGE,
        description="What that is the cost of: a message, or each segment of an SMS.",
    )
    capacity_per_day: Annotated[int, Strict(), Field(ge=0), WHOLE] | None = Field(
        default=None, description="Most messages a day; null for no limit."
    )
    enabled: StrictBool = Field(default=True, description="False: no decision uses it from now on.")
    confirm_cost: StrictBool = Field(
        default=False, description="The cost is meant, though it reads like one in major units."
    )

    def of(self, channel: Channel) -> Channel:
        """The channel after the change."""
        given = self.model_dump(include=self.model_fields_set - {"confirm_cost"})
        return replace(channel, **given)


class ChannelOut(BaseModel):
    """A channel as it is stored."""

    channel: ChannelDocument
    warnings: list[FindingOut] = Field(default_factory=list, description="What works but may surprise.")


class ChannelsOut(BaseModel):
    """Configured channels, in order of name."""

    channels: list[ChannelDocument]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


def channel_routes(service: Service) -> APIRouter:
    """The endpoints of channels."""
    router = APIRouter(prefix="/v1/channels", tags=["channels"], responses=PROBLEMS)

    @router.get("")
    async def channels(limit: Limit = USUAL_PAGE, cursor: Cursor = None) -> ChannelsOut:
        """Every channel: what it costs, carries and can report."""
        after = "" if cursor is None else str(from_cursor(cursor, str)[0])

        def read() -> dict[str, Channel]:
            with reaching_the_store(), service.engine.connect() as conn:
                return load_channels(conn)

        known = [each for name, each in sorted((await service.in_thread(read)).items()) if name > after]
        page, following = page_of(known, limit, lambda each: to_cursor(each.name))
        return ChannelsOut(channels=page, next_cursor=following)

    @router.get("/{name}")
    async def one(name: ChannelName) -> ChannelOut:
        """A channel, and what is remarkable about it now."""

        def read() -> ChannelOut:
            with reaching_the_store(), service.engine.connect() as conn:
                return _checked(service, conn, _known(load_channels(conn), name), confirmed=True)

        return await service.in_thread(read)

    @router.put("/{name}", responses={201: {"model": ChannelOut}})
    async def put(
        name: ChannelName,
        posted: ChannelIn,
        response: Response,
        dry_run: Annotated[bool, Query(description="Check only; store nothing.")] = False,
    ) -> ChannelOut:
        """Store a channel as a whole."""
        require(
            posted.channel.name == name,
            "channel.name",
            posted.channel.name,
            f"must be {name}, as in the path",
        )
        stored, new = await service.in_thread(
            lambda: _store(service, name, lambda _: posted.channel, posted.confirm_cost, dry_run, "channel.")
        )
        response.status_code = 201 if new else 200
        return stored

    @router.patch("/{name}", openapi_extra=CHANNEL_CHANGES)
    async def change(
        name: ChannelName,
        posted: ChannelChange,
        dry_run: Annotated[bool, Query(description="Check only; store nothing.")] = False,
    ) -> ChannelOut:
        """Change a channel's cost or capacity, or switch it on or off; decisions follow within two seconds."""

        def change(before: Channel | None) -> Channel:
            if before is None:
                raise NotFoundError("name", name)
            return posted.of(before)

        return (
            await service.in_thread(lambda: _store(service, name, change, posted.confirm_cost, dry_run, ""))
        )[0]

    return router


def _store(
    service: Service,
    name: str,
    change: Callable[[Channel | None], Channel],
    confirmed: bool,
    dry_run: bool,
    prefix: str,
) -> tuple[ChannelOut, bool]:
    """Change a channel in one transaction, so that of two changes at the same time none is lost."""
    with reaching_the_store(), service.engine.begin() as conn:
        lock_channel(conn, name)
        before = load_channels(conn).get(name)
        channel = change(before)
        present = None if before is None else before.cost_minor
        answer = _checked(service, conn, channel, confirmed, prefix, present)
        if not dry_run and channel != before:
            save_channel(conn, channel, service.clock())
    if not dry_run:
        service.snapshots.reload_campaigns()
    return answer, before is None and not dry_run


def _checked(
    service: Service,
    conn: Connection,
    channel: Channel,
    confirmed: bool,
    prefix: str = "",
    present_minor: float | None = None,
) -> ChannelOut:
    unstorable = unstorable_in(channel, prefix)
    if unstorable:
        raise InvalidInputsError(unstorable)
    currency = service.currency
    findings = check_channel(
        channel,
        list_campaigns(conn),
        list_price_minor=_LIST_PRICES.get(channel.name) if currency.code == _LIST_CURRENCY else None,
        present_minor=present_minor,
        minor_per_major=currency.minor_per_major,
    )
    wrong = [each.as_error(prefix) for each in findings if each.severity is Severity.ERROR and not confirmed]
    if wrong:
        raise InvalidInputsError(wrong)
    return ChannelOut(channel=channel, warnings=[FindingOut.of(each, prefix) for each in findings])


def _known(channels: dict[str, Channel], name: str) -> Channel:
    if name not in channels:
        raise NotFoundError("name", name)
    return channels[name]
