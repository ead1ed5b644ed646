"""The choice for requests that wait together: gathered by what they have alike, chosen, and made decisions.

What a campaign, a model or features lack makes the choice simpler, and is named in `degraded`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np

from models.choice import FloatArray, Policy
from models.choose import Choices, choose
from models.domain.campaign import LEARNED, Campaign, PolicyName
from models.domain.channel import Channel
from models.domain.customer import Customer
from models.domain.decision import Decision, Shadow
from models.domain.eligibility import NO_LIMITS, Limits, outline_of
from models.domain.errors import CampaignExpiredError, InvalidInputError, NextchannelError
from serving.answer import Setting, to_decision
from serving.arbitrate import combine, hold_contest, ids_of
from serving.followups.conversation import FollowUpStep
from serving.money import Currency
from serving.pacing.ask import Option, options_of
from serving.pacing.pacing import Pacing
from serving.reading import NO_FEATURES, Degraded, Reading, in_order
from serving.request import DecisionRequest
from serving.shadow import shadows
from serving.snapshot import Model, Snapshot
from serving.store.ledger import Ledger
from serving.store.resources import Claim, exploring_claim, message_days

logger = logging.getLogger(__name__)

Answer = Decision | NextchannelError


@dataclass(slots=True, eq=False)
class Case:
    """One request on its way to an answer.

    Attributes:
        customer_id: Whom it turned out to mean.
        reading: Features of several customers, this one's in row `row`.
        ends_at: When its caller has waited long enough, monotonic seconds; None where the caller has not said.
        error: Why it cannot be decided, as far as that shows before the transaction.
        answer: None until it is settled.
        chosen_again: Whether a first choice was refused.
        wanted: What the optimiser chose first, where that was refused.
    """

    request: DecisionRequest
    now: datetime
    ends_at: float | None = None
    customer_id: str = ""
    decision_id: str = ""
    reading: Reading = NO_FEATURES
    row: int = 0
    error: NextchannelError | None = None
    answer: Answer | None = None
    chosen_again: bool = False
    wanted: Shadow | None = None


_NO_PRICES: Mapping[str, Mapping[str, float]] = {}


class Chosen(NamedTuple):
    """The decision that is answered, those of the other campaigns that were asked, what they explore, and at what shadow prices."""

    decision: Decision
    beside: tuple[Decision, ...] = ()
    exploring: tuple[Claim, ...] = ()
    shadow_prices: Mapping[str, Mapping[str, float]] = _NO_PRICES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What one campaign chose for several customers."""

    setting: Setting
    choices: Choices
    shadows: Mapping[int, Shadow]
    shadow_prices: Mapping[str, float]
    shadow_price_minor: FloatArray | float


