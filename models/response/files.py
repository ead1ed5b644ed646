"""The response model as files: LightGBM's own text, NumPy arrays and JSON. No pickle; every number exact."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import time
from typing import Any

import numpy as np

from models.domain.errors import BundleError
from models.response.attention import AttentionModel
from models.response.boosting import Trees
from models.response.calibration import Calibration
from models.response.convert import ConvertModel
from models.response.day_kinds import DayKinds
from models.response.effect import EffectModel
from models.response.open import OpenModel
from models.response.open_linear import OpenLinear
from models.response.standardiser import Standardiser
from models.response.worth import Worth

_MANIFEST = "response.json"
_OPEN_BY_CHANNEL = "open_by_channel.txt"
_OPEN_BY_SLOT = "open_by_slot.txt"
_CONVERT = "convert.txt"
_EFFECT_MEAN = "effect_mean.npy"
_EFFECT_COVARIANCE = "effect_covariance.npy"

_Parts = tuple[tuple[str, ...], OpenModel, ConvertModel, EffectModel, AttentionModel, Worth]


def write(
    feature_names: tuple[str, ...],
    opens: OpenModel,
    convert: ConvertModel,
    effect: EffectModel,
    attention: AttentionModel,
    worth: Worth,
) -> dict[str, bytes]:
    """Files by name; equal models give equal bytes."""
    manifest = {
        "feature_names": feature_names,
        "open": {
            "channels": opens.channels,
            "slots": [slot.isoformat() for slot in opens.slots],
            "table": opens.table.tolist(),
            "typical": opens.typical,
            "opens_per_reply": opens.opens_per_reply,
            "linear": {
                "standardiser": _standardiser_document(opens.linear.standardiser),
                "by_channel": opens.linear.by_channel.tolist(),
                "by_slot": opens.linear.by_slot.tolist(),
                "habit": opens.linear.habit,
                "variances": opens.linear.variances.tolist(),
            },
            "days": {
                "columns": opens.days.columns.tolist(),
                "share": opens.days.share.tolist(),
                "hours": opens.days.hours.tolist(),
                "centre": opens.days.centre.tolist(),
            },
            "calibration": _calibration_document(opens.calibration),
        },
        "convert": {"base": convert.base, "calibration": _calibration_document(convert.calibration)},
        "effect": {
            "offers": effect.offers,
            "channels": effect.channels,
            "mediator_unit": effect.mediator_unit,
            "standardiser": _standardiser_document(effect.standardiser),
        },
        "attention": {
            "channels": attention.channels,
            "rates": attention.rates,
            "mean_rate": attention.mean_rate,
            "reach_minor": attention.reach_minor,
            "fatigue_minor": attention.fatigue_minor,
        },
        "worth": asdict(worth),
    }
    named = {
        _MANIFEST: json.dumps(manifest, indent=1, sort_keys=True).encode(),
        _EFFECT_MEAN: _array_bytes(effect.mean),
        _EFFECT_COVARIANCE: _array_bytes(effect.covariance),
    }
    optional = {
        _OPEN_BY_CHANNEL: opens.by_channel,
        _OPEN_BY_SLOT: opens.by_slot,
        _CONVERT: convert.trees,
    }
    return named | {name: trees.text.encode() for name, trees in optional.items() if trees is not None}


def read(named: Mapping[str, bytes]) -> _Parts:
    """Read what `write` wrote.

    Raises:
        BundleError: a file is missing or cannot be read.
    """
    try:
        return _read(named)
    except (KeyError, ValueError, TypeError) as exc:
        raise BundleError(f"the response model cannot be read: {exc!r}") from exc


def _read(named: Mapping[str, bytes]) -> _Parts:
    manifest = json.loads(named[_MANIFEST])
    of_open, of_convert = manifest["open"], manifest["convert"]
    of_effect, of_attention, of_worth = manifest["effect"], manifest["attention"], manifest["worth"]
    slots = tuple(time.fromisoformat(slot) for slot in of_open["slots"])
    opens = OpenModel(
        channels=tuple(of_open["channels"]),
        slots=slots,
        table=np.array(of_open["table"], dtype=np.float64).reshape(len(of_open["channels"]), len(slots)),
        typical=tuple(of_open["typical"]),
        opens_per_reply=tuple(of_open["opens_per_reply"]),
        linear=_linear(of_open["linear"]),
        days=_days(of_open["days"]),
        by_channel=_trees(named, _OPEN_BY_CHANNEL),
        by_slot=_trees(named, _OPEN_BY_SLOT),
        calibration=_calibration(of_open["calibration"]),
    )
    convert = ConvertModel(
        base=of_convert["base"],
        trees=_trees(named, _CONVERT),
        calibration=_calibration(of_convert["calibration"]),
    )
    effect = EffectModel(
        offers=tuple(of_effect["offers"]),
        channels=tuple(of_effect["channels"]),
        standardiser=_standardiser(of_effect["standardiser"]),
        mediator_unit=of_effect["mediator_unit"],
        mean=_array(named[_EFFECT_MEAN]),
        covariance=_array(named[_EFFECT_COVARIANCE]),
    )
    attention = AttentionModel(
        channels=tuple(of_attention["channels"]),
        rates=tuple(of_attention["rates"]),
        mean_rate=of_attention["mean_rate"],
        reach_minor=tuple(of_attention["reach_minor"]),
        fatigue_minor=of_attention["fatigue_minor"],
    )
    worth = Worth(
        offers=tuple(of_worth["offers"]),
        shares=tuple(of_worth["shares"]),
        unseen=of_worth["unseen"],
        n_conversions=of_worth["n_conversions"],
        # Not in models that were fitted before prices were looked at.
        discount=of_worth.get("discount", 0.0),
    )
    return tuple(manifest["feature_names"]), opens, convert, effect, attention, worth


def _standardiser_document(standardiser: Standardiser) -> dict[str, list[float]]:
    return {
        "columns": standardiser.columns.tolist(),
        "low": standardiser.low.tolist(),
        "high": standardiser.high.tolist(),
        "center": standardiser.center.tolist(),
        "scale": standardiser.scale.tolist(),
    }


def _standardiser(document: Mapping[str, list[float]]) -> Standardiser:
    bounds = {name: np.array(document[name], dtype=np.float64) for name in ("low", "high", "center", "scale")}
    return Standardiser(columns=np.array(document["columns"], dtype=np.intp), **bounds)


def _linear(document: Mapping[str, Any]) -> OpenLinear:
    standardiser = _standardiser(document["standardiser"])
    by_channel, by_slot = (
        np.array(document[name], dtype=np.float64).reshape(len(document[name]), len(standardiser.columns))
        for name in ("by_channel", "by_slot")
    )
    return OpenLinear(
        standardiser=standardiser,
        by_channel=by_channel,
        by_slot=by_slot,
        habit=float(document["habit"]),
        variances=np.array(document["variances"], dtype=np.float64),
    )


def _days(document: Mapping[str, Any]) -> DayKinds:
    share, hours, centre = (
        np.array(document[name], dtype=np.float64) for name in ("share", "hours", "centre")
    )
    columns = np.array(document["columns"], dtype=np.intp)
    return DayKinds(columns=columns, share=share, hours=hours, centre=centre)


def _calibration_document(calibration: Calibration) -> dict[str, object]:
    return {
        "method": calibration.method,
        "parameters": calibration.parameters,
        "knots": calibration.knots,
        "log_losses": dict(calibration.log_losses),
    }


def _calibration(document: Mapping[str, object]) -> Calibration:
    knots, parameters, losses = document["knots"], document["parameters"], document["log_losses"]
    assert isinstance(knots, list)
    assert isinstance(parameters, list)
    assert isinstance(losses, dict)
    return Calibration(
        method=str(document["method"]),
        parameters=tuple(parameters),
        knots=(tuple(knots[0]), tuple(knots[1])),
        log_losses=losses,
    )


def _trees(named: Mapping[str, bytes], name: str) -> Trees | None:
    return Trees(named[name].decode()) if name in named else None


def _array_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array(content: bytes) -> np.ndarray:
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
