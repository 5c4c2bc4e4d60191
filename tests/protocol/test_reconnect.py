"""A client that comes back says what it holds, and hears only of the difference."""

from __future__ import annotations

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, no_endpoints
from tests.protocol.bare_client import SENTINEL, DeltaClient, WorldClient, anys, versions
from tests.protocol.served import NODE, Served, cluster, resource

A, B = resource(CLUSTER, "a"), resource(CLUSTER, "b")


@pytest.mark.parametrize("names", [(), ("*",), ("a", "b")], ids=["legacy", "star", "names"])
async def test_nothing_is_said_of_what_is_unchanged(served: Served, names: tuple[str, ...]) -> None:
    served.put(CLUSTER, A, B)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, *names, initial=versions(A, B))
        await client.assert_silent()


@pytest.mark.parametrize("names", [(), ("*",), ("a", "b")], ids=["legacy", "star", "names"])
async def test_what_changed_meanwhile_is_sent(served: Served, names: tuple[str, ...]) -> None:
    served.put(CLUSTER, A, B)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, *names, initial={"a": A.version, "b": "older"})
        assert await client.take(CLUSTER) == (versions(B), ())
        await client.assert_silent()


@pytest.mark.parametrize("names", [(), ("*",), ("a", "gone")], ids=["legacy", "star", "names"])
async def test_what_vanished_meanwhile_is_removed(served: Served, names: tuple[str, ...]) -> None:
    served.put(CLUSTER, A)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, *names, initial={"a": A.version, "gone": "1"})
        # An answer first: it comes behind whatever else the client has to say of itself.
        assert await client.take(CLUSTER) == ({}, ())
        assert await client.take(CLUSTER) == ({}, ("gone",))
        await client.assert_silent()


async def test_what_vanished_meanwhile_is_removed_after_routes_have_left_it(served: Served) -> None:
    served.put(CLUSTER, A)
    served.put(ROUTES, resource(ROUTES, "r", "to a"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, initial={"a": A.version, "gone": "1"})
        await client.ask(ROUTES, "r", initial={"r": "to gone"})
        assert await client.take(CLUSTER) == ({}, ())
        assert await client.take(ROUTES) == (versions(resource(ROUTES, "r", "to a")), ())
        assert await client.take(CLUSTER) == ({}, ("gone",))
        await client.assert_silent()


async def test_what_was_held_but_is_not_asked_for_is_not_spoken_of(served: Served) -> None:
    served.put(CLUSTER, A, B)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, "a", initial={"a": A.version, "b": "1", "gone": "1"})
        await client.assert_silent()


async def test_endpoints_that_were_emptied_before_stay_empty_silently(served: Served) -> None:
    async with DeltaClient(served.address) as client:
        await client.ask(ENDPOINTS, "a", initial=versions(no_endpoints("a")))
        await client.assert_silent()


async def test_in_the_state_of_the_world_a_new_stream_gets_everything(served: Served) -> None:
    served.put(LISTENER, resource(LISTENER, "a"))
    for _ in range(2):
        async with WorldClient(served.address) as client:
            await client.ask(LISTENER)
            assert await client.take(LISTENER) == anys(resource(LISTENER, "a"))
            await client.assert_silent()


async def test_a_node_that_is_not_known_yet_waits_and_is_told_of_no_removal(served: Served) -> None:
    del served.snapshots[NODE]
    a, b = resource(LISTENER, "a"), resource(LISTENER, "b")
    async with DeltaClient(served.address) as client, DeltaClient(served.address, node="other") as other:
        await client.ask(LISTENER, "*", initial=versions(a, b))
        await client.ask(SENTINEL, "sentinel")
        served.snapshots["other"] = {}
        await other.ask(CLUSTER, "*")
        await other.take(CLUSTER)
        served.publish()
        await other.assert_silent()
        served.set(LISTENER, a)
        served.publish()
        assert await client.take(LISTENER) == ({}, ("b",))
        assert await client.take(SENTINEL) == ({}, ("sentinel",))


async def test_endpoints_of_a_cluster_that_changed_meanwhile_are_sent_though_they_did_not(
    served: Served,
) -> None:
    shared = resource(ENDPOINTS, "a")
    served.put(CLUSTER, cluster("a", "2"))
    served.put(ENDPOINTS, shared, resource(ENDPOINTS, "other"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, initial=versions(cluster("a")))
        held = await client.next()
        await client.ask(ENDPOINTS, "a", "other", initial=versions(shared, resource(ENDPOINTS, "other")))
        assert await client.take(ENDPOINTS) == (versions(shared), ())
        await client.ack(held)
        await client.assert_silent()
