"""The bandit learns while it serves: one process hears what was opened and publishes the next state.

Servers load the champion and never learn themselves. A step takes the decisions between the champion's watermark and a
horizon by which opens are in, lets the gate judge and the experts learn each of them once, and puts the result in the
champion's place: the same response model, the next bandit, the next watermark, as one bundle. So a step that dies has
changed nothing, and a step that is run again finds nothing to do. Whom to believe is the gate's business: an expert
that speaks falsely loses its weight by the step in which it does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from features.history.channels import load_channels
from features.history.engine import read_only
from features.history.rewards import settle_in_parts
from features.registry import ModelRegistry
from features.workspace import FeatureWorkspace
from models.bundle import Bundle
from models.domain.errors import NotFoundError
from models.policy.bandit import Bandit
from models.policy.events import response_events
from training.datasets import in_order, logged_decisions
from training.opened import OpenedBundle, open_bundle
from training.threads import one_thread

# A slot comes round within a day, and nearly all who open at all do so within another.
HEARD_AFTER = timedelta(days=2)
# One watermark a campaign: they share the champion.
_LEARNED_UNTIL = "bandit.learned_until."


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did.

    Attributes:
        n_events: Contacts learned from.
        learned_until: Decisions up to then have been learned from.
        version: The new champion's number; None where nothing was learned.
        belief: Share of the gate's belief that the response model has over all channels, in [0, 1].
    """

    n_events: int
    learned_until: datetime
    version: int | None
    belief: float


def learned_until(bundle: Bundle, campaign_id: str) -> datetime:
    """The bundle's watermark; of one that was never learned on, when it was made."""
    seconds = bundle.metrics.get(_LEARNED_UNTIL + campaign_id)
    return bundle.created_at if seconds is None else datetime.fromtimestamp(seconds, UTC)


@one_thread()
def learn_step(
    engine: Engine,
    workspace: FeatureWorkspace,
    registry: ModelRegistry,
    campaign_id: str,
    now: datetime,
    heard_after: timedelta = HEARD_AFTER,
) -> Step:
    """Learn from what has come in, and put the result in the champion's place.

    Machine-made opens do not count, messages that reached nobody are not there, and a channel that reports neither
    opens nor clicks teaches nothing.

    Args:
        engine: The history.
        workspace: Its features.
        registry: Where the champion is; the caller is the only learner (`features.history.sole.sole_holder`).
        campaign_id: Whose decisions.
        now: Aware; later facts are ignored.
        heard_after: How old a decision must be for silence to mean "not opened".

    Raises:
        NotFoundError: there is no champion, it has no bandit, or there is no such campaign.
        ConflictError: another champion was promoted meanwhile; the step is to be run again.
    """
    number = registry.champion_version()
    if number is None:
        raise NotFoundError("model", "champion")
    bundle = registry.load(number)
    opened = open_bundle(bundle)
    since, until = learned_until(bundle, campaign_id), now - heard_after
    if opened.bandit is None:
        raise NotFoundError("bandit of the champion", str(number))
    nothing = Step(n_events=0, learned_until=since, version=None, belief=float(opened.bandit.gate.overall[0]))
    if until <= since:
        return nothing
    settle_in_parts(engine, now, campaign_id)
    learned = _learned(engine, workspace, campaign_id, opened, since, until)
    if learned is None:
        return nothing
    bandit, n_events = learned
    following = replace(
        bundle,
        bandit=bandit.to_files(),
        metrics={**bundle.metrics, _LEARNED_UNTIL + campaign_id: until.timestamp()},
    )
    version = registry.publish(
        following,
        {"campaign_id": campaign_id, "continues": str(number), "learned_until": until.isoformat()},
        {"bandit.events": n_events},
        registry.report(number),
        challenger=False,
    )
    registry.advance(number, version)
    return Step(n_events=n_events, learned_until=until, version=version, belief=float(bandit.gate.overall[0]))


def _learned(
    engine: Engine,
    workspace: FeatureWorkspace,
    campaign_id: str,
    opened: OpenedBundle,
    since: datetime,
    until: datetime,
) -> tuple[Bandit, int] | None:
    """The next bandit and the number of contacts that it learned from; None where there were none."""
    assert opened.bandit is not None
    try:
        rows = logged_decisions(engine, workspace, campaign_id, until, since=since, only_final=False).rows
    except NotFoundError:
        return None
    names = opened.response.feature_names
    rows = replace(
        rows, features=in_order(rows.features, rows.feature_names, names), feature_names=tuple(names)
    )
    with read_only(engine).connect() as conn:
        channels = load_channels(conn)
    p_open = opened.response.predict(rows.features, rows.grid, channels).p_open
    events = response_events(rows, p_open, opened.bandit.segments, channels)
    return (opened.bandit.learn(events), len(events)) if len(events) else None
