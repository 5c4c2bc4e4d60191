"""Delta over a bare gRPC client: cases D1 to D6 of the xDS conformance suite, over ADS and over the
services for one type. Each ends with "and nothing more"."""

from __future__ import annotations

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES
from tests.protocol.bare_client import DeltaClient, versions
from tests.protocol.served import Served, resource

SINGLE = {
    CLUSTER: "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
    ENDPOINTS: "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
    LISTENER: "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
    ROUTES: "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
}
CASES = [(type_url, method) for type_url in SINGLE for method in (None, SINGLE[type_url])]
each_transport = pytest.mark.parametrize(
    ("type_url", "method"),
    CASES,
    ids=[f"{url.rsplit('.', 1)[1]}-{'single' if method else 'aggregated'}" for url, method in CASES],
)


@each_transport
async def test_names_subscribed_one_after_another_are_each_sent_once(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with DeltaClient(served.address, method) as client:
        await client.ask(type_url, "a")
        assert await client.take(type_url) == (versions(a), ())
        await client.ask(type_url, "b")
        assert await client.take(type_url) == (versions(b), ())
        await client.assert_silent()


@each_transport
async def test_an_update_sends_only_what_changed_under_a_new_version_and_nonce(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with DeltaClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        first = await client.next()
        await client.ack(first)
        changed = resource(type_url, "a", "2")
        served.put(type_url, changed)
        second = await client.next()
        await client.ack(second)
        assert second.resources == (("a", changed.version, changed.any),)
        assert changed.version != a.version
        assert second.nonce != first.nonce
        await client.assert_silent()


@each_transport
async def test_a_name_that_does_not_exist_is_told_so_and_sent_when_it_is_created(
    served: Served, type_url: str, method: str | None
) -> None:
    a, late = resource(type_url, "a"), resource(type_url, "late")
    served.put(type_url, a)
    async with DeltaClient(served.address, method) as client:
        await client.ask(type_url, "a", "late")
        assert await client.take(type_url) == (versions(a), ("late",))
        await client.assert_silent()
        served.put(type_url, late)
        assert await client.take(type_url) == (versions(late), ())
        await client.assert_silent()


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER, ROUTES])
async def test_a_removed_resource_is_removed_and_comes_back_when_it_is_added_again(
    served: Served, type_url: str
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with DeltaClient(served.address) as client:
        await client.ask(type_url, "a", "b")
        await client.take(type_url)
        served.remove(type_url, "a")
        assert await client.take(type_url) == ({}, ("a",))
        await client.assert_silent()
        served.put(type_url, a)
        assert await client.take(type_url) == (versions(a), ())
        await client.assert_silent()


async def test_a_filter_that_goes_is_not_taken_from_connections_that_are_there(served: Served) -> None:
    a, again = resource(EXTENSION, "a"), resource(EXTENSION, "a", "again")
    served.put(EXTENSION, a)
    async with DeltaClient(served.address) as client:
        await client.ask(EXTENSION, "a")
        assert await client.take(EXTENSION) == (versions(a), ())
        served.remove(EXTENSION, "a")
        await client.assert_silent()
        served.put(EXTENSION, again)
        assert await client.take(EXTENSION) == (versions(again), ())
        await client.assert_silent()


@each_transport
async def test_an_unsubscribed_name_is_sent_no_more(
    served: Served, type_url: str, method: str | None
) -> None:
    names = ("a", "b", "c")
    served.put(type_url, *(resource(type_url, name) for name in names))
    async with DeltaClient(served.address, method) as client:
        await client.ask(type_url, *names)
        await client.take(type_url)
        for dropped, left in (("a", ("b", "c")), ("b", ("c",)), ("c", ())):
            await client.ask(type_url, unsubscribe=(dropped,))
            await client.assert_silent()
            served.put(type_url, *(resource(type_url, name, f"without {dropped}") for name in names))
            if left:
                expected = versions(*(resource(type_url, name, f"without {dropped}") for name in left))
                assert await client.take(type_url) == (expected, ())
            await client.assert_silent()


@pytest.mark.parametrize(
    ("one", "other"),
    [(CLUSTER, LISTENER), (LISTENER, CLUSTER), (ROUTES, ENDPOINTS), (ENDPOINTS, ROUTES)],
    ids=["CDS-LDS", "LDS-CDS", "RDS-EDS", "EDS-RDS"],
)
async def test_types_on_one_stream_are_independent(served: Served, one: str, other: str) -> None:
    served.put(one, resource(one, "a"))
    served.put(other, resource(other, "a"))
    async with DeltaClient(served.address) as client:
        await client.ask(one, "a")
        assert await client.take(one) == (versions(resource(one, "a")), ())
        await client.ask(other, "a")
        assert await client.take(other) == (versions(resource(other, "a")), ())
        served.put(one, resource(one, "a", "2"))
        assert await client.take(one) == (versions(resource(one, "a", "2")), ())
        await client.assert_silent()


@each_transport
async def test_a_known_name_that_is_subscribed_again_is_sent_again(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with DeltaClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        await client.take(type_url)
        await client.ask(type_url, "a")
        assert await client.take(type_url) == (versions(a), ())
        await client.assert_silent()


async def test_a_service_for_one_type_needs_no_type_url(served: Served) -> None:
    a = resource(CLUSTER, "a")
    served.put(CLUSTER, a)
    async with DeltaClient(served.address, SINGLE[CLUSTER]) as client:
        await client.ask("", "*")
        assert await client.take(CLUSTER) == (versions(a), ())
        await client.assert_silent()
