"""The way into the mesh for datagrams, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sluice.datagram_door import DatagramDoor


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def bound(sockets: ExitStack) -> socket.socket:
    found = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    found.setblocking(False)
    found.bind(("127.0.0.1", 0))
    return found


@contextlib.asynccontextmanager
async def door(place: tuple[str, int], sockets: ExitStack) -> AsyncIterator[tuple[str, int]]:
    listening = bound(sockets)
    address = listening.getsockname()
    made, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DatagramDoor(place, "127.0.0.1"), sock=listening
    )
    try:
        yield address
    finally:
        made.close()
        await asyncio.sleep(0)


async def passed(client: socket.socket, server: socket.socket, at: tuple[str, int]) -> tuple[str, int]:
    """A word goes there and an answer back; by which socket of the door."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        await loop.sock_sendto(client, b"word", at)
        data, peer = await loop.sock_recvfrom(server, 64)
        assert data == b"word"
        await loop.sock_sendto(server, b"answer", peer)
        assert (await loop.sock_recvfrom(client, 64))[0] == b"answer"
    known: tuple[str, int] = peer
    return known


async def test_each_client_has_a_socket_and_gets_its_own_answers(sockets: ExitStack) -> None:
    server, one, two = (bound(sockets) for _ in range(3))
    async with door(server.getsockname(), sockets) as at:
        first, second = await passed(one, server, at), await passed(two, server, at)
        assert first != second
        assert await passed(one, server, at) == first


async def test_the_client_that_was_silent_longest_makes_room(
    sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.datagram_door.CLIENTS", 2)
    server, one, two, three = (bound(sockets) for _ in range(4))
    async with door(server.getsockname(), sockets) as at:
        first, second = await passed(one, server, at), await passed(two, server, at)
        assert await passed(one, server, at) == first
        await passed(three, server, at)
        assert await passed(one, server, at) == first
        assert await passed(two, server, at) != second


async def test_a_client_is_forgotten_after_a_while(
    sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.datagram_door.IDLE", 0.04)
    server, one = bound(sockets), bound(sockets)
    async with door(server.getsockname(), sockets) as at:
        first = await passed(one, server, at)
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                    again.bind(first)
                    break
                await asyncio.sleep(0.01)
        assert await passed(one, server, at)


async def test_nobody_behind_the_door_is_silence(sockets: ExitStack) -> None:
    """What a refusal does to the door's socket is no end of the door."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    server, one = bound(sockets), bound(sockets)
    place = server.getsockname()
    async with door(place, sockets) as at:
        server.close()
        for _ in range(3):
            one.sendto(b"word", at)
            await asyncio.sleep(0.01)
        again = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        again.setblocking(False)
        again.bind(place)
        await passed(one, again, at)
    assert errors == []
