"""One Envoy's view of the agent: a real gRPC client on the relay's socket, playing Envoy."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc.aio
import pytest

from agent.access_log import METHOD, Logged, LoggedConnection, LoggedRequest
from agent.client import DiscoveryClient
from agent.relay import Relay
from mesh.discovery.envoy import CLUSTER, LISTENER
from mesh.discovery.resource import Resource, Snapshot
from mesh.discovery.session import Event, Nacked
from mesh.discovery.subscriber import Update
from mesh.discovery.wire import bytes_field, integer_field, text_field


class EnvoyInTest:
    """Accepts everything but what `refuse` holds."""

    def __init__(self, path: Path, refuse: frozenset[str] = frozenset()) -> None:
        self.held: dict[tuple[str, str], str] = {}
        self._refuse = refuse
        self._client = DiscoveryClient(f"unix:{path}", "", (CLUSTER, LISTENER), self._take)
        self._task = asyncio.create_task(self._client.run())

    def _take(self, update: Update) -> None:
        if self._refuse & {resource.version for resource in update.changed.values()}:
            self._client.nack(update, "no such thing")
            return
        for name, resource in update.changed.items():
            self.held[update.type_url, name] = resource.version
        for name in update.removed:
            self.held.pop((update.type_url, name), None)
        self._client.ack(update)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Told:
    """What the relay reported."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.settled: list[int] = []
        self.logged: list[Logged] = []


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def relay(tmp_path: Path, told: Told) -> AsyncIterator[Relay]:
    made = Relay(tmp_path / "p", told.events.append, told.settled.append, told.logged.append)
    await made.start()
    yield made
    await made.stop()


def snapshot(version: str) -> Snapshot:
    return {
        CLUSTER: {"c": Resource("c", "1", b"c")},
        LISTENER: {name: Resource(name, version, b"l") for name in ("l", "m")},
    }


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


def test_only_root_may_enter_the_sockets(relay: Relay) -> None:
    assert stat.S_IMODE(relay.discovery.parent.stat().st_mode) == 0o700
    for path in (relay.discovery, relay.access_log):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_it_is_settled_when_every_type_is_accepted_and_again_for_each_revision(
    relay: Relay, told: Told
) -> None:
    envoy = EnvoyInTest(relay.discovery)
    relay.serve(1, snapshot("v1"))
    await until(lambda: told.settled == [1])
    assert envoy.held == {(CLUSTER, "c"): "1", (LISTENER, "l"): "v1", (LISTENER, "m"): "v1"}
    relay.serve(2, snapshot("v2"))
    await until(lambda: told.settled == [1, 2])
    assert envoy.held[LISTENER, "l"] == "v2"
    await envoy.end()


async def test_an_envoy_that_is_back_is_settled_anew(relay: Relay, told: Told) -> None:
    relay.serve(1, snapshot("v1"))
    for times in (1, 2):
        envoy = EnvoyInTest(relay.discovery)
        await until(lambda times=times: told.settled == [1] * times)  # type: ignore[misc]
        await envoy.end()


async def test_a_refused_resource_is_named_and_nothing_is_settled_until_it_is_replaced(
    relay: Relay, told: Told
) -> None:
    envoy = EnvoyInTest(relay.discovery, frozenset({"bad"}))
    good = snapshot("v1")
    relay.serve(1, {**good, LISTENER: {**good[LISTENER], "l": Resource("l", "bad", b"l")}})

    def refused() -> set[tuple[str, ...]]:
        return {event.names for event in told.events if isinstance(event, Nacked)}

    await until(lambda: ("l",) in refused() and (LISTENER, "m") in envoy.held)
    assert told.settled == []
    relay.serve(2, good)
    await until(lambda: told.settled == [2])
    assert envoy.held[LISTENER, "l"] == "v1"
    await envoy.end()


async def test_the_access_log_is_received(relay: Relay, told: Told) -> None:
    request = bytes_field(3, text_field(5, "/a"))
    connection = bytes_field(1, text_field(15, "cluster") + integer_field(33, 3))
    async with grpc.aio.insecure_channel(f"unix:{relay.access_log}") as channel:
        call = channel.stream_unary(METHOD)()
        await call.write(bytes_field(2, bytes_field(1, request)))
        await call.write(bytes_field(3, bytes_field(1, connection)))
        await until(lambda: len(told.logged) == 2)
        call.cancel()
    assert told.logged == [LoggedRequest(path="/a"), LoggedConnection(cluster="cluster", ended=True)]
