"""What answers are made of, gathered for many at once, is what looking at each customer alone gives."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from features.history.documents import to_json
from models.candidates import candidates
from models.choice import Predictions
from models.choose import Choices
from models.domain.action import Action, ReasonCode
from models.domain.campaign import QuietHours
from models.domain.channel import ContentKind
from models.domain.experiment import Arm
from serving.answer import Setting, action_of, expected_of, to_decision
from serving.layout import MOST_ALTERNATIVES
from serving.money import Currency
from serving.routes.replies import decision_reply
from tests.benchmarks.core import CAMPAIGN, CHANNELS, NOW, customer

N = 40
QUIET = replace(CAMPAIGN, quiet_hours=QuietHours(start=time(21), end=time(8)))
# A card goes out on one of the channels; text on all, on some inside a provider's window alone.
ONLY_CARDS, CARD_OR_TEXT = (
    replace(
        QUIET,
        offers=tuple(
            replace(QUIET.offers[0], offer_id=kind, content={kind: QUIET.offers[0].content[kind]})
            for kind in kinds
        ),
    )
    for kinds in ((ContentKind.CARD,), (ContentKind.CARD, ContentKind.TEXT))
)
UNSUPPORTED, WINDOW = ReasonCode.CONTENT_KIND_UNSUPPORTED, ReasonCode.PROVIDER_WINDOW


def choices_of(campaign, people, seed: int, *, predicted: bool) -> Choices:
    """Random choices among the candidates, with many equal values."""
    rng = np.random.default_rng(seed)
    verdicts = candidates(campaign, CHANNELS, people, NOW)
    mask, (n_offers, n_channels, n_slots), n = verdicts.mask, campaign.grid.shape, len(people)
    probabilities = np.where(mask, rng.integers(0, 4, mask.shape), 0).astype(np.float64)
    probabilities[:, -1] += 1.0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    action = np.array([rng.choice(np.flatnonzero(row)) for row in probabilities])
    values = np.where(mask, rng.integers(-3, 4, mask.shape), np.nan)
    predictions = Predictions(
        p_open=rng.random((n, n_channels, n_slots)),
        p_convert=rng.random((n, n_offers, n_channels, n_slots)),
        p_convert_no_contact=rng.random(n),
        attention_minor=rng.random((n, n_channels)),
    )
    return Choices(
        grid=campaign.grid,
        eligibility=verdicts,
        arms=(Arm.TREATMENT,) * n,
        policies=(None,) * n,
        action=action,
        propensity=probabilities[np.arange(n), action],
        probabilities=probabilities,
        mask=mask,
        net_value_minor=np.where(mask, values, -99.0) if predicted else None,
        p_open=predictions.p_open if predicted else None,
        predictions=predictions if predicted else None,
        price_minor=rng.random((n, n_channels)) if predicted else None,
    )


def best_others(choices: Choices, row: int, campaign) -> list[tuple[Action | None, float, int]]:
    """The best slot of each offer and channel beside the chosen action, and no contact: one after the other."""
    ranked_by = choices.probabilities if choices.net_value_minor is None else choices.net_value_minor
    found, seen = [], set()
    possible = np.flatnonzero(choices.mask[row])
    for index in sorted(possible.tolist(), key=lambda index: (-ranked_by[row, index], index)):
        pair = index // len(choices.grid.slots)
        if index != choices.action[row] and pair not in seen:
            seen.add(pair)
            found.append((action_of(choices, row, index, campaign), choices.probabilities[row, index], index))
    return found[:MOST_ALTERNATIVES]


@pytest.mark.parametrize(
    ("campaign", "excluded"),
    [
        (CAMPAIGN, {WINDOW}),
        (QUIET, {WINDOW}),
        (ONLY_CARDS, {UNSUPPORTED}),
        (CARD_OR_TEXT, {UNSUPPORTED, WINDOW}),
    ],
    ids=["plain", "quiet", "cards", "card or text"],
)
@pytest.mark.parametrize("predicted", [True, False])
@pytest.mark.parametrize(("seed", "n"), [(0, N), (1, N), (2, N), *((seed, 1) for seed in range(10, 30))])
def test_a_decision_shows_what_one_customer_alone_would_be_shown(campaign, excluded, predicted, seed, n):
    draw = random.Random(seed)
    people = [customer(f"c-{i}", draw) for i in range(n)]
    choices = choices_of(campaign, people, seed, predicted=predicted)
    setting = Setting(
        campaign=campaign,
        channels=CHANNELS,
        model_version="1",
        feature_names=("age", "visits"),
        currency=Currency(),
        now=NOW,
    )
    reasons = set()
    for row, person in enumerate(people):
        decision = to_decision(
            choices,
            row,
            setting,
            decision_id=f"d-{row}",
            customer=person,
            features=np.array([1.5, np.nan]),
            degraded=(),
            dry_run=False,
        )
        chosen = int(choices.action[row])
        assert decision.action == action_of(choices, row, chosen, campaign)
        assert decision.expected == expected_of(choices, row, chosen, setting)
        assert decision.exclusions == choices.eligibility[row].exclusions(campaign)
        assert [(one.action, one.propensity) for one in decision.alternatives] == [
            (action, propensity) for action, propensity, _ in best_others(choices, row, campaign)
        ]
        assert [one.expected for one in decision.alternatives] == [
            expected_of(choices, row, index, setting) for *_, index in best_others(choices, row, campaign)
        ]
        plain = replace(
            decision, alternatives=tuple(decision.alternatives), exclusions=tuple(decision.exclusions)
        )
        assert decision == plain
        assert to_json(decision) == to_json(plain)
        assert decision_reply(decision) == decision_reply(plain)
        evidence, possible = decision.evidence, np.flatnonzero(choices.mask[row]).tolist()
        assert evidence.features == {"age": 1.5, "visits": None}
        assert evidence.distribution == {
            index: p for index, p in enumerate(choices.probabilities[row].tolist()) if p > 0
        }
        assert evidence.n_candidates == len(possible)
        if predicted:
            assert evidence.net_value_minor == {i: choices.net_value_minor[row, i] for i in possible}
            assert list(evidence.price_minor.values()) == choices.price_minor[row].tolist()
        else:
            assert evidence.net_value_minor == evidence.price_minor == {}
        reasons |= {one.reason for one in decision.exclusions if one.offer is not None}
    # Why an offer is excluded on a channel that is open.
    assert reasons == excluded if n == N else reasons <= excluded