class Chooser:
    """Chooses inside the transaction that will record the choice.

    Args:
        currency: How explanations write money.
        pacing: Shadow prices for requests that do not bring their own; None where none are asked for.
    """

    def __init__(self, currency: Currency, pacing: Pacing | None = None) -> None:
        self._currency = currency
        self._pacing = pacing

    def choose(
        self, cases: Sequence[Case], ledger: Ledger, snapshot: Snapshot, now: datetime
    ) -> dict[Case, Chosen]:
        """A decision for every case; a case whose campaigns have closed gets its error."""
        alike: dict[tuple[object, ...], list[Case]] = {}
        for case in cases:
            reading, row = case.reading, case.row
            known = bool(reading.missing[row]), bool(reading.stale[row])
            request = case.request
            person = ledger.person(case.customer_id)
            days = tuple(
                [
                    _capacity_days(campaign, snapshot.priced(campaign), person, now, request.step)
                    for campaign in map(snapshot.campaign, request.campaign_ids)
                ]
            )
            key = (
                request.campaign_ids,
                id(reading),
                known,
                _scope(request.step),
                request.shadow_prices,
                days,
            )
            alike.setdefault(key, []).append(case)
        decided: dict[Case, Chosen] = {}
        for together in alike.values():
            try:
                chosen = self._choose_alike(together, ledger, snapshot, now)
            except InvalidInputError as exc:
                for case in together:
                    case.answer = exc
                continue
            decided |= zip(together, chosen, strict=True)
        return decided

    def _choose_alike(
        self, cases: Sequence[Case], ledger: Ledger, snapshot: Snapshot, now: datetime
    ) -> list[Chosen]:
        """Choose for cases that ask the same campaigns and whose features are all there, all stale or all missing."""
        reading, row = cases[0].reading, cases[0].row
        # A model that looks at nothing, as the prior of day one, does without features.
        blind = snapshot.model is not None and not snapshot.model.response.feature_names
        missing = bool(reading.missing[row]) and not blind
        model = None if missing else snapshot.model
        degraded = _degraded(reading.trouble, missing, bool(reading.stale[row]), snapshot.model)
        try:
            return self._choose_with(model, degraded, cases, ledger, snapshot, now)
        except NextchannelError:
            raise
        except Exception:  # whatever a damaged model may raise costs its predictions, never the decision
            if model is None:
                raise
            logger.exception("model %s fails; rules decide", model.version)
            return self._choose_with(None, (*degraded, Degraded.MODEL_FAILED), cases, ledger, snapshot, now)

    def _choose_with(
        self,
        model: Model | None,
        degraded: tuple[Degraded, ...],
        cases: Sequence[Case],
        ledger: Ledger,
        snapshot: Snapshot,
        now: datetime,
    ) -> list[Chosen]:
        """Choose with this model, or by rules without one."""
        campaigns = [snapshot.campaign(name) for name in cases[0].request.campaign_ids]
        reading = cases[0].reading
        names = reading.names if model is None else model.response.feature_names
        features: FloatArray = in_order(reading, names)[[case.row for case in cases]]
        people = [ledger.person(case.customer_id) for case in cases]
        turns: list[_Turn] = []
        closed: list[CampaignExpiredError] = []
        for campaign in campaigns:
            try:
                turns.append(
                    self._choose_for(campaign, cases, people, features, names, model, ledger, snapshot, now)
                )
            except CampaignExpiredError as exc:
                closed.append(exc)
        if not turns:
            raise closed[0]
        self._tell_pacing(cases, turns, people, now)

        def decision_of_row(turn: _Turn, choices: Choices, row: int, decision_id: str) -> Decision:
            case = cases[row]
            decision = to_decision(
                choices,
                row,
                turn.setting,
                decision_id=decision_id,
                customer=people[row],
                features=features[row],
                degraded=_and_then(degraded, case, turn.choices, row),
                dry_run=case.request.dry_run,
                parent_id=None if case.request.step is None else case.request.step.parent_id,
            )
            shadow = case.wanted or turn.shadows.get(row)
            return decision if shadow is None else replace(decision, shadow=shadow)

        prices = {
            turn.setting.campaign.campaign_id: turn.shadow_prices for turn in turns if turn.shadow_prices
        }
        if len(campaigns) == 1:
            (turn,) = turns
            return [
                Chosen(
                    decision_of_row(turn, turn.choices, row, case.decision_id),
                    exploring=_explored([turn], row),
                    shadow_prices=prices,
                )
                for row, case in enumerate(cases)
            ]
        contest = hold_contest(
            [turn.setting for turn in turns],
            [turn.choices for turn in turns],
            [case.decision_id for case in cases],
        )
        left_out = tuple(str(exc.value) for exc in closed)
        chosen = []
        for row, case in enumerate(cases):
            decisions = [
                decision_of_row(turn, choices, row, decision_id)
                for turn, choices, decision_id in zip(
                    turns, contest.choices, ids_of(contest, row, case.decision_id), strict=True
                )
            ]
            chosen.append(Chosen(*combine(contest, row, decisions, left_out), _explored(turns, row), prices))
        return chosen

    def _choose_for(
        self,
        campaign: Campaign,
        cases: Sequence[Case],
        people: Sequence[Customer],
        features: FloatArray,
        names: Sequence[str],
        model: Model | None,
        ledger: Ledger,
        snapshot: Snapshot,
        now: datetime,
    ) -> _Turn:
        """What one campaign would do by itself."""
        response = None if model is None else model.response
        policies = usable_policies(campaign, snapshot.policies[campaign.campaign_id], model)
        decision_ids = [case.decision_id for case in cases]
        channels = snapshot.priced(campaign)
        step = cases[0].request.step
        days = _capacity_days(campaign, channels, people[0], now, step)
        limits = narrowed(ledger.limits(campaign, channels, days), step)
        shadow_prices = self._prices(campaign, cases[0].request)
        prices = _laid_out(shadow_prices, campaign.grid.channels)
        choices = choose(
            campaign, channels, people, features, response, policies, decision_ids, now, limits, prices
        )
        setting = Setting(
            campaign=campaign,
            channels=channels,
            model_version=None if model is None else model.version,
            feature_names=names,
            currency=self._currency,
            now=now,
        )
        return _Turn(
            setting=setting,
            choices=choices,
            shadows=shadows(
                choices,
                setting,
                snapshot.live(campaign),
                people,
                features,
                response,
                policies,
                decision_ids,
                now,
                limits,
                prices,
            ),
            shadow_prices=shadow_prices,
            shadow_price_minor=prices,
        )

    def _prices(self, campaign: Campaign, request: DecisionRequest) -> Mapping[str, float]:
        """What one message takes of what is scarce, by channel."""
        if request.shadow_prices is not None:
            return dict(request.shadow_prices)
        return {} if self._pacing is None else self._pacing.prices_of(campaign.campaign_id)

    def _tell_pacing(
        self, cases: Sequence[Case], turns: Sequence[_Turn], people: Sequence[Customer], now: datetime
    ) -> None:
        """These came by themselves: others like them will."""
        if self._pacing is None or cases[0].request.shadow_prices is not None:
            return

        def options(row: int) -> tuple[Option, ...]:
            limits = narrowed(NO_LIMITS, cases[row].request.step)
            return tuple(
                option
                for turn in turns
                for option in options_of(
                    turn.choices, row, turn.setting, people[row], limits, turn.shadow_price_minor
                )
            )

        rows = [row for row, case in enumerate(cases) if not case.request.dry_run and not case.chosen_again]
        self._pacing.asked(now, [turn.setting.campaign.campaign_id for turn in turns], rows, options)


