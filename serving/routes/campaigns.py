"""`/v1/campaigns`: what is offered to whom, in versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from features.history.campaigns import (
    campaign_versions,
    latest_campaigns,
    load_campaign,
    page_of_campaigns,
    save_campaign,
)
from features.history.channels import load_channels
from features.history.documents import CampaignDocument
from features.history.engine import read_only
from features.history.query import customer_attributes
from features.json_types import KEYS_ALIKE, Number
from models.domain.campaign import Campaign, Offer, content_for
from models.domain.channel import Channel, ContentKind
from models.domain.checks import Finding, check_campaign
from models.domain.errors import (
    ConflictError,
    InvalidInputError,
    InvalidInputsError,
    collecting,
    require,
)
from models.domain.price import message_cost
from serving.channels.rendering import text_with_link
from serving.content import ContentTooLongError, Person, personal
from serving.problems import shown
from serving.routes.examples import CAMPAIGNS, PROBLEMS
from serving.routes.fields import LongText, Name, ShortName
from serving.routes.paging import USUAL_PAGE, Cursor, Limit, from_cursor, page_of, to_cursor
from serving.service import Service
from serving.storable import check_storable
from serving.store.availability import reaching_the_store
from serving.templates import COUPON, REDEEM_LINK, check_templates

_PREFIX = "campaign."
# As long as a real one on a host of twenty characters; it leads nowhere.
_SAMPLE_LINK = "https://preview.example.org/t/c/" + "0" * 46
_SAMPLE_GIVEN = {COUPON: "2222-2222-2222", REDEEM_LINK: "https://preview.example.org/r/" + "0" * 48}
_LARGEST_VERSION = 2**31 - 1
# Writers that take the same version number at the same moment; more of them is a standstill.
_MOST_ATTEMPTS = 5

CampaignId = Annotated[Name, Path(description="Name of the campaign.")]


class CampaignIn(BaseModel):
    """A campaign to store; its `version` is given by the service."""

    model_config = ConfigDict(extra="forbid")

    campaign: Campaign
    expected_version: int | None = Field(
        default=None,
        ge=0,
        le=_LARGEST_VERSION,
        description="The version that you changed (0 for a new campaign): another latest one is a conflict.",
    )
    _found: list[InvalidInputError] = PrivateAttr(default_factory=list)

    @model_validator(mode="wrap")
    @classmethod
    def collect(cls, given: Any, handler: ModelWrapValidatorHandler[CampaignIn]) -> CampaignIn:
        """Note every bound that is broken instead of stopping at the first."""
        with collecting() as found:
            try:
                made = handler(given)
            except InvalidInputError as exc:
                raise InvalidInputsError([*_below_campaign(found), *_below_campaign([exc])]) from exc
            except ValidationError as exc:
                if not found:
                    raise
                wrong = [
                    InvalidInputError(".".join(map(str, one["loc"])), one["input"], one["msg"])
                    for one in exc.errors()
                ]
                raise InvalidInputsError([*wrong, *_below_campaign(found)]) from exc
        made._found = _below_campaign(found)
        return made

    @property
    def found(self) -> list[InvalidInputError]:
        """The bounds that single values break."""
        return self._found


class FindingOut(BaseModel):
    """Something that works but may surprise."""

    field: str
    value: str
    bound: str

    @classmethod
    def of(cls, finding: Finding, prefix: str = "") -> FindingOut:
        """From the domain."""
        return cls(field=f"{prefix}{finding.field}", value=shown(finding.value), bound=finding.bound)


class PreviewIn(BaseModel):
    """For whom to make the messages: a customer, or made-up attributes; by default somebody unknown."""

    model_config = ConfigDict(extra="forbid")

    customer_id: Name | None = None
    attributes: Annotated[dict[ShortName, LongText | Number], KEYS_ALIKE, Field(max_length=100)] = Field(
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
    cost_minor: float | None = Field(
        description="What it costs, minor units: of all its segments, where the channel charges by the segment."
    )
    fits: bool = Field(description="Whether the channel takes a body of that length.")


class PreviewsOut(BaseModel):
    """Every offer on every channel of the campaign that carries it."""

    previews: list[PreviewOut]


class CampaignOut(BaseModel):
    """A campaign as it is stored."""

    campaign: CampaignDocument
    warnings: list[FindingOut] = Field(default_factory=list, description="What works but may surprise.")


class CampaignsOut(BaseModel):
    """The latest version of campaigns, in order of id."""

    campaigns: list[CampaignDocument]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class CampaignVersionOut(BaseModel):
    """One version of a campaign."""

    campaign: CampaignDocument
    created_at: datetime


class CampaignVersionsOut(BaseModel):
    """Versions of a campaign, the newest first."""

    versions: list[CampaignVersionOut]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


_CHECKED: dict[int | str, dict[str, Any]] = {
    200: {"model": CampaignOut, "description": "Checked; nothing is stored."}
}

DryRun = Annotated[bool, Query(description="Check only; store nothing.")]


def campaign_routes(service: Service) -> APIRouter:
    """The endpoints of campaigns."""
    router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], responses=PROBLEMS)

    @router.get("")
    async def campaigns(limit: Limit = USUAL_PAGE, cursor: Cursor = None) -> CampaignsOut:
        """The latest version of every campaign, in order of id."""
        after = None if cursor is None else str(from_cursor(cursor, str)[0])

        def read() -> list[Campaign]:
            with reaching_the_store(), service.engine.connect() as conn:
                return page_of_campaigns(conn, after, limit + 1)

        page, following = page_of(
            await service.in_thread(read), limit, lambda campaign: to_cursor(campaign.campaign_id)
        )
        return CampaignsOut(campaigns=page, next_cursor=following)

    @router.post("", status_code=201, openapi_extra=CAMPAIGNS, responses=_CHECKED)
    async def store(posted: CampaignIn, response: Response, dry_run: DryRun = False) -> CampaignOut:
        """Store a campaign as its next version; the version in use stays for what it decided."""
        if dry_run:
            response.status_code = 200
        return await service.in_thread(lambda: _store(service, posted, dry_run)[0])

    @router.put("/{campaign_id}", openapi_extra=CAMPAIGNS, responses={201: {"model": CampaignOut}})
    async def put(
        campaign_id: CampaignId, posted: CampaignIn, response: Response, dry_run: DryRun = False
    ) -> CampaignOut:
        """Store a campaign under its id: as version 1, or as the next version where it says something new.

        Everything that is wrong with it is told at once; what works but may surprise comes back as `warnings`.
        """
        require(
            posted.campaign.campaign_id == campaign_id,
            "campaign.campaign_id",
            posted.campaign.campaign_id,
            f"must be {campaign_id}, as in the path",
        )
        stored, new = await service.in_thread(lambda: _store(service, posted, dry_run))
        response.status_code = 201 if new else 200
        return stored

    @router.get("/{campaign_id}")
    async def one(
        campaign_id: CampaignId,
        version: Annotated[
            int | None, Query(ge=1, le=_LARGEST_VERSION, description="Default: the latest.")
        ] = None,
    ) -> CampaignOut:
        """A campaign in one version, and what is remarkable about it now."""

        def read() -> CampaignOut:
            with reaching_the_store(), service.engine.connect() as conn:
                campaign = load_campaign(conn, campaign_id, version)
                found = _findings(service, conn, campaign)
            return CampaignOut(campaign=campaign, warnings=[FindingOut.of(each, _PREFIX) for each in found])

        return await service.in_thread(read)

    @router.post("/{campaign_id}/preview")
    async def preview(campaign_id: CampaignId, posted: PreviewIn) -> PreviewsOut:
        """What the messages of a campaign say, with tracked links and personal words; nothing is sent."""

        def read() -> PreviewsOut:
            with reaching_the_store(), read_only(service.engine).connect() as conn:
                campaign = load_campaign(conn, campaign_id)
                known = load_channels(conn)
                attributes = customer_attributes(conn, posted.customer_id) if posted.customer_id else {}
            check_templates(campaign)
            person = Person(posted.customer_id or "", {**attributes, **posted.attributes})
            previews = [
                _preview(campaign, known[name], offer, person)
                for offer in campaign.offers
                for name in campaign.channels
                if name in known
            ]
            return PreviewsOut(previews=[one for one in previews if one is not None])

        return await service.in_thread(read)

    @router.get("/{campaign_id}/versions")
    async def versions(
        campaign_id: CampaignId, limit: Limit = USUAL_PAGE, cursor: Cursor = None
    ) -> CampaignVersionsOut:
        """Every version of a campaign, the newest first: decisions name the one that they used."""
        before = None if cursor is None else int(from_cursor(cursor, int)[0])

        def read() -> list[CampaignVersionOut]:
            with reaching_the_store(), service.engine.connect() as conn:
                rows = campaign_versions(conn, campaign_id, before, limit + 1)
            return [CampaignVersionOut(campaign=campaign, created_at=at) for campaign, at in rows]

        page, following = page_of(
            await service.in_thread(read), limit, lambda each: to_cursor(each.campaign.version)
        )
        return CampaignVersionsOut(versions=page, next_cursor=following)

    return router


def _preview(campaign: Campaign, channel: Channel, offer: Offer, person: Person) -> PreviewOut | None:
    """The message of the content that the channel would carry; None where it carries none of the offer's."""
    chosen = content_for(offer, channel)
    if chosen is None:
        return None
    kind, content = chosen

    def link(number: int) -> str:
        return f"{_SAMPLE_LINK}{number:02}"

    fits = True
    try:
        made = personal(campaign, channel, offer.offer_id, kind, content, person, link, _SAMPLE_GIVEN)
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
        cost_minor=message_cost(channel, text_with_link(made)),
        fits=fits,
    )


