"""Who may take over: every combination of evidence, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import numpy as np
import pytest

from models.domain.action import ActionGrid
from models.evaluation.estimate import Estimate
from models.evaluation.overlap import Withheld
from training.evaluation import CHAMPION_POLICY, CalibrationCheck, Evaluation, PolicyValue, constant
from training.promotion import judge

THIN = Withheld(reason="too thin", ess=3.0, n=100)


def around(value: float, reach: float = 1.0) -> Estimate:
    return Estimate(
        value=value, standard_error=reach / 1.96, low=value - reach, high=value + reach, ess=80.0, n=100
    )


def evaluation(
    ahead_of_control: Estimate | Withheld = THIN,
    ahead_of_champion: Estimate | Withheld | None = None,
    champion_check: float = 0.0,
) -> Evaluation:
    policies = [
        PolicyValue(name="bandit", value=around(5.0), check=around(5.0), ahead=None),
        PolicyValue(name="control: uniform", value=around(1.0), check=around(1.0), ahead=ahead_of_control),
    ]
    if ahead_of_champion is not None:
        policies.append(
            PolicyValue(
                name=CHAMPION_POLICY,
                value=around(2.0),
                check=around(champion_check),
                ahead=ahead_of_champion,
            )
        )
    return Evaluation(
        n_rows=100,
        n_explored=100,
        policies=tuple(policies),
        best_constant="nobody",
        calibration=(
            CalibrationCheck(
                name="p_convert",
                n=100,
                rate=0.1,
                mean_predicted=0.1,
                error=0.03,
                chance_error=0.01,
                auc=0.6,
                log_loss=0.3,
            ),
        ),
        expected_net_value_minor=2.0,
        expected_leaving=0.001,
        control_leaving=0.001,
        contact_share=0.5,
    )


@pytest.mark.parametrize(
    ("case", "promote"),
    [
        (evaluation(), True),
        (evaluation(ahead_of_control=around(0.5)), True),
        (evaluation(ahead_of_control=around(-0.5)), True),
        (evaluation(ahead_of_control=around(-1.5)), False),
        (evaluation(ahead_of_champion=around(1.5)), True),
        (evaluation(ahead_of_champion=around(0.5)), False),
        (evaluation(ahead_of_champion=around(-1.5)), False),
        (evaluation(ahead_of_champion=THIN), False),
        # Doubly robust says better, SNIPS says worse: they do not agree.
        (evaluation(ahead_of_champion=around(1.5), champion_check=6.0), False),
        (replace(evaluation(), expected_net_value_minor=-0.1), False),
        (replace(evaluation(), expected_leaving=0.0013), False),
        # 0.2 * 0.1 + 2 * 0.01 = 0.04 is the largest sound error.
        (replace(evaluation(), calibration=(replace(evaluation().calibration[0], error=0.041),)), False),
        (replace(evaluation(), calibration=(replace(evaluation().calibration[0], n=0, error=1.0),)), True),
    ],
)
def test_promoted_only_when_value_calibration_and_guardrails_agree(case: Evaluation, promote: bool) -> None:
    verdict = judge(case)
    assert verdict.promote is promote
    assert verdict.words.startswith("Promote" if promote else "Keep what is there: ")
    assert [check.words for check in verdict.checks if not check.passed] == [
        check.words for check in verdict.checks if check.words in verdict.words
    ]


def test_a_constant_action_goes_to_whom_it_can_reach_at_any_eligible_slot() -> None:
    grid = ActionGrid(("sale",), ("email", "sms"), (time(9), time(18)))
    mask = np.array([[True, True, False, True, True], [False, False, True, True, True]])
    assert constant(grid, mask, (0, 0)).tolist() == [[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert constant(grid, mask, (0, 1)).tolist() == [[0, 0, 0, 1, 0], [0, 0, 0.5, 0.5, 0]]
    assert constant(grid, mask, None).tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
