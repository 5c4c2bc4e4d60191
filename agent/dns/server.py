"""The sockets callers talk to, UDP and TCP, within bounds. Whatever arrives, the process lives."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from agent.dns.message import LONGEST
from agent.dns.resolver import Asker, Resolver

log = logging.getLogger(__name__)

#: Datagrams that are looked after at once; more are dropped, and their senders ask again.
MOST_DATAGRAMS = 4096
#: TCP connections, of all callers and of one, and the seconds that one may be silent.
MOST_CONNECTIONS, MOST_OF_ONE = 512, 32
IDLE = 10.0


class Server:
    """Answers on sockets until the process ends."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: Counter[str] = Counter()

    async def listen(self, addresses: Iterable[str], port: int) -> None:
        """Open both kinds of socket on every address. Raises OSError."""
        loop = asyncio.get_running_loop()
        for address in addresses:
            await asyncio.start_server(self._serve, address, port)
            await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(address, port))

    def datagram(self, transport: asyncio.DatagramTransport, data: bytes, sender: tuple[Any, ...]) -> None:
        """Look after one message."""
        if len(self._tasks) >= MOST_DATAGRAMS:
            return
        task = asyncio.get_running_loop().create_task(self._reply(transport, data, sender))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(
        self, transport: asyncio.DatagramTransport, data: bytes, sender: tuple[Any, ...]
    ) -> None:
        local = transport.get_extra_info("sockname")[0]
        answer = await self._resolver.answer(data, Asker(sender[0], sender[1], local, "UDP"))
        if answer is not None:
            transport.sendto(answer, sender)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = "?"
        try:
            caller, port = writer.get_extra_info("peername")[:2]
            local = writer.get_extra_info("sockname")[0]
            self._connections[caller] += 1
            if self._connections.total() > MOST_CONNECTIONS or self._connections[caller] > MOST_OF_ONE:
                return
            while True:
                async with asyncio.timeout(IDLE):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    if length > LONGEST:
                        return
                    data = await reader.readexactly(length)
                answer = await self._resolver.answer(data, Asker(caller, port, local, "TCP"))
                if answer is None:
                    return
                async with asyncio.timeout(IDLE):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (OSError, EOFError, TimeoutError, TypeError) as error:
            # TypeError: a connection that is gone before we look has no peer name.
            log.debug("a TCP connection of %s ends: %r", caller, error)
        finally:
            self._connections[caller] -= 1
            if self._connections[caller] <= 0:
                del self._connections[caller]
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        assert self._transport
        self._server.datagram(self._transport, data, addr)

    def error_received(self, exc: Exception) -> None:
        log.debug("an answer did not arrive: %s", exc)
