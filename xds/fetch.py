"""GET of a URL that a user wrote, from where the control plane stands (threat N26).

What is judged is the address, not the name: every connection looks its host up, and goes to nothing but an
address that was found good then. A name that means another address a moment later (rebinding), a redirect and
an unusual spelling of an address all meet the same question. Knows no keys and no modules.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from xds.allowed import Allowed

#: Bytes of an answer unless more are allowed; redirects that are followed.
LARGEST, REDIRECTS = 1 << 20, 3

_REDIRECTING = frozenset({301, 302, 303, 307, 308})

#: Threads of their own: those of others must not wait for users' names.
_LOOKUPS = ThreadPoolExecutor(4, thread_name_prefix="lookup")

#: The addresses of a host, as text. Raises OSError.
Lookup = Callable[[str], Awaitable[list[str]]]


class Unfetched(Exception):
    """Why there is no answer to use, in words that quote nothing of it."""


async def lookup(host: str) -> list[str]:
    """As the machine resolves names, which can take longer than anybody waits."""
    ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, ask)
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def fetch(
    url: str,
    timeout: float,
    allowed: Allowed,
    look_up: Lookup = lookup,
    *,
    largest: int = LARGEST,
    accept: str = "application/json",
) -> bytes:
    """The body of a 200, of at most `largest` bytes. `timeout` is the seconds that all of it may take. Raises
    Unfetched."""
    try:
        async with asyncio.timeout(timeout):
            return await _fetch(URL(url), allowed, look_up, largest, accept)
    except TimeoutError:
        raise Unfetched(f"no answer within {timeout:g} s") from None
    except aiohttp.ClientConnectorDNSError:
        raise Unfetched("its name has no address") from None
    except aiohttp.ClientConnectorCertificateError:
        raise Unfetched("its certificate is not to be trusted") from None
    except aiohttp.ClientConnectorError:
        raise Unfetched("it cannot be reached") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unfetched(f"its answer cannot be read ({type(error).__name__})") from None


async def _fetch(url: URL, allowed: Allowed, look_up: Lookup, largest: int, accept: str) -> bytes:
    connector = aiohttp.TCPConnector(resolver=_Guard(allowed, look_up), use_dns_cache=False, force_close=True)
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False) as session:
        for _ in range(REDIRECTS + 1):
            _check(url, allowed)
            async with session.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTING:
                    return await _body(response, largest)
                target = url.join(URL(response.headers.get("Location", "")))
                if url.scheme == "https" and target.scheme != "https":
                    raise Unfetched("it redirects to a place without TLS")
                url = target
    raise Unfetched(f"it redirects more than {REDIRECTS} times")


def _check(url: URL, allowed: Allowed) -> None:
    """A host that is an address is not looked up, so it is judged here."""
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise Unfetched("it is not HTTP")
    try:
        ip_address(url.raw_host)
    except ValueError:
        return
    if not allowed.permits(url.raw_host, url.raw_host):
        raise _forbidden(url.raw_host, allowed)


def _forbidden(what: str, allowed: Allowed) -> Unfetched:
    return Unfetched(f"{what} is no public address, and {allowed.option} does not name it")


async def _body(response: aiohttp.ClientResponse, largest: int) -> bytes:
    if response.status != 200:
        raise Unfetched(f"it answers {response.status}")
    found = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        found += chunk
        if len(found) > largest:
            raise Unfetched(f"its answer is longer than {largest} bytes")
    return bytes(found)


class _Guard(AbstractResolver):
    """Gives the connector none but good addresses, which it then connects to without asking again."""

    def __init__(self, allowed: Allowed, look_up: Lookup) -> None:
        self._allowed = allowed
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._look_up(host)
        good = [address for address in dict.fromkeys(found) if self._allowed.permits(host, address)]
        if found and not good:
            raise _forbidden(f"{found[0]} of {host}", self._allowed)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in good
        ]

    async def close(self) -> None:
        pass
