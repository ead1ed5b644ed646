"""A defect of Vowpal Wabbit 9.11.9: under `--squarecb` and `--regcb` the last action keeps its 1/p weight."""

import pytest
from vowpalwabbit import Workspace

BITS = 18
N_ACTIONS = 4
LAST = N_ACTIONS - 1


def learned_weight(algorithm: str, chosen: int, propensity: float) -> float:
    """Weight of the chosen action after one reward of 1 (cost -1)."""
    arguments = f"--cb_explore_adf {algorithm} --noconstant --sgd --power_t 0 -l 0.1 -b {BITS} --quiet"
    with Workspace(arguments) as workspace:
        label = f"0:-1:{propensity}"
        workspace.learn([f"{label if i == chosen else ''} | {i}" for i in range(N_ACTIONS)])
        return workspace.get_weight(chosen)


@pytest.mark.parametrize("algorithm", ["--squarecb", "--regcb"])
def test_the_last_action_is_learned_a_hundredfold_where_its_propensity_is_one_percent(algorithm: str) -> None:
    # rate 0.1, half a squared loss, prediction 0, cost -1: the weight moves by -0.1 * 1 / 2 = -0.05 ...
    assert learned_weight(algorithm, LAST, 1.0) == pytest.approx(-0.05)
    # ... and by 1 / 0.01 times that in the last position.
    assert learned_weight(algorithm, LAST, 0.01) == pytest.approx(-5.0)


@pytest.mark.parametrize("algorithm", ["--squarecb", "--regcb"])
@pytest.mark.parametrize("chosen", range(LAST))
def test_other_positions_are_learned_alike_whatever_the_propensity(algorithm: str, chosen: int) -> None:
    assert learned_weight(algorithm, chosen, 0.01) == pytest.approx(-0.05)


@pytest.mark.parametrize("algorithm", ["--squarecb", "--regcb"])
def test_a_propensity_of_one_in_the_label_treats_every_position_alike(algorithm: str) -> None:
    weights = [learned_weight(algorithm, chosen, 1.0) for chosen in range(N_ACTIONS)]
    assert weights == pytest.approx([-0.05] * N_ACTIONS)
