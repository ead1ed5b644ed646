"""What a caller asks: for whom, and for which campaigns."""

from __future__ import annotations

from dataclasses import dataclass

from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError
from serving.followups.conversation import FollowUpStep
from serving.store.idempotency import IdempotencyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRef:
    """A customer named by one of their contact points."""

    kind: IdentityKind
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """Ask what to do for one customer.

    Attributes:
        campaign_id: For which campaign; or else `campaigns`.
        campaigns: For which of several campaigns, at most one of which makes a contact; at equal value the one that
            is named first.
        customer_id: Whom; or else `identity`.
        identity: Whom, by a contact point.
        dry_run: Decide, but record and send nothing.
        decision_id: The caller's own id: asking again gives the recorded decision.
        key: Of a request that may be repeated: it gives the decision of the first time.
        hold: The caller sends the message itself, and says what became of it.
        deadline_seconds: How long the caller can wait; None for as long as the service thinks right.
        step: The follow-up that asks, whose id is the decision's.
        shadow_prices: What one message takes of scarce resources beside its cost, minor units, by channel: a plan's; None
            for those of the moment.
    """

    campaign_id: str | None = None
    campaigns: tuple[str, ...] = ()
    customer_id: str | None = None
    identity: IdentityRef | None = None
    dry_run: bool = False
    decision_id: str | None = None
    key: IdempotencyKey | None = None
    hold: bool = False
    deadline_seconds: float | None = None
    step: FollowUpStep | None = None
    shadow_prices: tuple[tuple[str, float], ...] | None = None

    def __post_init__(self) -> None:
        if (self.campaign_id is None) == (not self.campaigns):
            raise InvalidInputError(
                "campaign_id", self.campaign_id, "must be given, or else campaigns, and not both"
            )
        if len(set(self.campaigns)) != len(self.campaigns):
            raise InvalidInputError("campaigns", list(self.campaigns), "must not repeat")
        if (self.customer_id is None) == (self.identity is None):
            raise InvalidInputError(
                "customer_id", self.customer_id, "must be given, or else identity, and not both"
            )

    @property
    def campaign_ids(self) -> tuple[str, ...]:
        """Every campaign that is asked, in order."""
        return self.campaigns if self.campaign_id is None else (self.campaign_id,)
