"""Ways into the mesh from the machine: for each port of a pod that serves Gateways a port on 127.0.0.1, in
the machine's own network, from which connections, or datagrams, are passed on to it.

It is what a load balancer is to a cluster, and changes nothing on the machine. Policy takes what comes this
way for the world.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.kernel.error import KernelError
from agent.kernel.namespace import run_in_netns
from mesh.model import Transport, WorkloadName
from sluice.datagram_door import DatagramDoor

log = logging.getLogger("sluice")

#: A Gateway's port is found at this much more, if that is free.
SHIFT = 8000
_CHUNK = 1 << 16


class Entrance(NamedTuple):
    """A port at which a pod serves Gateways, and what is spoken there: http, https, tls, tcp or udp."""

    pod: WorkloadName
    port: int
    transport: Transport
    spoken: str


@dataclass(frozen=True, slots=True)
class Way:
    """An entrance, reached at 127.0.0.1:`local`."""

    entrance: Entrance
    local: int

    @property
    def url(self) -> str:
        """Where a browser goes, or whoever speaks what is spoken there."""
        return f"{self.entrance.spoken}://127.0.0.1:{self.local}"


class Open(Protocol):
    """What listens."""

    def close(self) -> None: ...


class Doors:
    """Listens for what leads to pods. `machine` is the machine's network namespace, `outside` are the
    addresses (IPv4, IPv6) from which pods are called."""

    def __init__(self, machine: Path, outside: tuple[str, str]) -> None:
        self._machine = machine
        self._outside = outside
        self._open: dict[Entrance, tuple[str, Way, Open]] = {}

    @property
    def ways(self) -> list[Way]:
        return [way for _, (_, way, _) in sorted(self._open.items(), key=lambda item: item[0])]

    async def set(self, wanted: dict[Entrance, str]) -> bool:
        """From now on these, each of the pod at an address, and no others. True if that is news."""
        changed = False
        for key in [key for key, (address, _, _) in self._open.items() if wanted.get(key) != address]:
            _, _, listening = self._open.pop(key)
            listening.close()
            changed = True
        for key in sorted(wanted.keys() - self._open.keys()):
            try:
                self._open[key] = await self._listen(key, wanted[key])
                changed = True
            except (OSError, KernelError) as error:
                pod, port, transport, _ = key
                log.warning(
                    "no way from this machine to %s port %d of pod %s: %s", transport, port, pod, error
                )
        return changed

    async def close(self) -> None:
        await self.set({})

    async def _listen(self, entrance: Entrance, address: str) -> tuple[str, Way, Open]:
        place, source = (address, entrance.port), self._outside[":" in address]

        async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _pass(reader, writer, place, source)

        listening = run_in_netns(self._machine, lambda: _bind(entrance))
        way = Way(entrance, listening.getsockname()[1])
        opened: Open
        if entrance.transport == "UDP":
            loop = asyncio.get_running_loop()
            opened, _ = await loop.create_datagram_endpoint(
                lambda: DatagramDoor(place, source), sock=listening
            )
        else:
            opened = await asyncio.start_server(passed, sock=listening)
        pod, port, transport, _ = entrance
        log.info("pod %s %s port %d is at %s", pod, transport, port, way.url)
        return address, way, opened


def _bind(entrance: Entrance) -> socket.socket:
    """At the shifted port, or at any that is free."""
    for wanted in (entrance.port + SHIFT, 0):
        with contextlib.suppress(OSError, OverflowError):
            if entrance.transport == "UDP":
                return _datagrams(wanted)
            return socket.create_server(("127.0.0.1", wanted))
    raise OSError("no port is free")


def _datagrams(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        found.bind(("127.0.0.1", port))
    except BaseException:
        found.close()
        raise
    return found


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: tuple[str, int], source: str
) -> None:
    """Both ways, until both ends have finished; each end of one half ends the other's."""
    try:
        far_reader, far_writer = await asyncio.open_connection(*place, local_addr=(source, 0))
    except OSError:
        writer.transport.abort()
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(reader, far_writer))
        group.create_task(_copy(far_reader, writer))
    for end in (writer, far_writer):
        end.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
    except OSError:
        target.transport.abort()