def _explored(turns: Sequence[_Turn], row: int) -> tuple[Claim, ...]:
    """What one customer's decision takes of every campaign's allowance for exploring."""
    claimed = [
        exploring_claim(turn.setting.campaign, turn.setting.now, float(turn.choices.explored.loss_minor[row]))
        for turn in turns
        if turn.choices.explored is not None
    ]
    return tuple([claim for claim in claimed if claim is not None]) if claimed else ()


def _capacity_days(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    person: Customer,
    now: datetime,
    step: FollowUpStep | None,
) -> tuple[date, ...]:
    """The UTC days that a message to that person can fall on, where a channel has a capacity: whether others are full says nothing."""
    named = [channels[name] for name in campaign.channels]
    if all(one.capacity_per_day is None for one in named):
        return ()
    outline = outline_of(campaign, named)
    slots = outline.slots_in(person.time_zone, now, narrowed(NO_LIMITS, step))
    days = {
        moment.astimezone(UTC).date()
        for moment, reason in zip(slots.send_at, slots.reasons, strict=True)
        if reason is None
    }
    return tuple(sorted(days)) or tuple(message_days(now))


def narrowed(limits: Limits, step: FollowUpStep | None) -> Limits:
    """The limits as a follow-up has them: without what its conversation used, at once where it answers."""
    if step is None:
        return limits
    return replace(
        limits,
        channels_used=step.channels_used,
        offers=frozenset(step.offers) if step.offers else None,
        at_once=step.at_once,
    )


def _laid_out(prices: Mapping[str, float], channels: Sequence[str]) -> FloatArray | float:
    """Shadow prices in the order of the grid's channels, shape (C,)."""
    return np.array([prices.get(name, 0.0) for name in channels]) if prices else 0.0


def _scope(step: FollowUpStep | None) -> tuple[object, ...]:
    """Follow-ups that are narrowed alike are chosen for together."""
    return () if step is None else (step.channels_used, step.offers, step.at_once)


def usable_policies(
    campaign: Campaign, policies: Mapping[PolicyName, Policy], model: Model | None
) -> dict[PolicyName, Policy]:
    """The campaign's policies, each replaced by the next simpler one where it lacks what it needs.

    A learned policy without a model becomes the control policy (`cheapest_first` where that is learned too);
    the bandit without a trained state becomes `greedy`.
    """
    rule = PolicyName.CHEAPEST_FIRST if campaign.control_policy in LEARNED else campaign.control_policy
    usable = {}
    for name in {campaign.policy, campaign.control_policy}:
        stand_in = name
        if name in LEARNED and model is None:
            stand_in = rule
        elif name is PolicyName.BANDIT and model is not None and model.bandit is None:
            stand_in = PolicyName.GREEDY
        usable[name] = policies[stand_in]
    return usable


def _and_then(degraded: tuple[Degraded, ...], case: Case, choices: Choices, row: int) -> tuple[Degraded, ...]:
    """The same with what ran out for this customer."""
    if choices.explored is not None and choices.explored.spent[row]:
        degraded = (*degraded, Degraded.EXPLORATION_SPENT)
    return (*degraded, Degraded.LIMITS_CHANGED) if case.chosen_again else degraded


def _degraded(
    trouble: Degraded | None, missing: bool, stale: bool, model: Model | None
) -> tuple[Degraded, ...]:
    found = []
    if trouble is not None:
        found.append(trouble)
    elif missing:
        found.append(Degraded.FEATURES_MISSING)
    elif stale:
        found.append(Degraded.FEATURES_STALE)
    if model is None:
        found.append(Degraded.MODEL_MISSING)
    elif model.bandit is None:
        found.append(Degraded.BANDIT_MISSING)
    return tuple(found)
