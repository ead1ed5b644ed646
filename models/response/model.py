"""The response model as one value: fit it on a log, ask it, store it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.choice import FloatArray, Predictions
from models.domain.action import ActionGrid
from models.domain.channel import Channel
from models.domain.errors import require
from models.explanation.contributions import ResponseContributions
from models.logged import LoggedRows
from models.response import files
from models.response.attention import AttentionModel, fit_attention
from models.response.contributions import break_down
from models.response.convert import ConvertModel, fit_convert
from models.response.effect import EffectFit, EffectModel, PairEffects, fit_effect
from models.response.forest import Forest, plant
from models.response.metrics import ResponseMetrics, UpliftSummary, probability_metrics
from models.response.nuisance import fit_nuisance
from models.response.open import OpenModel, fit_open
from models.response.open_grid import OpenGrid
from models.response.worth import Worth, fit_worth

# Numbers held at once while predicting: bounds the memory, whatever the number of customers.
_NUMBERS_AT_ONCE = 4_000_000
# Arrays over all actions that exist at the same time.
_ARRAYS_AT_ONCE = 6
_GRIDS_REMEMBERED = 32
_SUMMARY_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What predicting on one grid needs and what does not depend on the customer."""

    opens: OpenGrid
    forest: Forest
    pairs: PairEffects
    scale: FloatArray
    attention_minor: FloatArray
    worth: FloatArray
    chunk: int


