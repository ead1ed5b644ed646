"""What a company with a simulated market would have in its books: people, behaviour, and randomised contact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from features.history.append import CustomerRecord
from models.domain.campaign import Campaign
from models.domain.customer import Consent, Identity
from models.domain.interaction import Interaction
from training.simulator.market import Market
from training.simulator.randomised import RandomisedLog, randomised_log

_PRIOR_DAYS = 60
_WARM_UP_DAYS = 28
# The attribution window of the last decisions has closed by then.
_SETTLING_DAYS = 8
_DECISIONS_PER_CUSTOMER = 3
_NO_CONTACT_SHARE = 0.2
_OPEN_DAYS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHistory:
    """Two months of behaviour, four weeks in which contact was drawn at random, and a week until all is known.

    Attributes:
        begins_at: When it begins.
        campaign: The one that contacted at random; still open.
        customers: Everybody.
        identities: Their accounts.
        consents: Their permissions.
        behaviour: Facts of the time before the campaign.
        log: Its decisions and what followed; some of that falls after the end.
        afterwards: Behaviour of the last week.
    """

    begins_at: datetime
    campaign: Campaign
    customers: list[CustomerRecord]
    identities: list[Identity]
    consents: list[Consent]
    behaviour: list[Interaction]
    log: RandomisedLog
    afterwards: list[Interaction]

    @property
    def interactions(self) -> list[Interaction]:
        """Every fact."""
        return [*self.behaviour, *self.log.interactions, *self.afterwards]


def simulate_history(
    market: Market,
    ends_at: datetime,
    rng: np.random.Generator,
    progress: Callable[[str], None] | None = None,
) -> SimulatedHistory:
    """Play a fresh market up to a moment.

    Args:
        market: Moved on to `ends_at`.
        ends_at: Aware.
        rng: Source of chance.
        progress: Told in words what is being done.
    """
    say = progress or (lambda _words: None)
    settling_at = ends_at - timedelta(days=_SETTLING_DAYS)
    warm_up_at = settling_at - timedelta(days=_WARM_UP_DAYS)
    begins_at = warm_up_at - timedelta(days=_PRIOR_DAYS)
    say("customers, accounts and consents")
    campaign = market.campaign(warm_up_at, days=_OPEN_DAYS)
    customers, identities = market.customers(begins_at), market.identities(begins_at)
    consents = market.consents(begins_at)
    say("behaviour before the campaign")
    behaviour = market.prior_history(begins_at, _PRIOR_DAYS)
    say("a campaign that contacts at random")
    log = randomised_log(
        market,
        campaign,
        warm_up_at,
        days=_WARM_UP_DAYS,
        decisions_per_day=max(1, market.n_customers * _DECISIONS_PER_CUSTOMER // _WARM_UP_DAYS),
        no_contact_share=_NO_CONTACT_SHARE,
        rng=rng,
    )
    afterwards = market.everyday(settling_at, _SETTLING_DAYS)
    market.advance(_SETTLING_DAYS)
    return SimulatedHistory(
        begins_at=begins_at,
        campaign=campaign,
        customers=customers,
        identities=identities,
        consents=consents,
        behaviour=behaviour,
        log=log,
        afterwards=afterwards,
    )
