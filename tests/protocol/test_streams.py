"""Many streams: two of one node, hundreds at once, and the server's own socket."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from mesh.discovery.envoy import CLUSTER, LISTENER
from tests.protocol.bare_client import DeltaClient, WorldClient, anys, versions
from tests.protocol.served import NODE, Served, resource
from xds.server import AdsServer

STORM = 500


async def test_two_streams_of_one_node_are_served_each_by_itself(served: Served) -> None:
    a, b = resource(CLUSTER, "a"), resource(LISTENER, "b")
    served.put(CLUSTER, a)
    served.put(LISTENER, b)
    async with DeltaClient(served.address) as one:
        async with WorldClient(served.address) as other:
            await one.ask(CLUSTER)
            assert await one.take(CLUSTER) == (versions(a), ())
            await other.ask(LISTENER)
            assert await other.take(LISTENER) == anys(b)
            assert served.ads.nodes() == {NODE: 2}
            changed = resource(CLUSTER, "a", "2")
            served.put(CLUSTER, changed)
            assert await one.take(CLUSTER) == (versions(changed), ())
            await other.assert_silent()
        served.put(CLUSTER, a)
        assert await one.take(CLUSTER) == (versions(a), ())
        await one.assert_silent()


async def test_a_stream_that_reads_nothing_holds_up_no_other(served: Served) -> None:
    big = [resource(CLUSTER, f"c{n}", "x" * 100_000) for n in range(40)]
    served.put(CLUSTER, *big)
    async with DeltaClient(served.address) as deaf, DeltaClient(served.address) as client:
        await deaf.ask(CLUSTER)
        await client.ask(CLUSTER)
        assert await client.take(CLUSTER) == (versions(*big), ())
        served.put(CLUSTER, resource(CLUSTER, "c0"))
        assert await client.take(CLUSTER) == (versions(resource(CLUSTER, "c0")), ())
        await client.assert_silent()


async def test_a_publication_for_one_node_is_sent_to_no_other(served: Served) -> None:
    served.put(CLUSTER, resource(CLUSTER, "a"))
    served.set(CLUSTER, resource(CLUSTER, "a"), node="other")
    async with DeltaClient(served.address) as client, DeltaClient(served.address, node="other") as other:
        for each in (client, other):
            await each.ask(CLUSTER)
            await each.take(CLUSTER)
        served.set(CLUSTER, resource(CLUSTER, "a", "2"), node="other")
        served.ads.publish("other")
        assert await other.take(CLUSTER) == (versions(resource(CLUSTER, "a", "2")), ())
        await client.assert_silent()


async def test_a_storm_of_streams_is_served_to_the_last(served: Served) -> None:
    a, b = resource(CLUSTER, "a"), resource(CLUSTER, "b")
    served.put(CLUSTER, a)
    clients = [DeltaClient(served.address) for _ in range(STORM)]

    async def take(client: DeltaClient) -> tuple[dict[str, str], tuple[str, ...]]:
        response = await client.next()
        await client.ack(response)
        return {name: version for name, version, _ in response.resources}, response.removed

    try:
        await asyncio.gather(*(client.ask(CLUSTER) for client in clients))
        assert await asyncio.gather(*map(take, clients)) == [(versions(a), ())] * STORM
        served.put(CLUSTER, b)
        assert await asyncio.gather(*map(take, clients)) == [(versions(b), ())] * STORM
        assert served.ads.nodes() == {NODE: STORM}
    finally:
        await asyncio.gather(*(client.close() for client in clients))


async def test_the_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    server = Served()
    path = tmp_path / "xds.sock"
    await server.start(f"unix:{path}")
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        server.put(CLUSTER, resource(CLUSTER, "a"))
        async with DeltaClient(server.address) as client:
            await client.ask(CLUSTER)
            assert await client.take(CLUSTER) == (versions(resource(CLUSTER, "a")), ())
    finally:
        await server.stop()


async def test_no_stream_outlives_the_server(tmp_path: Path) -> None:
    """Whoever closes the loop next would break it off in the middle."""
    server = Served()
    await server.start(f"unix:{tmp_path / 'xds.sock'}")
    server.put(CLUSTER, resource(CLUSTER, "a"))
    async with DeltaClient(server.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await server.stop()
        assert server.ads.nodes() == {}


async def test_an_address_that_is_taken_is_refused_with_a_reason(served: Served) -> None:
    second = AdsServer(lambda node: None)
    with pytest.raises(OSError, match="is another control plane running"):
        await second.start([served.address])
    await second.stop()
