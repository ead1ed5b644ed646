"""Decisions of several campaigns for the same customers: each has its own, and at most one makes a contact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

import numpy as np

from models.arbitration import Arbitrated, Proposal, arbitrate
from models.choice import FloatArray
from models.choose import Choices
from models.domain.decision import Arbitration, Bid, Decision
from models.domain.experiment import uniform
from serving.answer import Setting, action_of, version_of
from serving.explain.summary import chosen_among, outbid


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What several campaigns chose for n customers, and who may contact whom.

    Attributes:
        settings: One a campaign.
        choices: One a campaign: final choices, in which those who lost make no contact.
        proposed: One a campaign: what its policy proposed from, shape (n, A_k).
        arbitrated: The outcome.
    """

    settings: Sequence[Setting]
    choices: Sequence[Choices]
    proposed: Sequence[FloatArray]
    arbitrated: Arbitrated


def hold_contest(
    settings: Sequence[Setting], choices: Sequence[Choices], decision_ids: Sequence[str]
) -> Contest:
    """Let campaigns compete.

    Args:
        settings: One a campaign, in the order in which they were asked.
        choices: What each campaign would do by itself, for the same n customers.
        decision_ids: One a customer; seeds the draw.
    """
    draws = np.array([uniform("action", decision_id) for decision_id in decision_ids])
    outcome = arbitrate([Proposal(one.probabilities, one.net_value_minor) for one in choices], draws)
    final = []
    rows = np.arange(len(decision_ids))
    for k, one in enumerate(choices):
        action = np.where(outcome.winner == k, outcome.action, one.grid.no_contact)
        final.append(
            replace(
                one,
                action=action,
                probabilities=outcome.probabilities[k],
                propensity=outcome.probabilities[k][rows, action],
            )
        )
    return Contest(
        settings=settings,
        choices=final,
        proposed=[one.probabilities for one in choices],
        arbitrated=outcome,
    )


def ids_of(contest: Contest, row: int, decision_id: str) -> list[str]:
    """The id of each campaign's decision: the answer's own for the winner, or the first where there is none."""
    answered = max(int(contest.arbitrated.winner[row]), 0)
    return [
        decision_id if k == answered else str(uuid5(UUID(decision_id), setting.campaign.campaign_id))
        for k, setting in enumerate(contest.settings)
    ]


def combine(
    contest: Contest, row: int, decisions: Sequence[Decision], left_out: tuple[str, ...]
) -> tuple[Decision, tuple[Decision, ...]]:
    """The decision that is answered, and those of the other campaigns.

    Args:
        contest: Of the call.
        row: Which customer of it.
        decisions: One a campaign, with the ids of `ids_of`.
        left_out: Campaigns that were asked for and could not take part.
    """
    outcome = contest.arbitrated
    winner = int(outcome.winner[row])
    answered = max(winner, 0)
    bids = tuple(_bid(contest, k, row, decision, won=k == winner) for k, decision in enumerate(decisions))
    arbitration = Arbitration(
        propensity=float(outcome.propensity[row]),
        p_silence=float(outcome.p_silence[row]),
        bids=bids,
        left_out=left_out,
    )
    main = replace(decisions[answered], arbitration=arbitration)
    lost_to = None
    if winner >= 0:
        lost_to = main.campaign_id
        if len(decisions) > 1:
            main = replace(main, explanation=main.explanation + chosen_among(len(decisions)))
    others = tuple(
        replace(
            decision,
            decided_with=main.decision_id,
            lost_to=lost_to,
            explanation=decision.explanation if lost_to is None else outbid(lost_to),
        )
        for k, decision in enumerate(decisions)
        if k != answered
    )
    return main, others


def _bid(contest: Contest, k: int, row: int, decision: Decision, *, won: bool) -> Bid:
    choices, setting = contest.choices[k], contest.settings[k]
    final, proposed = choices.probabilities[row, :-1], contest.proposed[k][row, :-1]
    drawn = np.flatnonzero(final)
    possible = np.flatnonzero(proposed)
    best = value = None
    if len(possible):
        rank = proposed if choices.net_value_minor is None else choices.net_value_minor[row, :-1]
        index = int(possible[np.argmax(rank[possible])])
        best = action_of(choices, row, index, setting.campaign)
        value = None if choices.net_value_minor is None else float(choices.net_value_minor[row, index])
    name, version = version_of(choices.policies[row], setting.model_version)
    return Bid(
        campaign_id=setting.campaign.campaign_id,
        campaign_version=setting.campaign.version,
        decision_id=decision.decision_id,
        arm=choices.arms[row],
        policy=name,
        policy_version=version,
        action=best,
        net_value_minor=value,
        p_wins=float(final.sum()),
        distribution=dict(zip(drawn.tolist(), final[drawn].tolist(), strict=True)),
        won=won,
    )
