"""A recorded decision drawn again: the same number, the same distribution, the same choice."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from features.history.campaigns import load_campaign
from features.history.decisions import load_decision
from models.arbitration import draw_again
from models.domain.action import Action, ActionGrid
from models.domain.decision import Decision
from models.domain.errors import NotFoundError
from models.domain.experiment import uniform
from serving.store.availability import reaching_the_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the draw gives when it is made again.

    Attributes:
        draw: The number in [0, 1) that the decision id gives.
        propensity: Probability of what it draws.
        reproduced: Whether it draws what was decided, with exactly the same propensity.
    """

    draw: float
    propensity: float
    reproduced: bool


def replay(engine: Engine, decision: Decision) -> Replay | None:
    """Draw again; None where the decision was imported without evidence or campaign.

    The decision of a campaign that was asked together with others is drawn with theirs.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    try:
        with reaching_the_store(), engine.connect() as conn:
            if decision.decided_with is not None:
                main = load_decision(conn, decision.decided_with)
                again = _of_several(conn, main)
                return again if _agree(main, decision) else None
            if decision.arbitration is not None:
                return _of_several(conn, decision)
            if not decision.evidence.distribution:
                return None
            return _of_one(decision, _grid(conn, decision))
    except NotFoundError:
        return None


def _of_one(decision: Decision, grid: ActionGrid) -> Replay:
    contacts = {i: p for i, p in decision.evidence.distribution.items() if i != grid.no_contact}
    p_silence = decision.evidence.distribution.get(grid.no_contact, 0.0)
    draw = uniform("action", decision.decision_id)
    _, index, propensity = draw_again([contacts], p_silence, draw)
    same = index == _index(grid, decision.action) and propensity == decision.propensity
    return Replay(draw=draw, propensity=propensity, reproduced=same)


def _of_several(conn: Connection, decision: Decision) -> Replay:
    contest = decision.arbitration
    assert contest is not None, "several campaigns were asked"
    draw = uniform("action", decision.decision_id)
    winner, index, propensity = draw_again(
        [bid.distribution for bid in contest.bids], contest.p_silence, draw
    )
    won = next((k for k, bid in enumerate(contest.bids) if bid.won), -1)
    same = (
        winner == won
        and index == _index(_grid(conn, decision), decision.action)
        and propensity == contest.propensity
    )
    return Replay(draw=draw, propensity=propensity, reproduced=same)


def _agree(main: Decision, other: Decision) -> bool:
    """Whether the other campaign's decision is among those that the main one names, and lost."""
    bids = () if main.arbitration is None else main.arbitration.bids
    return any(bid.decision_id == other.decision_id and not bid.won for bid in bids)


def _grid(conn: Connection, decision: Decision) -> ActionGrid:
    return load_campaign(conn, decision.campaign_id, decision.campaign_version).grid


def _index(grid: ActionGrid, action: Action | None) -> int:
    if action is None:
        return -1
    return grid.index(grid.offers.index(action.offer), grid.channels.index(action.channel), action.slot)
