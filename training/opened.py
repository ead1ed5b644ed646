"""A bundle whose files have been read, ready to predict and to choose."""

from __future__ import annotations

from dataclasses import dataclass

from models.bundle import Bundle
from models.choice import ResponseModel
from models.policy.bandit import Bandit
from models.response.stored import read_response


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """The models of a bundle; `bandit` is None where it has none."""

    response: ResponseModel
    bandit: Bandit | None


def open_bundle(bundle: Bundle) -> OpenedBundle:
    """Read the files of a bundle.

    Raises:
        BundleError: they are damaged.
    """
    return OpenedBundle(
        response=read_response(bundle.response),
        bandit=Bandit.from_files(dict(bundle.bandit)) if bundle.bandit else None,
    )
