"""What adapters over HTTP share: one pooled client, and one mapping of failures to the contract's errors.

| what happens | error |
|---|---|
| no connection, no name, no free connection in time | RetryLaterError: certainly not taken |
| the connection breaks or is silent after the request went out; 502, 504 | UnknownOutcomeError |
| 401, 402, 403, 407, 408, 425: the account or the moment is wrong, not the message | RetryLaterError |
| 429 | QuotaError with Retry-After |
| other 5xx | RetryLaterError with Retry-After |
| 3xx (redirects are not followed), other 4xx | FinalRefusalError |

An adapter looks at its provider's own error codes first and leaves the rest to `refusal`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from serving.channels.adapter_settings import HttpSettings
from serving.channels.contract import (
    Capabilities,
    ChannelError,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    QuotaError,
    RetryLaterError,
    UnknownOutcomeError,
)

# Meta's gateway wants a product and a version of three numbers.
USER_AGENT = "nextchannel/1.0.0"
_NOT_THE_MESSAGE = frozenset({401, 402, 403, 407, 408, 425})
_PERHAPS_TAKEN = frozenset({502, 504})
_LONGEST_WAIT = timedelta(days=1)
_MOST_WORDS = 300


class HttpAdapter:
    """The parts that adapters over HTTP have in common.

    Args:
        client: Made by `http_client`; closed with the adapter.
    """

    name: str
    capabilities: Capabilities

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """For a provider without webhook: whatever claims to come from it is forged."""
        raise ForgedEventsError(f"{self.name} has no webhook")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def http_client(
    settings: HttpSettings,
    base_url: str = "",
    transport: httpx.AsyncBaseTransport | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    http2: bool = False,
) -> httpx.AsyncClient:
    """A client for one provider; nothing is connected yet.

    Args:
        settings: Time limit and connections.
        base_url: Address that paths are appended to.
        transport: Stands in for the network.
        headers: Sent with every request.
        http2: Whether the provider speaks HTTP/2 only.
    """
    limits = httpx.Limits(max_connections=settings.connections)
    return httpx.AsyncClient(
        base_url=base_url,
        transport=transport or httpx.AsyncHTTPTransport(limits=limits, http1=not http2, http2=http2),
        headers={"user-agent": USER_AGENT, **(headers or {})},
        timeout=settings.timeout_seconds,
        follow_redirects=False,
        trust_env=False,
    )


async def exchange(
    client: httpx.AsyncClient, method: str, url: str, *, read_body: bool = True, **parts: Any
) -> httpx.Response:
    """One request and its answer, whatever its status.

    Args:
        client: Of the provider.
        method: For example POST.
        url: Path, or whole address.
        read_body: Whether the answer's body matters; that of a stranger's server is better not read.
        **parts: As `httpx.AsyncClient.request` takes them.

    Raises:
        FinalRefusalError: the request cannot be written at all.
        RetryLaterError: it certainly did not arrive.
        UnknownOutcomeError: it may have arrived.
    """
    try:
        if read_body:
            return await client.request(method, url, **parts)
        async with client.stream(method, url, **parts) as response:
            return httpx.Response(response.status_code, headers=response.headers)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
        raise RetryLaterError(f"cannot connect: {exc or type(exc).__name__}") from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, UnicodeError) as exc:
        raise FinalRefusalError(f"the request cannot be made: {exc}") from exc
    except httpx.TransportError as exc:
        raise UnknownOutcomeError(f"the answer was lost: {exc or type(exc).__name__}") from exc


def refusal(response: httpx.Response, detail: str = "") -> ChannelError:
    """The error that a status means where the provider's own code says nothing more."""
    status = response.status_code
    said = f"{status} {detail or words(response)}".strip()
    if status == 429:
        return QuotaError(said, retry_after(response))
    if status in _PERHAPS_TAKEN:
        return UnknownOutcomeError(said)
    if status in _NOT_THE_MESSAGE or status >= 500:
        return RetryLaterError(said, retry_after(response))
    return FinalRefusalError(said)


def retry_after(response: httpx.Response) -> timedelta | None:
    """The header Retry-After, seconds or a date (RFC 9110 section 10.2.3), at most a day; None where there is none."""
    given = response.headers.get("retry-after", "").strip()
    if given.isdigit():
        return min(timedelta(seconds=int(given[:9])), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(given)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(timedelta(), min(until - datetime.now(UTC), _LONGEST_WAIT))


def answer_of(response: httpx.Response) -> dict[str, Any]:
    """The JSON object in the answer; empty where it holds none."""
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def words(response: httpx.Response) -> str:
    """The provider's words, shortened."""
    return " ".join(response.text.split())[:_MOST_WORDS]