def _store(service: Service, posted: CampaignIn, dry_run: bool) -> tuple[CampaignOut, bool]:
    """Check and store; whether the campaign is new."""
    now = service.clock()
    for _ in range(_MOST_ATTEMPTS):
        try:
            with reaching_the_store(), service.engine.begin() as conn:
                findings = check_storable(
                    posted.campaign,
                    load_channels(conn),
                    service.clock(),
                    service.currency,
                    prefix=_PREFIX,
                    broken=posted.found,
                )
                latest = latest_campaigns(conn, [posted.campaign.campaign_id])
                version = latest[0].version if latest else 0
                if posted.expected_version not in (None, version):
                    raise ConflictError(
                        f"campaign {posted.campaign.campaign_id} is at version {version}, "
                        f"not {posted.expected_version}: read it again and repeat your change"
                    )
                stored = posted.campaign if dry_run else save_campaign(conn, posted.campaign, now)
        except IntegrityError:
            continue  # somebody stored the same version number a moment ago
        if not dry_run:
            service.snapshots.reload_campaigns()
        warnings = [FindingOut.of(each, _PREFIX) for each in findings]
        return CampaignOut(campaign=stored, warnings=warnings), not latest and not dry_run
    raise ConflictError(f"campaign {posted.campaign.campaign_id} is being changed by others; try again")


def _findings(service: Service, conn: Connection, campaign: Campaign) -> tuple[Finding, ...]:
    units = service.currency.minor_per_major
    return check_campaign(campaign, load_channels(conn), service.clock(), minor_per_major=units)


def _below_campaign(found: list[InvalidInputError]) -> list[InvalidInputError]:
    return [InvalidInputError(f"{_PREFIX}{one.field}", one.value, one.bound) for one in found]
