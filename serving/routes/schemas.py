"""The decision as JSON: requests and answers of `/v1/decisions`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from models.domain.action import ReasonCode
from models.domain.campaign import Mode
from models.domain.channel import IdentityKind
from models.domain.customer import Consent, ConsentStatus
from models.domain.decision import Decision
from models.domain.experiment import Arm
from serving.problems import Problem
from serving.request import DecisionRequest, IdentityRef
from serving.routes.fields import LongText, Moment, Name, ShortName, either
from serving.store.idempotency import IdempotencyKey

LARGEST_BATCH = 1_000
LONGEST_DEADLINE_MS = 60_000
MOST_CAMPAIGNS = 20

_STRICT = ConfigDict(extra="forbid")
_OF_DOMAIN = ConfigDict(from_attributes=True)


class IdentityIn(BaseModel):
    """A customer, named by one of their contact points."""

    model_config = _STRICT

    kind: IdentityKind
    value: LongText


class SaidIn(BaseModel):
    """What a person said about a channel."""

    model_config = _STRICT

    channel: ShortName = Field(description="A configured channel, or `*` for every channel.")
    purpose: ShortName = "marketing"
    status: ConsentStatus
    since: Moment | None = Field(
        default=None,
        description="When they said it; default: now, or `created_at` of a person who is registered.",
    )

    def of(self, customer_id: str, source: str, otherwise: datetime) -> Consent:
        """In the words of the domain.

        Args:
            customer_id: Who said it.
            source: Which system tells.
            otherwise: When they said it where that is not given.
        """
        return Consent(
            customer_id=customer_id,
            channel=self.channel,
            purpose=self.purpose,
            status=self.status,
            since=self.since or otherwise,
            source=source,
        )


class DecisionIn(BaseModel):
    """Ask what to do for one customer: give `customer_id` or `identity`, and `campaign_id` or `campaigns`."""

    # What `DecisionRequest` refuses.
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"allOf": [either("customer_id", "identity"), either("campaign_id", "campaigns")]},
    )

    campaign_id: Name | None = None
    campaigns: Annotated[list[Name], Field(min_length=1, max_length=MOST_CAMPAIGNS)] | None = Field(
        default=None,
        json_schema_extra={"uniqueItems": True},
        description=(
            "Several campaigns: at most one of them makes a contact, the one whose message is worth most after the "
            "price of the customer's attention; at equal value the one that is named first."
        ),
    )
    customer_id: Name | None = None
    identity: IdentityIn | None = None
    dry_run: StrictBool = Field(default=False, description="Decide, but record and send nothing.")
    decision_id: UUID | None = Field(
        default=None, description="Your own id: asking again with it gives the recorded decision."
    )
    send: Literal["service", "caller"] = Field(
        default="service",
        description=(
            "Who sends. `caller`: the message is held for you; say `activate` once you have sent it, or `cancel`."
        ),
    )
    deadline_ms: Annotated[float, Field(gt=0, le=LONGEST_DEADLINE_MS)] | None = Field(
        default=None,
        description=(
            "How long you can wait for the answer: features that are not there by then are done without, and "
            "`degraded` says so. It shortens the service's own deadline; in a batch the shortest counts."
        ),
    )

    def to_request(
        self, key: IdempotencyKey | None = None, fallback_id: str | None = None
    ) -> DecisionRequest:
        """The same for the decider.

        Args:
            key: The idempotency key that came with it.
            fallback_id: The decision id to use where the caller gave none.
        """
        return DecisionRequest(
            campaign_id=self.campaign_id,
            campaigns=() if self.campaigns is None else tuple(self.campaigns),
            customer_id=self.customer_id,
            identity=None
            if self.identity is None
            else IdentityRef(kind=self.identity.kind, value=self.identity.value),
            dry_run=self.dry_run,
            decision_id=fallback_id if self.decision_id is None else str(self.decision_id),
            key=key,
            hold=self.send == "caller",
            deadline_seconds=None if self.deadline_ms is None else self.deadline_ms / 1000,
        )


class BatchIn(BaseModel):
    """Ask for many customers at once."""

    model_config = _STRICT

    requests: Annotated[list[DecisionIn], Field(min_length=1, max_length=LARGEST_BATCH)]


class ActionOut(BaseModel):
    """A contact to make."""

    model_config = _OF_DOMAIN

    offer: str
    channel: str
    slot: int = Field(description="Index into the campaign's slots.")
    send_at: datetime = Field(description="Not before, UTC.")
    expires_at: datetime = Field(description="Not after, UTC.")


class ExpectedOut(BaseModel):
    """What the action is expected to do; null where no model has said."""

    model_config = _OF_DOMAIN

    p_open: float | None
    p_convert: float | None
    p_convert_no_contact: float | None
    uplift: float | None
    cost_minor: float
    net_value_minor: float | None


class AlternativeOut(BaseModel):
    """Another candidate; `action` null is no contact."""

    model_config = _OF_DOMAIN

    action: ActionOut | None
    propensity: float
    expected: ExpectedOut


class ExclusionOut(BaseModel):
    """Why a part of the grid holds no candidate; null stands for "every one"."""

    model_config = _OF_DOMAIN

    reason: ReasonCode
    words: str
    offer: str | None
    channel: str | None
    slot: int | None


class ShadowOut(BaseModel):
    """What the optimiser would have done: where the campaign's mode kept it out, in the holdout, or where its choice had run out."""

    model_config = _OF_DOMAIN

    policy: str
    policy_version: str
    action: ActionOut | None
    propensity: float
    expected: ExpectedOut


