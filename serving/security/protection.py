"""What the operator decides about the doors of the service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from models.domain.errors import require

MEBIBYTE = 1024 * 1024
# Nearly every request names the same one or two.
_HOSTS_REMEMBERED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """How the HTTP side is protected.

    Attributes:
        host: Address that the service listens on.
        require_keys: False opens the service to whoever reaches it; refused unless `host` is this machine alone.
        most_body_bytes: Largest body of a request.
        requests_per_second: Of one key on this replica; 0: no limit.
        burst: Requests that a key may make at once after a pause.
        https: Whether browsers reach the service by https alone.
        docs: Whether `/docs` and `/openapi.json` are there.
    """

    host: str = "127.0.0.1"
    require_keys: bool = True
    most_body_bytes: int = 8 * MEBIBYTE
    requests_per_second: float = 1_000.0
    burst: int = 2_000
    https: bool = False
    docs: bool = True

    def __post_init__(self) -> None:
        require(
            self.require_keys or is_loopback(self.host),
            "NEXTCHANNEL_REQUIRE_KEYS",
            self.require_keys,
            f"must be true where the service listens on {self.host}: only a loopback address may be open",
        )

    def keys_required(self, no_key_yet: bool) -> bool:
        """Whether callers need a key: always where others than this machine can reach the service."""
        if not is_loopback(self.host):
            return True
        return self.require_keys and not no_key_yet


@lru_cache(_HOSTS_REMEMBERED)
def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(_HOSTS_REMEMBERED)
def is_local_name(host: str) -> bool:
    """Whether a Host header names this machine: a loopback address, or a name without a dot.

    A stranger's page can make a browser ask 127.0.0.1 under the stranger's own domain (DNS rebinding); a domain has a
    dot.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return is_loopback(name) or not any(character in name for character in ".:[]")
