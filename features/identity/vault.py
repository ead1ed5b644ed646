"""Contact points at rest: sealed by AES-256-GCM, found again by a keyed hash.

A sealed contact point can be opened only with the key that its row names, for the same kind and customer. It is
looked up by HMAC-SHA256 of its normal form under a key of its own, so that equal contact points are found without
opening any, and nobody without that key can try out addresses. To rotate the sealing key costs one pass over the
rows; the lookup key stays, because every suppression of an erased person hangs on it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from features.identity.normalise import check_region, normalise
from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError, NextchannelError, require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE = "contacts.keys"

_KEY_BYTES = 32
# A random nonce of 96 bits: 2**32 messages a key at most (NIST SP 800-38D, section 8.3).
_NONCE_BYTES = 12
# Of SHA-256 in base64, without its padding.
_DIGEST_LENGTH = 43
_OPTION = "contact_vault"


class ContactKeyError(NextchannelError):
    """A contact point cannot be sealed or opened: its key is missing, or the row was tampered with."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A contact point as a row holds it.

    Attributes:
        lookup: Keyed hash of the normal form, 43 characters.
        key_id: Which key sealed it.
        sealed: Nonce, ciphertext and tag, base64.
    """

    lookup: str
    key_id: str
    sealed: str


@dataclass(frozen=True, slots=True)
class _Keys:
    lookup: bytes
    current: str
    sealing: dict[str, bytes]

    @classmethod
    def fresh(cls) -> _Keys:
        current = secrets.token_hex(4)
        return cls(secrets.token_bytes(_KEY_BYTES), current, {current: secrets.token_bytes(_KEY_BYTES)})

    @classmethod
    def from_json(cls, text: str, place: str) -> _Keys:
        try:
            document = json.loads(text)
            keys = cls(
                lookup=base64.b64decode(document["lookup"], validate=True),
                current=document["current"],
                sealing={
                    name: base64.b64decode(key, validate=True) for name, key in document["sealing"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as exc:
            raise InvalidInputError(
                place, "(secret)", "must be keys as `nextchannel contacts keys` makes them"
            ) from exc
        lengths = {len(keys.lookup), *(len(key) for key in keys.sealing.values())}
        require(
            lengths == {_KEY_BYTES} and keys.current in keys.sealing,
            place,
            "(secret)",
            f"must hold keys of {_KEY_BYTES} bytes, the current one among them",
        )
        return keys

    def to_json(self) -> str:
        return json.dumps(
            {
                "lookup": base64.b64encode(self.lookup).decode(),
                "current": self.current,
                "sealing": {name: base64.b64encode(key).decode() for name, key in self.sealing.items()},
            }
        )


class ContactVault:
    """Seals, opens and looks up contact points.

    The keys are read on first use. A key file is made where there is none, readable by its owner alone, and read
    again when it has changed, so that running processes follow a rotation.

    Args:
        path: The key file; None where `text` has the keys.
        text: The keys as JSON, for installations that keep secrets elsewhere.
        region: By which phone numbers without country code are read.
    """

    def __init__(self, path: Path | None = None, text: str = "", region: str = "") -> None:
        check_region(region)
        self.region = region
        self._path = path
        self._stamp: int | None = None
        self._ciphers: dict[str, AESGCM] = {}
        self._loaded = _Keys.from_json(text, "NEXTCHANNEL_CONTACT_KEYS") if text else None
        if text:
            self._path = None

    @property
    def current_key(self) -> str:
        """Id of the key that seals now."""
        return self._keys().current

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of every key that can open."""
        return tuple(self._keys().sealing)

    def lookup(self, kind: IdentityKind, value: str) -> str:
        """The keyed hash by which a contact point is found."""
        return self._digest(f"{kind}\0{normalise(kind, value, self.region).compared}")

    def lookups(self, points: Iterable[tuple[IdentityKind, str]]) -> dict[tuple[IdentityKind, str], str]:
        """The same for many, with the key looked for once."""
        key = self._keys().lookup
        return {
            (kind, value): _digest(key, f"{kind}\0{normalise(kind, value, self.region).compared}")
            for kind, value in points
        }

    def lookup_customer(self, customer_id: str) -> str:
        """The keyed hash that remembers an erased id."""
        return self._digest(f"customer_id\0{customer_id}")

    def seal(self, kind: IdentityKind, customer_id: str, value: str) -> Sealed:
        """Encrypt a contact point for its row."""
        keys = self._keys()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        forms = normalise(kind, value, self.region)
        text = self._cipher(keys, keys.current).encrypt(
            nonce, forms.deliverable.encode(), _bound_to(kind, customer_id)
        )
        return Sealed(
            lookup=self._digest(f"{kind}\0{forms.compared}"),
            key_id=keys.current,
            sealed=base64.b64encode(nonce + text).decode(),
        )

    def open(self, kind: IdentityKind, customer_id: str, key_id: str, sealed: str) -> str:
        """Decrypt a contact point.

        Args:
            kind: As it was sealed.
            customer_id: As it was sealed; after a merge this is the row's `recorded_as`.
            key_id: Of the row.
            sealed: Of the row.

        Raises:
            ContactKeyError: the key is not there, or the row is not what was sealed.
        """
        from cryptography.exceptions import InvalidTag

        content = base64.b64decode(sealed)
        cipher = self._cipher(self._keys(key_id), key_id)
        try:
            return cipher.decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], _bound_to(kind, customer_id)
            ).decode()
        except InvalidTag as exc:
            raise ContactKeyError(f"a contact point of kind {kind} is not what was sealed") from exc

    def add_key(self) -> str:
        """Make a new sealing key and use it from now on; the others still open what they sealed.

        Returns:
            Its id.

        Raises:
            ContactKeyError: the keys come from a setting: add the key there.
        """
        keys = self._keys()
        name = secrets.token_hex(4)
        self._write(_Keys(keys.lookup, name, {name: secrets.token_bytes(_KEY_BYTES), **keys.sealing}))
        return name

    def forget_keys(self, keep: set[str]) -> tuple[str, ...]:
        """Drop the sealing keys that are neither current nor kept; their ids.

        Raises:
            ContactKeyError: the keys come from a setting.
        """
        keys = self._keys()
        dropped = tuple(name for name in keys.sealing if name not in keep and name != keys.current)
        if dropped:
            kept = {name: key for name, key in keys.sealing.items() if name not in dropped}
            self._write(_Keys(keys.lookup, keys.current, kept))
        return dropped

    def _keys(self, wanted: str = "") -> _Keys:
        if self._path is None:
            if self._loaded is None:
                raise ContactKeyError("this database was opened without the keys of contact points")
            keys = self._loaded
        else:
            keys = self._read(self._path)
        if wanted and wanted not in keys.sealing:
            raise ContactKeyError(f"the key {wanted} of a contact point is not there")
        return keys

    def _read(self, path: Path) -> _Keys:
        try:
            stamp = path.stat().st_mtime_ns
        except FileNotFoundError:
            _create(path, _Keys.fresh().to_json())
            stamp = path.stat().st_mtime_ns
        if self._loaded is None or stamp != self._stamp:
            self._loaded, self._stamp = _Keys.from_json(path.read_text(), str(path)), stamp
        return self._loaded

    def _write(self, keys: _Keys) -> None:
        if self._path is None:
            raise ContactKeyError("the keys come from NEXTCHANNEL_CONTACT_KEYS: change them there")
        written = self._path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        _create(written, keys.to_json())
        written.replace(self._path)
        self._loaded, self._stamp = None, None

    def _cipher(self, keys: _Keys, key_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            cipher = self._ciphers[key_id] = AESGCM(keys.sealing[key_id])
        return cipher

    def _digest(self, text: str) -> str:
        return _digest(self._keys().lookup, text)


def _digest(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256"))[:_DIGEST_LENGTH].decode()


def vault_option(vault: ContactVault) -> dict[str, Any]:
    """The execution option by which an engine carries its vault."""
    return {_OPTION: vault}


def vault_of(conn: Connection) -> ContactVault:
    """The vault of the database that the connection belongs to.

    Raises:
        ContactKeyError: the database was opened without one.
    """
    vault = conn.get_execution_options().get(_OPTION)
    if not isinstance(vault, ContactVault):
        raise ContactKeyError("this database was opened without the keys of contact points")
    return vault


def make_keys() -> str:
    """Fresh keys as JSON, for NEXTCHANNEL_CONTACT_KEYS."""
    return _Keys.fresh().to_json()


def _bound_to(kind: IdentityKind, customer_id: str) -> bytes:
    return f"{kind}\0{customer_id}".encode()


def _create(path: Path, text: str) -> None:
    """Write a file that only its owner reads; another process's file of that name is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(written, path)
    except FileExistsError:
        pass  # made by somebody else a moment ago: theirs counts
    finally:
        written.unlink()
