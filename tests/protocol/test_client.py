"""The node's client against the real server, and against its absence, restart and sudden death."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.client import DiscoveryClient
from mesh.discovery.resource import Resource
from mesh.discovery.session import Acked, Nacked
from mesh.discovery.subscriber import Update
from tests.protocol.served import NODE, Served, resource

TYPES = ("type.googleapis.com/test.A", "type.googleapis.com/test.B")
A, B = TYPES
SERVER = """
import asyncio, sys
from mesh.discovery.resource import Resource
from xds.server import AdsServer

async def main() -> None:
    kind, path, *names = sys.argv[1:]
    found = {name: Resource.of(kind, name, name.encode()) for name in names}
    server = AdsServer(lambda node: {kind: found}, order=[kind])
    await server.start(["unix:" + path])
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Node:
    """A client that keeps what it gets and, unless told otherwise, accepts it at once."""

    def __init__(self, address: str) -> None:
        self.held: dict[str, dict[str, Resource]] = {type_url: {} for type_url in TYPES}
        self.updates: list[Update] = []
        self.accepts: Callable[[Update], bool] = lambda update: True
        self.client = DiscoveryClient(address, NODE, TYPES, self._take)
        self._news = asyncio.Event()

    def _take(self, update: Update) -> None:
        self.updates.append(update)
        self.held[update.type_url].update(update.changed)
        for name in update.removed:
            self.held[update.type_url].pop(name, None)
        if self.accepts(update):
            self.client.ack(update)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    task = asyncio.create_task(node.client.run())
    try:
        yield node
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(path: Path, *names: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A control plane in a process of its own that serves these names of type A."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, A, str(path), *names, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    with caplog.at_level(logging.INFO, "agent.client"):
        yield lambda: [
            r.getMessage()
            for r in caplog.records
            if r.name == "agent.client" and r.levelno >= logging.WARNING  # grpc complains in asyncio's name
        ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_gets_what_is_there_what_changes_and_what_goes(served: Served) -> None:
    a, b = resource(A, "a"), resource(B, "b")
    served.put(A, a)
    served.put(B, b)
    async with running(Node(served.address)) as node:
        await node.until(lambda: node.held == {A: {"a": a}, B: {"b": b}})
        changed = resource(A, "a", "2")
        served.put(A, changed)
        await node.until(lambda: node.held[A] == {"a": changed})
        served.remove(B, "b")
        await node.until(lambda: node.held[B] == {})
    assert node.updates[-1].removed == ("b",)


async def test_an_update_of_the_last_type_may_be_accepted_later_and_until_then_it_alone_waits(
    served: Served,
) -> None:
    served.put(B, resource(B, "b"))
    node = Node(served.address)
    node.accepts = lambda update: update.type_url != B
    async with running(node):
        await node.until(lambda: "b" in node.held[B])
        (late,) = (update for update in node.updates if update.type_url == B)
        served.put(B, resource(B, "b", "2"))
        served.put(B, resource(B, "b", "3"))
        served.put(A, resource(A, "a"))
        await node.until(lambda: "a" in node.held[A])
        assert node.held[B] == {"b": resource(B, "b")}
        node.client.ack(late)
        await node.until(lambda: node.held[B] == {"b": resource(B, "b", "3")})
    assert len([update for update in node.updates if update.type_url == B]) == 2


async def test_a_refusal_reaches_the_server_with_its_reason(served: Served) -> None:
    served.put(A, resource(A, "a"))
    node = Node(served.address)
    node.accepts = lambda update: False
    async with running(node):
        await node.until(lambda: "a" in node.held[A])
        node.client.nack(node.updates[-1], "the disk is full")
        await until(lambda: any(isinstance(event, Nacked) for _, event in served.events))
    refused = next(event for _, event in served.events if isinstance(event, Nacked))
    assert (refused.message, refused.names) == ("the disk is full", ("a",))


async def test_it_waits_for_a_control_plane_that_is_not_there_yet_and_says_so_once(
    tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    path = tmp_path / "xds.sock"
    async with running(Node(f"unix:{path}")) as node:
        await until(lambda: bool(warnings()))
        async with serving(path, "a"):
            await node.until(lambda: "a" in node.held[A])
            (line,) = warnings()
    assert line.startswith(f"connect to unix:{path} failed; ")
    assert "is the control plane running?" in line


async def test_it_survives_the_sudden_death_of_the_control_plane(
    tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    path = tmp_path / "xds.sock"
    node = Node(f"unix:{path}")
    async with serving(path, "a", "b") as process, running(node):
        await node.until(lambda: set(node.held[A]) == {"a", "b"})
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await until(lambda: bool(warnings()))
        assert set(node.held[A]) == {"a", "b"}, "what is held stays while nobody is there"
        node.updates.clear()
        async with serving(path, "b", "c"):
            await node.until(lambda: set(node.held[A]) == {"b", "c"})
            (line,) = warnings()
    (update,) = (update for update in node.updates if update.type_url == A)
    assert (set(update.changed), update.removed) == ({"c"}, ("a",))
    assert line.startswith(f"the stream from unix:{path} broke; ")


async def test_what_was_not_accepted_before_the_connection_broke_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "xds.sock"
    node = Node(f"unix:{path}")
    node.accepts = lambda update: False

    def of_a() -> list[Update]:
        return [update for update in node.updates if update.type_url == A]

    async with running(node):
        async with serving(path, "a"):
            await node.until(lambda: len(of_a()) == 1)
        node.accepts = lambda update: True
        async with serving(path, "a"):
            await node.until(lambda: len(of_a()) == 2)
            node.client.ack(of_a()[0])
    first, second = of_a()
    assert set(second.changed) == {"a"}
    assert second.connection > first.connection


async def test_what_it_held_in_an_earlier_life_is_not_sent_again(served: Served) -> None:
    a, b = resource(A, "a"), resource(A, "b")
    served.put(A, a, b)
    node = Node(served.address)
    node.client = DiscoveryClient(served.address, NODE, TYPES, node._take, {A: {"a": a.version}})
    async with running(node):
        await node.until(lambda: "b" in node.held[A])
        await until(lambda: any(isinstance(event, Acked) for _, event in served.events))
    assert node.held[A] == {"b": b}
