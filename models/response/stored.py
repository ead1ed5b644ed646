"""The response model of a bundle, whichever kind its files hold."""

from __future__ import annotations

from collections.abc import Mapping

from models.choice import ResponseModel
from models.response.model import FittedResponse
from models.response.prior import FILE, PriorResponse


def read_response(named: Mapping[str, bytes]) -> ResponseModel:
    """Read what `FittedResponse.to_files` or `PriorResponse.to_files` wrote.

    Raises:
        BundleError: a file is missing or cannot be read.
    """
    return PriorResponse.from_files(named) if FILE in named else FittedResponse.from_files(named)
