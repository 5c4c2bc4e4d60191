"""What goes when: targets before references, references before removals, and nothing that an ACK
waits for is held back."""

from __future__ import annotations

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, no_endpoints
from mesh.discovery.resource import Resource
from mesh.node import Generation
from mesh.resources import GENERATION_TYPE, NODE_TYPES, encode
from tests.protocol.bare_client import DeltaClient, WorldClient, anys, versions
from tests.protocol.served import Served, cluster, listener, resource


async def settle(client: DeltaClient | WorldClient, *names: str) -> None:
    """Subscribe to everything, by name where a type has no wildcard."""
    for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
        await client.ask(type_url, *(names if type_url in (ENDPOINTS, ROUTES) else ()))
        await client.take(type_url)


@pytest.mark.parametrize("service", ["", "shared"], ids=["own name", "service name"])
async def test_a_changed_cluster_brings_its_endpoints_though_they_did_not_change(
    served: Served, service: str
) -> None:
    name = service or "a"
    served.set(CLUSTER, cluster("a", service=service), cluster("b"))
    served.set(ENDPOINTS, resource(ENDPOINTS, name), resource(ENDPOINTS, "b"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(ENDPOINTS, name, "b")
        await client.take(ENDPOINTS)
        changed = cluster("a", "2", service=service)
        served.put(CLUSTER, changed)
        held = await client.next()  # Envoy holds this ACK until the endpoints come.
        assert held.resources == (("a", changed.version, changed.any),)
        assert await client.take(ENDPOINTS) == (versions(resource(ENDPOINTS, name)), ())
        await client.ack(held)
        await client.assert_silent()


async def test_a_second_cluster_with_the_same_endpoints_brings_them_again(served: Served) -> None:
    shared = resource(ENDPOINTS, "shared")
    served.set(CLUSTER, cluster("a", service="shared"))
    served.put(ENDPOINTS, shared)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(ENDPOINTS, "shared")
        await client.take(ENDPOINTS)
        served.put(CLUSTER, cluster("b", service="shared"))
        held = await client.next()
        assert await client.take(ENDPOINTS) == (versions(shared), ())
        await client.ack(held)
        await client.assert_silent()


async def test_in_the_state_of_the_world_a_changed_cluster_brings_only_its_own_endpoints(
    served: Served,
) -> None:
    served.set(CLUSTER, cluster("a"), cluster("b"))
    served.put(ENDPOINTS, resource(ENDPOINTS, "a"), resource(ENDPOINTS, "b"))
    async with WorldClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(ENDPOINTS, "a", "b")
        await client.take(ENDPOINTS)
        served.put(CLUSTER, cluster("a", "2"))
        held = await client.next()
        assert await client.take(ENDPOINTS) == anys(resource(ENDPOINTS, "a"))
        await client.ack(held)
        await client.assert_silent()


async def test_a_changed_listener_brings_its_routes_though_they_did_not_change(served: Served) -> None:
    served.set(LISTENER, listener("l", "r1", "r2"))
    served.put(ROUTES, *(resource(ROUTES, name) for name in ("r1", "r2", "other")))
    async with DeltaClient(served.address) as client:
        await client.ask(LISTENER)
        await client.take(LISTENER)
        await client.ask(ROUTES, "r1", "r2", "other")
        await client.take(ROUTES)
        served.put(LISTENER, listener("l", "r1", "r2", content="2"))
        await client.take(LISTENER)
        expected = versions(resource(ROUTES, "r1"), resource(ROUTES, "r2"))
        assert await client.take(ROUTES) == (expected, ())
        await client.assert_silent()


async def test_endpoints_pass_a_cluster_whose_ack_is_held_and_nothing_else_does(served: Served) -> None:
    served.set(CLUSTER, cluster("a"))
    served.set(ENDPOINTS, resource(ENDPOINTS, "a"), resource(ENDPOINTS, "b"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        held = await client.next()
        # The newer cluster and listener wait for the ACK, the ACK for endpoints.
        served.set(LISTENER, listener("l"))
        served.put(CLUSTER, cluster("a", "2"), cluster("b"))
        await client.ask(LISTENER)
        await client.ask(ENDPOINTS, "a")
        assert await client.take(ENDPOINTS) == (versions(resource(ENDPOINTS, "a")), ())
        await client.ack(held)
        assert await client.take(CLUSTER) == (versions(cluster("a", "2"), cluster("b")), ())
        assert await client.take(ENDPOINTS) == (versions(resource(ENDPOINTS, "a")), ())
        assert await client.take(LISTENER) == (versions(listener("l")), ())
        await client.assert_silent()


async def test_a_replacement_is_made_before_the_old_is_broken(served: Served) -> None:
    served.set(CLUSTER, cluster("old"))
    served.set(ENDPOINTS, resource(ENDPOINTS, "old"))
    served.set(LISTENER, listener("l", "r"))
    served.set(ROUTES, resource(ROUTES, "r", "to old"))
    async with DeltaClient(served.address) as client:
        await settle(client, "old", "new", "r")
        await client.assert_silent()
        served.set(CLUSTER, cluster("new"))
        served.set(ENDPOINTS, resource(ENDPOINTS, "new"))
        served.set(LISTENER, listener("l", "r", content="2"))
        served.put(ROUTES, resource(ROUTES, "r", "to new"))
        seen = []
        for _ in range(6):
            response = await client.next()
            await client.ack(response)
            kind = response.type_url.rsplit(".", 1)[1]
            seen += [(kind, name) for name, _, _ in response.resources]
            seen += [(kind, "-" + name) for name in response.removed]
        assert seen == [
            ("Cluster", "new"),
            ("ClusterLoadAssignment", "new"),
            ("Listener", "l"),
            ("RouteConfiguration", "r"),
            ("Cluster", "-old"),
            ("ClusterLoadAssignment", "old"),
        ]
        await client.assert_silent()


async def test_in_the_state_of_the_world_the_old_cluster_stays_until_routes_have_moved(
    served: Served,
) -> None:
    served.set(CLUSTER, cluster("old"))
    served.set(ROUTES, resource(ROUTES, "r", "to old"))
    async with WorldClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(ROUTES, "r")
        await client.take(ROUTES)
        served.set(CLUSTER, cluster("new"))
        served.put(ROUTES, resource(ROUTES, "r", "to new"))
        assert await client.take(CLUSTER) == anys(cluster("old"), cluster("new"))
        assert await client.take(ROUTES) == anys(resource(ROUTES, "r", "to new"))
        assert await client.take(CLUSTER) == anys(cluster("new"))
        await client.assert_silent()


async def test_while_a_route_is_refused_the_cluster_of_the_last_good_one_stays(served: Served) -> None:
    served.set(CLUSTER, cluster("old"))
    served.set(ROUTES, resource(ROUTES, "r", "to old"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(ROUTES, "r")
        await client.take(ROUTES)
        served.set(CLUSTER, cluster("new"))
        served.put(ROUTES, resource(ROUTES, "r", "bad"))
        assert await client.take(CLUSTER) == (versions(cluster("new")), ())
        await client.nack(await client.next(), "no good")
        await client.assert_silent()
        served.put(ROUTES, resource(ROUTES, "r", "to new"))
        assert await client.take(ROUTES) == (versions(resource(ROUTES, "r", "to new")), ())
        assert await client.take(CLUSTER) == ({}, ("old",))
        await client.assert_silent()


async def test_removed_endpoints_are_sent_empty_for_envoy_ignores_their_removal(served: Served) -> None:
    served.put(ENDPOINTS, resource(ENDPOINTS, "a"), resource(ENDPOINTS, "b"))
    async with DeltaClient(served.address) as client, WorldClient(served.address) as world:
        await client.ask(ENDPOINTS, "a", "b")
        await client.take(ENDPOINTS)
        await world.ask(ENDPOINTS, "a", "b")
        await world.take(ENDPOINTS)
        served.remove(ENDPOINTS, "a")
        assert await client.take(ENDPOINTS) == (versions(no_endpoints("a")), ())
        assert await world.take(ENDPOINTS) == anys(no_endpoints("a"))
        await client.assert_silent()
        await world.assert_silent()
        served.put(ENDPOINTS, resource(ENDPOINTS, "a"))
        assert await client.take(ENDPOINTS) == (versions(resource(ENDPOINTS, "a")), ())
        assert await world.take(ENDPOINTS) == anys(resource(ENDPOINTS, "a"))


async def test_a_changed_cluster_without_endpoints_is_not_left_waiting_for_them(served: Served) -> None:
    served.put(CLUSTER, cluster("a"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        held = await client.next()
        await client.ask(ENDPOINTS, "a")
        assert await client.take(ENDPOINTS) == (versions(no_endpoints("a")), ())
        await client.ack(held)
        served.put(CLUSTER, cluster("a", "2"))
        held = await client.next()
        assert await client.take(ENDPOINTS) == (versions(no_endpoints("a")), ())
        await client.ack(held)
        await client.assert_silent()


async def test_in_the_state_of_the_world_a_cluster_without_endpoints_does_not_wait_for_them(
    served: Served,
) -> None:
    served.put(CLUSTER, cluster("a"))
    async with WorldClient(served.address) as client:
        await client.ask(CLUSTER)
        held = await client.next()
        await client.ask(ENDPOINTS, "a")
        assert await client.take(ENDPOINTS) == anys(no_endpoints("a"))
        await client.ack(held)
        await client.assert_silent()


async def test_no_route_is_sent_before_the_ack_that_says_its_cluster_is_warm(served: Served) -> None:
    served.set(CLUSTER, cluster("a"))
    served.put(ROUTES, resource(ROUTES, "r", "to a"))
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        held = await client.next()
        await client.ask(ROUTES, "r")
        await client.ask(ENDPOINTS, "none")
        assert await client.take(ENDPOINTS) == ({}, ("none",))
        await client.ack(held)
        assert await client.take(ROUTES) == (versions(resource(ROUTES, "r", "to a")), ())
        await client.assert_silent()


async def test_endpoints_nobody_asked_for_are_not_sent_with_their_cluster(served: Served) -> None:
    served.put(CLUSTER, cluster("a"))
    served.put(ENDPOINTS, resource(ENDPOINTS, "a"), resource(ENDPOINTS, "b"))
    async with DeltaClient(served.address) as client:
        await client.ask(ENDPOINTS, "b")
        await client.take(ENDPOINTS)
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.assert_silent()


async def test_a_generation_comes_after_everything_that_belongs_to_it(served: Served) -> None:
    def generation(number: int) -> Resource:
        return Resource.of(GENERATION_TYPE, "generation", encode(Generation(number)))

    for type_url in NODE_TYPES[:-1]:
        served.set(type_url, resource(type_url, "a"))
    served.set(GENERATION_TYPE, generation(1))
    async with DeltaClient(served.address) as client:
        for type_url in reversed(NODE_TYPES):
            await client.ask(type_url, "*")
        # The subscriptions came in the wrong order, one by one: take what is there.
        waiting = set(NODE_TYPES)
        while waiting:
            response = await client.next()
            await client.ack(response)
            waiting.discard(response.type_url)
        for type_url in NODE_TYPES[:-1]:
            served.set(type_url, resource(type_url, "b"))
        served.set(GENERATION_TYPE, generation(2))
        served.publish()
        for type_url in NODE_TYPES[:-1]:
            assert await client.take(type_url) == (versions(resource(type_url, "b")), ("a",))
        assert await client.take(GENERATION_TYPE) == (versions(generation(2)), ())
        await client.assert_silent()


async def test_a_slow_reader_gets_only_the_newest(served: Served) -> None:
    served.put(ROUTES, resource(ROUTES, "a", "0"))
    async with DeltaClient(served.address) as client:
        await client.ask(ROUTES, "a")
        first = await client.next()
        for content in range(1, 100):
            served.put(ROUTES, resource(ROUTES, "a", str(content)))
        await client.ack(first)
        assert await client.take(ROUTES) == (versions(resource(ROUTES, "a", "99")), ())
        await client.assert_silent()


async def test_what_changed_and_changed_back_while_the_reader_was_slow_is_not_sent(served: Served) -> None:
    a = resource(ROUTES, "a")
    served.put(ROUTES, a)
    async with DeltaClient(served.address) as client:
        await client.ask(ROUTES, "a")
        first = await client.next()
        served.put(ROUTES, resource(ROUTES, "a", "2"))
        served.put(ROUTES, a)
        await client.ack(first)
        await client.assert_silent()
