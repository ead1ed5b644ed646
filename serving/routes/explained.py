"""The explanation of a decision as JSON: what `GET /v1/decisions/{id}` adds."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from models.domain.action import ReasonCode
from models.domain.decision import Decision
from models.domain.interaction import InteractionKind
from models.explanation.flips import FlipKind
from serving.explain.catalogue import Absence, Language
from serving.explain.explanation import Explanation
from serving.explain.told import Told
from serving.occasions.cause import CauseKind
from serving.replay import Replay
from serving.routes.schemas import ActionOut, DecisionOut, EvidenceOut

_OF_DOMAIN = ConfigDict(from_attributes=True)


class PartOut(BaseModel):
    """One feature's share of a prediction."""

    model_config = _OF_DOMAIN

    feature: str
    value: float | None = Field(description="What it was; null where missing.")
    amount: float = Field(description="What it added, as a difference of probabilities.")


class PredictionOut(BaseModel):
    """A prediction as a sum: `base`, the parts and `adjustment` give `total`."""

    model_config = _OF_DOMAIN

    base: float = Field(description="For an average customer, same offer, channel and slot.")
    parts: list[PartOut] = Field(description="Of every feature that moved it, the largest first.")
    adjustment: float = Field(
        description=(
            "p_open: what the bandit has learned since the model was trained. uplift: what is cut off so that "
            "p_convert stays in [0, 1]."
        )
    )
    total: float


class ContributionsOut(BaseModel):
    """What moved the predictions of the chosen contact, or of the best one where none was chosen."""

    model_config = _OF_DOMAIN

    action: ActionOut
    p_open: PredictionOut
    uplift: PredictionOut


class FlipOut(BaseModel):
    """A change that makes another action the best, all else held. `winner` null is no contact."""

    model_config = _OF_DOMAIN

    kind: FlipKind
    winner: ActionOut | None
    offer: str | None = Field(description="Whose margin changes.")
    channel: str | None = Field(description="Whose cost changes, or which is opened.")
    threshold_minor: float | None = Field(description="Cost or margin beyond which the winner wins.")
    present_minor: float | None = Field(description="What it is now.")
    threshold_share: float | None = Field(description="Share of every margin below which the winner wins.")
    threshold_at: datetime | None = Field(description="Moment around which the winner wins, UTC.")
    without: list[ReasonCode] = Field(description="Reasons that would have to be gone.")
    gain_minor: float | None = Field(description="How much more an opened channel would be worth.")


class ScarceChannelOut(BaseModel):
    """A channel of which there was not enough for all."""

    model_config = _OF_DOMAIN

    channel: str
    shadow_price_minor: float = Field(description="What one message took of its value, beside its cost.")


class CauseOut(BaseModel):
    """The occurrence of an occasion that asked for the decision; what does not apply to its kind is null."""

    model_config = _OF_DOMAIN

    name: str = Field(description="Of the occasion.")
    kind: CauseKind
    occurrence: str | None = Field(
        description="Year of an anniversary, the date itself, or the number of a fact in the history (`entry_id`): "
        "that which set it off, or the friend's registration."
    )
    due_at: datetime | None
    attribute: str | None = Field(description="Of the customer, which held the date.")
    days: int | None = Field(description="After the date; before it where below zero.")
    fact: InteractionKind | None
    fact_at: datetime | None = Field(
        description="Of the fact, or when the friend bought or converted for the first time."
    )
    seconds: int | None = Field(description="How long after that.")
    friend_id: str | None = Field(description="Null also where the friend was erased.")


class MissingOut(BaseModel):
    """A part of the explanation that cannot be given; `openings` are the flips that would open a channel."""

    model_config = _OF_DOMAIN

    part: str
    reason: Absence
    version: str = Field(description="Of the model that is concerned, or empty.")


class ToldOut(BaseModel):
    """The explanation in sentences."""

    model_config = _OF_DOMAIN

    language: Language
    summary: str
    alternatives: list[str] = Field(description="Best first.")
    exclusions: list[str] = Field(description="One for each of `exclusions`, in their order.")
    contributions: list[str]
    flips: list[str] = Field(description="One for each of `flips`, in their order.")
    scarce: list[str] = Field(description="One for each of `scarce`, in their order.")
    missing: list[str]
    occasion: str | None


class ReplayOut(BaseModel):
    """The draw made again, from the distribution that was recorded."""

    model_config = _OF_DOMAIN

    draw: float = Field(description="The number in [0, 1) that the decision id gives.")
    propensity: float = Field(description="Probability of what it draws.")
    reproduced: bool = Field(description="Whether it draws what was decided, with the same propensity.")


class RecordedDecisionOut(DecisionOut):
    """A recorded decision with its evidence, and why it came out as it did."""

    evidence: EvidenceOut
    best: ActionOut | None = Field(
        description="The action of the highest value, which the flips turn; null is no contact."
    )
    contributions: ContributionsOut | None
    flips: list[FlipOut] | None
    scarce: list[ScarceChannelOut] = Field(
        description="Channels that were scarce; empty also where a rule decided."
    )
    missing: list[MissingOut]
    occasion: CauseOut | None = Field(
        description="Which occurrence of which occasion asked for it; null where none did."
    )
    told: ToldOut
    replay: ReplayOut | None = Field(description="Null where the decision was imported without evidence.")

    @classmethod
    def explained(
        cls, decision: Decision, explanation: Explanation, told: Told, replayed: Replay | None
    ) -> RecordedDecisionOut:
        """Put together what was recorded and what explains it."""
        return cls(
            **dict(DecisionOut.of(decision)),
            evidence=EvidenceOut.model_validate(decision.evidence),
            best=None if explanation.best is None else ActionOut.model_validate(explanation.best),
            contributions=(
                None
                if explanation.contributions is None
                else ContributionsOut.model_validate(explanation.contributions)
            ),
            flips=(
                None
                if explanation.flips is None
                else [FlipOut.model_validate(one) for one in explanation.flips]
            ),
            scarce=[ScarceChannelOut.model_validate(one) for one in explanation.scarce],
            missing=[MissingOut.model_validate(one) for one in explanation.missing],
            occasion=(
                None if explanation.occasion is None else CauseOut.model_validate(explanation.occasion)
            ),
            told=ToldOut.model_validate(told),
            replay=None if replayed is None else ReplayOut.model_validate(replayed),
        )
