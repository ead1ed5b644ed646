"""A training computes on one thread."""

from __future__ import annotations

from threadpoolctl import threadpool_info, threadpool_limits

from training.threads import one_thread


def _threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_linear_algebra_has_one_thread_while_it_lasts_and_as_many_as_before_afterwards() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = _threads()
        with one_thread():
            assert _threads() == {1}
        assert _threads() == before


def test_a_training_and_a_step_of_the_learner_are_bounded() -> None:
    from training.fit import train
    from training.learner import learn_step

    assert all(hasattr(each, "__wrapped__") for each in (train, learn_step))
