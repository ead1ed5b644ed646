"""One version of everything that decides: response model, bandit, and what they were made for.

A bundle is a set of named files with a manifest. The registry stores the files; nothing in them is pickled. Its
version is the hash of its content, so equal bundles have equal versions wherever they were made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time

from models.domain.errors import BundleError, require

# Name in the model registry, and the two aliases that point to versions of it.
REGISTERED_NAME = "nextchannel"
CHAMPION = "champion"
CHALLENGER = "challenger"

FORMAT_VERSION = 5
MANIFEST = "manifest.json"
_RESPONSE = "response/"
_BANDIT = "bandit/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        feature_names: Columns that the models expect, in order.
        offers: Offers learned from.
        channels: Channels learned from.
        slots: Local times of day learned from.
        created_at: Aware; when it was made.
        response: Files of the response model, by name.
        bandit: Files of the bandit, by name; empty where there is none.
        metrics: Figures of the training run, by name.
    """

    feature_names: tuple[str, ...]
    offers: tuple[str, ...]
    channels: tuple[str, ...]
    slots: tuple[time, ...]
    created_at: datetime
    response: Mapping[str, bytes]
    bandit: Mapping[str, bytes] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            self.created_at.tzinfo is not None,
            "created_at",
            self.created_at.isoformat(),
            "must carry a time zone",
        )
        require(bool(self.response), "response", dict(self.response), "must hold the response model's files")

    @property
    def version(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of all that the bundle holds."""
        return _version(self._manifest())

    def to_files(self) -> dict[str, bytes]:
        """Every file by its path in the bundle, the manifest included."""
        manifest = self._manifest()
        content = json.dumps(manifest | {"version": _version(manifest)}, indent=1, sort_keys=True)
        return self._contents() | {MANIFEST: content.encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Bundle:
        """Read what `to_files` wrote.

        Raises:
            BundleError: the manifest or a file is missing, altered or not listed, or the format is another one.
        """
        if MANIFEST not in files:
            raise BundleError(f"{MANIFEST} is missing")
        try:
            manifest = json.loads(files[MANIFEST])
            if manifest["format_version"] != FORMAT_VERSION:
                raise BundleError(
                    f"format_version == {manifest['format_version']!r}, this release reads {FORMAT_VERSION}"
                )
            version = manifest.pop("version")
            if version != _version(manifest):
                raise BundleError(f"{MANIFEST} was altered: it does not hash to its version {version!r}")
            _check(files, manifest["sha256"])
            return cls(
                feature_names=tuple(manifest["feature_names"]),
                offers=tuple(manifest["offers"]),
                channels=tuple(manifest["channels"]),
                slots=tuple(time.fromisoformat(slot) for slot in manifest["slots"]),
                created_at=datetime.fromisoformat(manifest["created_at"]),
                response=_below(files, _RESPONSE),
                bandit=_below(files, _BANDIT),
                metrics=manifest["metrics"],
            )
        except (KeyError, ValueError, TypeError, AttributeError) as exc:
            raise BundleError(f"{MANIFEST} cannot be read: {exc!r}") from exc

    def _contents(self) -> dict[str, bytes]:
        return {f"{_RESPONSE}{name}": content for name, content in self.response.items()} | {
            f"{_BANDIT}{name}": content for name, content in self.bandit.items()
        }

    def _manifest(self) -> dict[str, object]:
        contents = self._contents()
        return {
            "format_version": FORMAT_VERSION,
            "feature_names": list(self.feature_names),
            "offers": list(self.offers),
            "channels": list(self.channels),
            "slots": [slot.isoformat() for slot in self.slots],
            "created_at": self.created_at.isoformat(),
            "metrics": dict(self.metrics),
            "sha256": {name: hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)},
        }


def _version(manifest: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def _check(files: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
    """Refuse files that are missing, altered or unknown."""
    for name, expected in hashes.items():
        if name not in files:
            raise BundleError(f"{name} is missing")
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise BundleError(f"{name} was altered: its SHA-256 is not the manifest's")
    unknown = sorted(set(files) - set(hashes) - {MANIFEST})
    if unknown:
        raise BundleError(f"{unknown[0]} is not in the manifest")


def _below(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    return {name.removeprefix(folder): files[name] for name in files if name.startswith(folder)}
