"""A way into the mesh for datagrams: each client has a socket of its own towards the pod, from which the
answers go back to it, until nobody has spoken for as long as Envoy keeps a session.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from typing import cast

#: Seconds of silence (Envoy, UdpProxyConfig.idle_timeout), and how many clients there are at most.
IDLE = 60.0
CLIENTS = 1024
_LARGEST = 1 << 16

#: As the listening socket knows a client.
Client = tuple[str, int]


class DatagramDoor(asyncio.DatagramProtocol):
    """Passes on to `place` what its socket gets, from the address `source`."""

    def __init__(self, place: tuple[str, int], source: str) -> None:
        self._place = place
        self._source = source
        self._loop = asyncio.get_running_loop()
        #: Sockets, and when they were used: the one that has been silent for longest is the first.
        self._far: OrderedDict[Client, tuple[socket.socket, float]] = OrderedDict()
        self._transport: asyncio.DatagramTransport | None = None
        self._sweeping = self._loop.call_later(IDLE / 4, self._sweep)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: Client) -> None:
        # What a datagram meets is nobody's to tell: as on the way itself, it is lost.
        with contextlib.suppress(OSError):
            self._used(client).send(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._sweeping.cancel()
        while self._far:
            self._forget_first()

    def _used(self, client: Client) -> socket.socket:
        found = self._far[client][0] if client in self._far else self._new(client)
        self._far[client] = found, self._loop.time()
        self._far.move_to_end(client)
        return found

    def _new(self, client: Client) -> socket.socket:
        if len(self._far) >= CLIENTS:
            self._forget_first()
        found = socket.socket(socket.AF_INET6 if ":" in self._source else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            found.setblocking(False)
            found.bind((self._source, 0))
            found.connect(self._place)
        except OSError:
            found.close()
            raise
        self._loop.add_reader(found, self._answered, client, found)
        return found

    def _answered(self, client: Client, found: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = found.recv(_LARGEST)
            self._used(client)
            if self._transport is not None:
                self._transport.sendto(data, client)

    def _forget_first(self) -> None:
        _, (found, _) = self._far.popitem(last=False)
        self._loop.remove_reader(found)
        found.close()

    def _sweep(self) -> None:
        while self._far and next(iter(self._far.values()))[1] < self._loop.time() - IDLE:
            self._forget_first()
        self._sweeping = self._loop.call_later(IDLE / 4, self._sweep)
