"""A training computes on one thread."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from training.fit import train
from training.learner import learn_step
from training.threads import one_thread


def _threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_linear_algebra_has_one_thread_while_it_lasts_and_as_many_as_before_afterwards() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = _threads()
        with one_thread():
            assert _threads() == {1}
        assert _threads() == before


@pytest.mark.parametrize("begin", [train, learn_step])
def test_a_training_and_a_step_of_the_learner_are_bounded(
    begin: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a database of any name has a file beside it that says who counts
    seen: list[set[int]] = []

    def look(**_: object) -> None:
        seen.append(_threads())
        raise InterruptedError

    anything = MagicMock()
    anything.execution_options.side_effect = look  # of the history, which a training asks first
    anything.champion_version.side_effect = look  # of the registry, which the learner asks first
    with threadpool_limits(limits=2, user_api="blas"), pytest.raises(InterruptedError):
        begin(**dict.fromkeys(inspect.signature(begin).parameters, anything))
    assert seen == [{1}]
