"""A file that somebody else published: where it is had, and how to know that it is the one."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from models.domain.errors import NotFoundError, require

_FETCH_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFile:
    """One data set that this project does not carry itself.

    Attributes:
        address: Where it is published.
        fetched: Whether the address gives the file itself, so that it can be downloaded; else it is a page for
            people, and the file is put in place by hand.
        sha256: Of the uncompressed file: what makes any copy trustworthy.
        path: Its place in the folder of public data sets, `.csv` or `.csv.gz`.
    """

    address: str
    fetched: bool
    sha256: str
    path: Path

    def read(self, copy: Path | None, data_dir: Path) -> bytes:
        """The uncompressed content: of `copy`, else of the file in `data_dir`, else downloaded into `data_dir`.

        Raises:
            NotFoundError: there is no copy, and none can be downloaded.
            InvalidInputError: the file is not the published one.
        """
        place = copy or data_dir / self.path
        if copy is None and not place.exists():
            content = self._download(place)
            self._verify(content, self.address)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(gzip.compress(content))
            return content
        raw = place.read_bytes()
        content = gzip.decompress(raw) if place.suffix == ".gz" else raw
        self._verify(content, str(place))
        return content

    def _download(self, place: Path) -> bytes:
        import httpx

        if not self.fetched:
            raise NotFoundError("file", f"{place} (published at {self.address}; put a copy there)")
        try:
            answer = httpx.get(self.address, follow_redirects=True, timeout=_FETCH_SECONDS)
            return answer.raise_for_status().content
        except httpx.HTTPError as exc:
            raise NotFoundError("address", f"{self.address} ({exc})") from exc

    def _verify(self, content: bytes, origin: str) -> None:
        found = hashlib.sha256(content).hexdigest()
        require(found == self.sha256, "file", origin, f"must have the SHA-256 {self.sha256}, has {found}")
