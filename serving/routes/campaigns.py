"""`/v1/campaigns` and `/v1/channels`: what decisions are made of."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from features.history.query import save_campaign
from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.errors import require
from serving.routes.examples import PROBLEMS
from serving.service import Service
from serving.store.availability import reaching_the_store


class CampaignIn(BaseModel):
    """A campaign to store; its `version` is given by the service."""

    model_config = ConfigDict(extra="forbid")

    campaign: Campaign


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

    @router.get("/channels", tags=["channels"])
    async def channels() -> ChannelsOut:
        """Every channel: what it costs, carries and can report."""
        snapshot = await service.in_thread(lambda: service.snapshots.current)
        return ChannelsOut(channels=list(snapshot.channels.values()))

    return router
