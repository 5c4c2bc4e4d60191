"""The server against the real Envoy, in both variants: what the protocol promises, seen in traffic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from mesh.discovery.session import Acked, Nacked, Subscribed
from tests.protocol.proxied import PATIENCE, Envoy, backend, cluster, endpoints, envoy, listener, routes
from tests.protocol.served import NODE, Served

Api = Literal["GRPC", "DELTA_GRPC"]
both = pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"], ids=["state of the world", "delta"])
delta = pytest.mark.parametrize("api", ["DELTA_GRPC"], ids=["delta"])

#: Envoy gives up waiting for the endpoints of a changed cluster after 15 s: a promptly ACKed change
#: is one that did not need that.
PROMPT = 5.0


@dataclass
class Setup:
    served: Served
    envoy: Envoy
    one: int
    two: int

    def count(self, type_url: str) -> int:
        """Responses of a type that were accepted."""
        return sum(isinstance(e, Acked) and e.type_url == type_url for _, e in self.served.events)

    async def until_acked(self, type_url: str, more_than: int, patience: float = PATIENCE) -> None:
        async with asyncio.timeout(patience):
            while self.count(type_url) <= more_than:
                await asyncio.sleep(0.005)

    async def refusals(self, type_url: str) -> list[Nacked]:
        """Waits for one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [e for _, e in self.served.events if isinstance(e, Nacked) and e.type_url == type_url]
                if found:
                    return found
                await asyncio.sleep(0.005)


@pytest.fixture
async def setup(served: Served, tmp_path: Path, api: Api) -> AsyncIterator[Setup]:
    """Cluster `a` with backend `one` behind listener `l` and routes `r`; it serves."""
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(backend("one"))
        two = await stack.enter_async_context(backend("two"))
        served.set(CLUSTER, cluster("a"))
        served.set(ENDPOINTS, endpoints("a", one))
        served.set(LISTENER, listener("l", "r", tmp_path / "listen.sock"))
        served.set(ROUTES, routes("r", "a"))
        proxy = await stack.enter_async_context(envoy(tmp_path, served.address, NODE, api))
        await proxy.until_it_says("one")
        yield Setup(served, proxy, one, two)


@both
async def test_a_change_of_a_cluster_alone_is_acked_promptly(setup: Setup) -> None:
    for timeout in (2, 3, 4):
        before = setup.count(CLUSTER)
        setup.served.put(CLUSTER, cluster("a", timeout=timeout))
        await setup.until_acked(CLUSTER, before, PROMPT)
        assert await setup.envoy.get() == (200, "one")


@both
async def test_a_change_of_endpoints_moves_traffic(setup: Setup) -> None:
    for port, body in ((setup.two, "two"), (setup.one, "one")):
        setup.served.put(ENDPOINTS, endpoints("a", port))
        await setup.envoy.until_it_says(body)


@both
async def test_removed_endpoints_get_no_more_traffic(setup: Setup) -> None:
    before = setup.count(ENDPOINTS)
    setup.served.remove(ENDPOINTS, "a")
    await setup.until_acked(ENDPOINTS, before)
    assert (await setup.envoy.get())[0] == 503
    setup.served.put(ENDPOINTS, endpoints("a", setup.one))
    await setup.envoy.until_it_says("one")


@both
async def test_a_new_cluster_and_a_route_to_it_come_in_one_push_without_a_failed_request(
    setup: Setup,
) -> None:
    statuses: set[int] = set()

    async def ask() -> None:
        while True:
            statuses.add((await setup.envoy.get())[0])

    asking = asyncio.create_task(ask())
    try:
        for turn in range(10):
            name, port, body = (
                (f"b{turn}", setup.two, "two") if turn % 2 == 0 else (f"a{turn}", setup.one, "one")
            )
            setup.served.set(CLUSTER, cluster(name))
            setup.served.set(ENDPOINTS, endpoints(name, port))
            setup.served.set(ROUTES, routes("r", name))
            setup.served.publish()
            await setup.envoy.until_it_says(body)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert statuses == {200}


@both
async def test_a_cluster_without_endpoints_holds_nothing_up(setup: Setup) -> None:
    before = setup.count(CLUSTER)
    setup.served.put(CLUSTER, cluster("empty"))
    await setup.until_acked(CLUSTER, before, PROMPT)
    setup.served.put(ROUTES, routes("r", "empty"))
    async with asyncio.timeout(PROMPT):
        while (await setup.envoy.get())[0] != 503:
            await asyncio.sleep(0.01)


@both
async def test_a_change_of_a_listener_serves_on_with_the_routes_it_had(setup: Setup) -> None:
    before = setup.count(LISTENER)
    setup.served.put(LISTENER, listener("l", "r", setup.envoy.listen, stat_prefix="another"))
    await setup.until_acked(LISTENER, before, PROMPT)
    await setup.envoy.until_it_says("one")


@both
async def test_a_refused_listener_leaves_the_last_good_one_in_force(setup: Setup) -> None:
    setup.served.put(LISTENER, listener("l", "r", setup.envoy.listen, stat_prefix=""))
    (refused,) = await setup.refusals(LISTENER)
    assert refused.names == ("l",)
    assert refused.message
    assert await setup.envoy.get() == (200, "one")
    before = setup.count(LISTENER)
    setup.served.put(LISTENER, listener("l", "r", setup.envoy.listen, stat_prefix="mended"))
    await setup.until_acked(LISTENER, before, PROMPT)
    assert len(await setup.refusals(LISTENER)) == 1


@delta
async def test_of_a_refused_push_the_good_are_served_and_the_guilty_is_named(setup: Setup) -> None:
    setup.served.set(ENDPOINTS, endpoints("a", setup.one), endpoints("good", setup.two))
    setup.served.set(ROUTES, routes("r", "good"))
    setup.served.put(CLUSTER, cluster("bad", timeout=-5), cluster("good"), cluster("fine"))
    await setup.envoy.until_it_says("two")
    assert (await setup.refusals(CLUSTER))[-1].names == ("bad",)


@both
async def test_while_the_control_plane_is_away_traffic_flows_and_then_changes_arrive(setup: Setup) -> None:
    await setup.served.stop()
    assert await setup.envoy.get() == (200, "one")
    setup.served.set(ENDPOINTS, endpoints("a", setup.two))
    await setup.served.start(setup.served.address)
    await setup.envoy.until_it_says("two")


@delta
async def test_an_envoy_that_comes_back_is_told_nothing_it_knows(setup: Setup) -> None:
    await setup.served.stop()
    setup.served.events.clear()
    await setup.served.start(setup.served.address)
    async with asyncio.timeout(PATIENCE):
        while len({e.type_url for _, e in setup.served.events if isinstance(e, Subscribed)}) < 4:
            await asyncio.sleep(0.01)
    setup.served.put(ENDPOINTS, endpoints("a", setup.two))
    await setup.envoy.until_it_says("two")
    await setup.until_acked(ENDPOINTS, 0)
    acked = [event for _, event in setup.served.events if isinstance(event, Acked)]
    assert [(event.type_url, set(event.versions)) for event in acked] == [(ENDPOINTS, {"a"})]