class BidOut(BaseModel):
    """One campaign's part in a decision between several."""

    model_config = _OF_DOMAIN

    campaign_id: str
    campaign_version: int
    decision_id: str = Field(description="Of the campaign's own decision.")
    arm: Arm
    policy: str
    policy_version: str
    action: ActionOut | None = Field(description="Its contact worth most; null where it proposed none.")
    net_value_minor: float | None
    p_wins: float = Field(description="Probability that this campaign makes the contact.")
    won: bool


class ArbitrationOut(BaseModel):
    """How the campaigns compared."""

    model_config = _OF_DOMAIN

    propensity: float = Field(description="Of the outcome, among the candidates of all campaigns.")
    p_silence: float = Field(description="Probability that none of them makes a contact.")
    bids: list[BidOut] = Field(description="One a campaign, in the order in which they were asked.")
    left_out: list[str] = Field(description="Campaigns whose send window has closed.")


class DecisionOut(BaseModel):
    """The answer. `action` null means: leave this customer alone."""

    model_config = _OF_DOMAIN

    decision_id: str
    customer_id: str
    campaign_id: str
    campaign_version: int
    decided_at: datetime
    action: ActionOut | None
    propensity: float = Field(description="Probability with which the action was chosen, in (0, 1].")
    expected: ExpectedOut
    alternatives: list[AlternativeOut] = Field(description="Best slot of each offer and channel, best first.")
    exclusions: list[ExclusionOut]
    arm: Arm
    mode: Mode
    policy: str
    policy_version: str
    degraded: list[str] = Field(description="What was missing, so that a simpler policy decided.")
    explanation: str
    parent_id: str | None
    dry_run: bool
    shadow: ShadowOut | None = Field(
        description=(
            "What the optimiser would have done: where the campaign's mode kept it out, in the holdout, or where its first choice "
            "had just run out. Nothing of it is executed. Null where it decided, and in the control arm."
        )
    )
    arbitration: ArbitrationOut | None = Field(description="Where several campaigns were asked.")
    decided_with: str | None = Field(
        description="The decision that was answered, on that of another campaign that was asked with it."
    )
    lost_to: str | None = Field(description="On these, the campaign that makes the contact.")

    @classmethod
    def of(cls, decision: Decision) -> DecisionOut:
        """From the domain."""
        return cls.model_validate(decision)


class EvidenceOut(BaseModel):
    """What it takes to run the decision again and to learn from it."""

    model_config = _OF_DOMAIN

    features: dict[str, float | None]
    distribution: dict[int, float] = Field(description="Probability by action index, where above zero.")
    net_value_minor: dict[int, float] = Field(description="Expected net value by action index.")
    cost_minor: dict[str, float] = Field(description="Cost of a message by channel.")
    price_minor: dict[str, float] = Field(
        description="Cost, shadow price and attention price by channel; empty without predictions."
    )
    n_candidates: int | None = Field(description="How many candidates there were, no contact included.")
    time_zone: str | None = Field(description="The customer's, by which slots were placed.")


class OutcomeOut(BaseModel):
    """One customer's part of a batch: a decision or a problem."""

    decision: DecisionOut | None = None
    problem: Problem | None = None


class BatchOut(BaseModel):
    """An outcome a request, in the order of the requests."""

    outcomes: list[OutcomeOut]
