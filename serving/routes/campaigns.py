"""`/v1/campaigns` and `/v1/channels`: what decisions are made of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from features.history.engine import read_only
from features.history.query import customer_attributes, save_campaign
from models.domain.campaign import Campaign, Offer, content_for
from models.domain.channel import Channel, ContentKind
from models.domain.errors import require
from serving.content import ContentTooLongError, Person, personal
from serving.routes.examples import PROBLEMS
from serving.routes.fields import Name, ShortName
from serving.service import Service
from serving.store.availability import reaching_the_store
from serving.templates import check_templates

# As long as a real one on a host of twenty characters; it leads nowhere.
_SAMPLE_LINK = "https://preview.example.org/t/c/" + "0" * 46


class CampaignIn(BaseModel):
    """A campaign to store; its `version` is given by the service."""

    model_config = ConfigDict(extra="forbid")

    campaign: Campaign


class PreviewIn(BaseModel):
    """For whom to make the messages: a customer, or made-up attributes; by default somebody unknown."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Name | None = None
    attributes: Annotated[dict[ShortName, str | FiniteFloat], Field(max_length=100)] = Field(
        default_factory=dict, description="Instead of, or over, the customer's own; `locale` is one of them."
    )


class PreviewOut(BaseModel):
    """One message as it would go out."""

    offer_id: str
    channel: str
    content_kind: ContentKind
    subject: str
    body: str
    link_url: str | None
    media_url: str | None
    length: int = Field(description="Characters of the body, tracked links included.")
    fits: bool = Field(description="Whether the channel takes a body of that length.")


class PreviewsOut(BaseModel):
    """Every offer on every channel of the campaign that carries it."""

    previews: list[PreviewOut]


class CampaignOut(BaseModel):
    """A campaign as it is stored."""

    campaign: Campaign


class CampaignsOut(BaseModel):
    """The latest version of every campaign."""

    campaigns: list[Campaign]


class ChannelsOut(BaseModel):
    """Every configured channel."""

    channels: list[Channel]


def campaign_routes(service: Service) -> APIRouter:
    """The endpoints of campaigns and channels."""
    router = APIRouter(prefix="/v1", responses=PROBLEMS)

    @router.get("/campaigns", tags=["campaigns"])
    async def campaigns() -> CampaignsOut:
        """The latest version of every campaign."""
        snapshot = await service.in_thread(lambda: service.snapshots.current)
        return CampaignsOut(campaigns=list(snapshot.campaigns.values()))

    @router.post("/campaigns", tags=["campaigns"], status_code=201)
    async def store(posted: CampaignIn) -> CampaignOut:
        """Store a campaign as its next version; the version in use stays for what it decided."""
        campaign, now = posted.campaign, service.clock()
        snapshot = await service.in_thread(lambda: service.snapshots.current)
        for name in campaign.channels:
            require(
                name in snapshot.channels,
                "campaign.channels",
                name,
                f"must be one of {', '.join(snapshot.channels)}",
            )
        check_templates(campaign)
        require(
            campaign.send_window.closes_at > now,
            "campaign.send_window.ends_at",
            campaign.send_window.ends_at.isoformat(),
            f"must be after now, {now.isoformat()}",
        )

        def write() -> Campaign:
            with reaching_the_store(), service.engine.begin() as conn:
                stored = save_campaign(conn, campaign, now)
            service.snapshots.reload()
            return stored

        return CampaignOut(campaign=await service.in_thread(write))

    @router.post("/campaigns/{campaign_id}/preview", tags=["campaigns"])
    async def preview(campaign_id: str, posted: PreviewIn) -> PreviewsOut:
        """What the messages of a campaign say, with tracked links and personal words; nothing is sent."""
        snapshot = await service.in_thread(lambda: service.snapshots.current)
        campaign = snapshot.campaign(campaign_id)
        check_templates(campaign)

        def read() -> Person:
            known: dict[str, float | str] = {}
            if posted.customer_id is not None:
                with reaching_the_store(), read_only(service.engine).connect() as conn:
                    known = customer_attributes(conn, posted.customer_id)
            return Person(posted.customer_id or "", {**known, **posted.attributes})

        person = await service.in_thread(read)
        return PreviewsOut(
            previews=[
                made
                for offer in campaign.offers
                for name in campaign.channels
                if (made := _preview(campaign, snapshot.channels[name], offer, person)) is not None
            ]
        )

    @router.get("/channels", tags=["channels"])
    async def channels() -> ChannelsOut:
        """Every channel: what it costs, carries and can report."""
        snapshot = await service.in_thread(lambda: service.snapshots.current)
        return ChannelsOut(channels=list(snapshot.channels.values()))

    return router


def _preview(campaign: Campaign, channel: Channel, offer: Offer, person: Person) -> PreviewOut | None:
    """The message of the content that the channel would carry; None where it carries none of the offer's."""
    chosen = content_for(offer, channel)
    if chosen is None:
        return None
    kind, content = chosen
    fits = True
    try:
        made = personal(
            campaign,
            channel,
            offer.offer_id,
            kind,
            content,
            person,
            lambda number: f"{_SAMPLE_LINK}{number:02}",
        )
    except ContentTooLongError as exc:
        made, fits = exc.content, False
    return PreviewOut(
        offer_id=offer.offer_id,
        channel=channel.name,
        content_kind=kind,
        subject=made.subject,
        body=made.body,
        link_url=made.link_url,
        media_url=made.media_url,
        length=len(made.body),
        fits=fits,
    )
