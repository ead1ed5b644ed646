"""A transport for addresses that strangers give us: it reaches public servers only.

Names are resolved once, every address that comes back is judged, and the connection goes to the address that was judged,
so that a name which changes its mind (DNS rebinding) changes nothing. Redirects are the client's business: it follows
none. Connections are not kept, since one to a shared address would be used for another host's name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from serving.channels.contract import FinalRefusalError

Resolver = Callable[[str, int], Awaitable[list[str]]]

# RFC 6052: carries an IPv4 address that may be private.
_NAT64 = IPv6Network("64:ff9b::/96")


class PublicOnlyTransport(httpx.AsyncBaseTransport):
    """Connects to public addresses alone.

    Args:
        allow_private: Whether private ones are allowed after all, for tests and closed networks.
        resolve: Addresses of a name; that of the system unless told otherwise.
        inner: What carries the request to the judged address.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        resolve: Resolver | None = None,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._resolve = resolve or resolve_by_system
        self._inner = inner or httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Judge where the request leads, then carry it there.

        Raises:
            FinalRefusalError: it leads to an address that is not public.
        """
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(url.host, port)
        except (OSError, UnicodeError) as exc:
            raise httpx.ConnectError(f"{url.host} cannot be resolved: {exc}", request=request) from exc
        for address in addresses:
            if not (self._allow_private or is_public(address)):
                raise FinalRefusalError(f"{url.host} leads to {address}, must be a public address")
        host = addresses[0]
        judged = httpx.Request(
            request.method,
            url.copy_with(host=host),
            headers=request.headers,  # `Host` among them: the name, not the address
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": url.host},
        )
        return await self._inner.handle_async_request(judged)

    async def aclose(self) -> None:
        """Close what carries the requests."""
        await self._inner.aclose()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also where an IPv6 one carries an IPv4 one.

    Example:
        >>> [is_public(a) for a in ("93.184.216.34", "169.254.169.254", "::ffff:10.0.0.1", "::1")]
        [True, False, False, False]
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if carried is None and ip in _NAT64:
            carried = IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


async def resolve_by_system(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
