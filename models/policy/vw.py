"""Vowpal Wabbit as online regression oracle for `p_open`, on top of the response model.

One workspace an expert, differing in the learning rate alone. An example is `label 1 base | tokens`:
the label is +1 (opened) or -1, the base is the response model's logit as an exact offset, and tokens
are plain numbers, which Vowpal Wabbit uses as they are in the default namespace, so that no two collide.
Plain stochastic gradient descent at a constant rate has no state but the weights: it forgets, and the
weights alone restore it exactly.
"""

from __future__ import annotations

import numpy as np

from models.choice import FloatArray
from models.policy.corrections import CLIP, Corrections
from models.policy.events import ResponseEvents

# Slow, middling and fast: which one is right depends on how the world moves; the gate finds out.
LEARNING_RATES = (0.003, 0.01, 0.04)
BITS = 18


def held(p: FloatArray) -> FloatArray:
    """The probability, held within [1e-6, 1 - 1e-6], where its logit is finite."""
    return np.minimum(np.maximum(p, 1e-6), 1.0 - 1e-6)


def logit(p: FloatArray) -> FloatArray:
    """`log(p / (1 - p))` for p in (0, 1)."""
    return np.asarray(np.log(p / (1.0 - p)))


def sigmoid(x: FloatArray) -> FloatArray:
    """`1 / (1 + exp(-x))`."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def arguments(learning_rate: float) -> str:
    """Command line of an expert's workspace."""
    return (
        "--loss_function logistic --link logistic --noconstant --sgd --power_t 0 "
        f"-b {BITS} -l {learning_rate} --quiet"
    )


def example(tokens: list[int], base: float, opened: bool) -> str:
    """One contact in Vowpal Wabbit's text format."""
    return f"{1 if opened else -1} 1 {base:.9g} | {' '.join(map(str, tokens))}"


def learn(corrections: Corrections, events: ResponseEvents) -> tuple[Corrections, FloatArray]:
    """Let every expert see the events once, in order.

    Args:
        corrections: What the experts know; must cover the events' channels and slots.
        events: Oldest first.

    Returns:
        What they know afterwards, and what each said of every event *before* it learned from it:
        open probabilities, shape (K, n).
    """
    from vowpalwabbit import Workspace

    vectors = corrections.vectors
    base = logit(held(events.p_open))
    said = np.empty((len(vectors), len(events)))
    lines = [
        example(tokens, start, opened)
        for tokens, start, opened in zip(
            corrections.tokens(events).tolist(), base.tolist(), events.opened.tolist(), strict=True
        )
    ]
    for expert, rate in enumerate(LEARNING_RATES):
        with Workspace(arguments(rate)) as workspace:
            for token in np.flatnonzero(vectors[expert]).tolist():
                workspace.set_weight(token, 0, float(vectors[expert, token]))
            for i, line in enumerate(lines):
                seen = workspace.parse(line)
                workspace.learn(seen)
                # The raw sum, base included, as it was before the update.
                said[expert, i] = seen.get_partial_prediction()
                workspace.finish_example(seen)
            vectors[expert] = [workspace.get_weight(token) for token in range(vectors.shape[1])]
    correction = np.clip(said - base, -CLIP, CLIP)
    return Corrections.from_vectors(vectors, corrections), sigmoid(base + correction)