class FittedResponse:
    """`models.choice.ResponseModel`, fitted by `fit_response`.

    Args:
        feature_names: Columns of `features`, in order.
        opens: `p_open`.
        convert: `p_convert` without contact.
        effect: What a contact changes.
        attention: What a contact puts at risk.
        worth: What a conversion that contact causes brings.
        metrics: How the fit went; None on a model that was read from files.
    """

    def __init__(
        self,
        *,
        feature_names: tuple[str, ...],
        opens: OpenModel,
        convert: ConvertModel,
        effect: EffectModel,
        attention: AttentionModel,
        worth: Worth,
        metrics: ResponseMetrics | None = None,
    ) -> None:
        self.opens = opens
        self.convert = convert
        self.effect = effect
        self.attention = attention
        self.worth = worth
        self.metrics = metrics
        self._feature_names = feature_names
        self._plans: dict[ActionGrid, _Plan] = {}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`, in order."""
        return self._feature_names

    def predict(
        self,
        features: FloatArray,
        grid: ActionGrid,
        channels: Mapping[str, Channel],  # noqa: ARG002 - what a channel is like was learned from the log
    ) -> Predictions:
        """Predict for every customer and action.

        A channel, offer or slot that the log never had is predicted from what the others share.

        Args:
            features: Shape (n, F); NaN where missing.
            grid: Axes of the decision.
            channels: Not looked at.
        """
        expected = len(self._feature_names)
        require(features.shape[1] == expected, "features", features.shape, f"must have {expected} columns")
        plan = self._plan(grid)
        parts = [
            self._predict(features[start : start + plan.chunk], plan)
            for start in range(0, max(1, len(features)), plan.chunk)
        ]
        p_open, p_convert, alone = (
            parts[0] if len(parts) == 1 else tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        )
        return Predictions(
            p_open=p_open,
            p_convert=p_convert,
            p_convert_no_contact=alone,
            attention_minor=np.broadcast_to(plan.attention_minor, (len(features), len(plan.attention_minor))),
            worth=plan.worth,
        )

    def _predict(self, features: FloatArray, plan: _Plan) -> tuple[FloatArray, FloatArray, FloatArray]:
        single = features.astype(np.float32, order="C")
        added = plan.forest.logits(single)
        p_open = self.opens.predict_on(plan.opens, single, added[:, :-1])
        alone = self.convert.calibrated(added[:, -1])
        inputs = self.effect.standardiser.apply(features)
        uplift = plan.pairs.uplift(inputs, p_open * plan.scale[:, None])
        p_convert = np.minimum(np.maximum(alone[:, None, None, None] + uplift, 0.0), 1.0)
        return p_open, p_convert, alone

    def with_attention(self, reach_minor: FloatArray, fatigue_minor: float) -> FittedResponse:
        """The same model with another price of attention.

        Args:
            reach_minor: What the reach of its channels is worth, minor units, shape (C,), each >= 0.
            fatigue_minor: What a contact takes from the contacts after it, minor units, >= 0.
        """
        return FittedResponse(
            feature_names=self._feature_names,
            opens=self.opens,
            convert=self.convert,
            effect=self.effect,
            attention=replace(
                self.attention, reach_minor=tuple(reach_minor.tolist()), fatigue_minor=fatigue_minor
            ),
            worth=self.worth,
            metrics=self.metrics,
        )

    def uplift_se(self, features: FloatArray, grid: ActionGrid) -> FloatArray:
        """Posterior standard error of the uplift, given `p_open`, shape (n, O, C, S).

        Of a channel or an offer that the log never had it is accordingly wide. No policy looks at it.

        Args:
            features: Shape (n, F); NaN where missing.
            grid: Axes of the decision.
        """
        plan = self._plan(grid)
        single = features.astype(np.float32)
        p_open = self.opens.predict_on(plan.opens, single, plan.forest.logits(single)[:, :-1])
        inputs = self.effect.standardiser.apply(features)
        spread = self.effect.spread(grid.offers, grid.channels)
        return spread.standard_error(inputs, p_open * plan.scale[:, None])

    def contributions(
        self, features: FloatArray, grid: ActionGrid, contact: tuple[int, int, int]
    ) -> ResponseContributions:
        """What each feature adds to the prediction of one contact; `models.explanation.contributions.Explains`."""
        return break_down(self.opens, self.effect, features, grid, contact)

    def _plan(self, grid: ActionGrid) -> _Plan:
        plan = self._plans.get(grid)
        if plan is None:
            opens = self.opens.lay_out(grid.channels, grid.slots)
            plan = _Plan(
                opens=opens,
                forest=plant(len(self._feature_names), [*self.opens.parts(opens), self.convert.part]),
                pairs=self.effect.pairs(grid.offers, grid.channels),
                scale=np.array([self.opens.scale(name) for name in grid.channels])
                / self.effect.mediator_unit,
                attention_minor=self.attention.predict(grid.channels),
                worth=self.worth.of(grid.offers),
                chunk=max(1, _NUMBERS_AT_ONCE // (grid.n_actions * _ARRAYS_AT_ONCE)),
            )
            if len(self._plans) >= _GRIDS_REMEMBERED:
                self._plans.clear()
            self._plans[grid] = plan
        return plan

    def to_files(self) -> dict[str, bytes]:
        """Native LightGBM text, NumPy arrays and JSON, by file name."""
        return files.write(
            self._feature_names, self.opens, self.convert, self.effect, self.attention, self.worth
        )

    @classmethod
    def from_files(cls, named: Mapping[str, bytes]) -> FittedResponse:
        """Read what `to_files` wrote; it predicts exactly the same.

        Raises:
            BundleError: a file is missing or cannot be read.
        """
        feature_names, opens, convert, effect, attention, worth = files.read(named)
        return cls(
            feature_names=feature_names,
            opens=opens,
            convert=convert,
            effect=effect,
            attention=attention,
            worth=worth,
        )


def fit_response(
    rows: LoggedRows,
    channels: Mapping[str, Channel],
    *,
    attention_value_minor: float,
    seed: int,
    margin_minor: FloatArray | None = None,
    progress: Callable[[str], None] | None = None,
) -> FittedResponse:
    """Fit every part of the response model on a log.

    It works on any log, however small: where there are too few events for trees, shrunk rates stand alone, and where the
    log says nothing of an effect, its mean is near 0 and its standard error wide.

    Args:
        rows: Logged decisions with final outcomes.
        channels: Every channel of the log, by name: says which outcomes a channel can report.
        attention_value_minor: What a customer who can be reached is worth, minor units, >= 0.
        seed: Same rows and seed, same model.
        margin_minor: Of a conversion by offer of the log, shape (O,), to compare what caused conversions brought with; None
            believes it.
        progress: Told in words what is being done.

    Raises:
        InvalidInputError: no rows, a channel is unknown, the value is negative, or the margins are not one an offer.
    """
    require(len(rows) > 0, "rows", len(rows), "must be > 0")
    require(
        0 <= attention_value_minor < float("inf"),
        "attention_value_minor",
        attention_value_minor,
        "must be a finite number >= 0",
    )
    for name in rows.channels:
        require(name in channels, "channels", name, "must be described")
    if margin_minor is not None:
        expected = (len(rows.offers),)
        require(
            margin_minor.shape == expected, "margin_minor", margin_minor.shape, f"must have shape {expected}"
        )
    say = progress or _silent

    say("opens: who opens what, when")
    opens = fit_open(rows, channels, seed)
    say("conversions without contact")
    convert = fit_convert(rows, seed)
    nuisance = fit_nuisance(rows, opens, seed, progress)
    say("effect of contact: shrinkage by the evidence")
    n_features = len(rows.feature_names)
    importance = np.zeros(n_features)
    for trees in (convert.model.trees, opens.model.by_channel):
        if trees is not None:
            gains = trees.gains()[:n_features]
            importance += gains / max(float(gains.sum()), 1e-12)
    effect = fit_effect(rows, nuisance, importance, mediated=opens.model.learned)
    fitted = FittedResponse(
        feature_names=rows.feature_names,
        opens=opens.model,
        convert=convert.model,
        effect=effect.model,
        attention=fit_attention(rows, attention_value_minor),
        worth=Worth() if margin_minor is None else fit_worth(rows, margin_minor, effect.lag),
    )
    fitted.metrics = ResponseMetrics(
        n_rows=len(rows),
        n_contacted=int(rows.contacted.sum()),
        n_converted=int(rows.converted.sum()),
        p_open=probability_metrics(opens.later_label, opens.later_probability, opens.model.calibration),
        p_convert=probability_metrics(
            convert.later_label, convert.later_probability, convert.model.calibration
        ),
        noise=effect.posterior.noise,
        log_evidence=effect.posterior.log_evidence,
        effect_sd=_by_part(effect, np.sqrt(effect.posterior.variances)),
        effect_determined=_by_part(effect, effect.posterior.effective),
        worth=fitted.worth,
        uplift=_summaries(fitted, rows, seed),
    )
    return fitted


def _silent(_words: str) -> None:
    """Nobody asked to be told."""


def _by_part(effect: EffectFit, figures: FloatArray) -> dict[str, float]:
    """Figures of the groups of coefficients, by a name such as `through open.channel features`."""
    return {
        f"{('through open', 'direct')[part.path]}.{part.name}": float(figure)
        for part, figure in zip(effect.parts, figures, strict=True)
    }


def _summaries(fitted: FittedResponse, rows: LoggedRows, seed: int) -> tuple[UpliftSummary, ...]:
    """Mean uplift of every pair over logged customers, with its 95 % interval."""
    n = len(rows)
    some = np.random.default_rng(seed).permutation(n)[:_SUMMARY_ROWS]
    features = rows.features[some]
    inputs = fitted.effect.standardiser.apply(features)
    p_open = fitted.opens.predict(features.astype(np.float32), rows.channels, rows.slots).mean(axis=2)
    scale = np.array([fitted.opens.scale(name) for name in rows.channels])
    q = p_open * scale / fitted.effect.mediator_unit
    summaries = []
    for o, offer in enumerate(rows.offers):
        for c, channel in enumerate(rows.channels):
            weights = np.concatenate([(q[:, c, None] * inputs).mean(axis=0), inputs.mean(axis=0)])
            estimate = float(weights @ fitted.effect.mean[o, c])
            half = 1.96 * float(np.sqrt(max(0.0, weights @ fitted.effect.covariance[o, c] @ weights)))
            summaries.append(
                UpliftSummary(
                    offer=offer,
                    channel=channel,
                    estimate=estimate,
                    low=estimate - half,
                    high=estimate + half,
                )
            )
    return tuple(summaries)
