"""State of the world over a bare gRPC client: cases S1 to S9 and U1 to U3 of the xDS conformance
suite, over ADS and over the services for one type. Each ends with "and nothing more"."""

from __future__ import annotations

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from tests.protocol.bare_client import WorldClient, anys
from tests.protocol.served import Served, resource

SINGLE = {
    CLUSTER: "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
    ENDPOINTS: "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
    LISTENER: "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
    ROUTES: "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
}
WHOLE, BY_NAME = [CLUSTER, LISTENER], [ENDPOINTS, ROUTES]


def transports(types: list[str]) -> pytest.MarkDecorator:
    cases = [(type_url, method) for type_url in types for method in (None, SINGLE[type_url])]
    ids = [
        f"{type_url.rsplit('.', 1)[1]}-{'single' if method else 'aggregated'}" for type_url, method in cases
    ]
    return pytest.mark.parametrize(("type_url", "method"), cases, ids=ids)


@transports(WHOLE)
async def test_a_wildcard_gets_everything_in_a_single_response(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b, c = (resource(type_url, name) for name in "abc")
    served.put(type_url, a, b, c)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url)
        assert await client.take(type_url) == anys(a, b, c)
        await client.assert_silent()


@transports(WHOLE)
async def test_after_a_change_a_wildcard_gets_everything_under_a_new_version(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url)
        first = await client.next()
        await client.ack(first)
        changed = resource(type_url, "a", "2")
        served.put(type_url, changed)
        second = await client.next()
        await client.ack(second)
        assert second.version != first.version
        assert second.nonce != first.nonce
        assert second.resources == (changed.any, b.any)
        await client.assert_silent()


@transports(WHOLE)
async def test_an_added_resource_reaches_a_wildcard(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url)
        assert await client.take(type_url) == anys(a)
        served.put(type_url, b)
        assert await client.take(type_url) == anys(a, b)
        await client.assert_silent()


@transports(WHOLE + BY_NAME)
async def test_a_subscription_by_name_gets_only_what_it_names(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b, c = (resource(type_url, name) for name in "abc")
    served.put(type_url, a, b, c)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        assert await client.take(type_url) == anys(a, b)
        served.put(type_url, resource(type_url, "c", "2"))
        await client.assert_silent()


@transports(WHOLE)
async def test_a_change_resends_the_whole_subset_of_clusters_and_listeners(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b, c = (resource(type_url, name) for name in "abc")
    served.put(type_url, a, b, c)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        await client.take(type_url)
        changed = resource(type_url, "b", "2")
        served.put(type_url, changed)
        assert await client.take(type_url) == anys(a, changed)
        await client.assert_silent()


@transports(BY_NAME)
async def test_a_change_sends_only_the_changed_routes_and_endpoints(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        assert await client.take(type_url) == anys(a, b)
        changed = resource(type_url, "b", "2")
        served.put(type_url, changed)
        assert await client.take(type_url) == anys(changed)
        await client.assert_silent()


@transports(WHOLE)
async def test_a_named_cluster_or_listener_that_is_created_later_comes_with_the_others(
    served: Served, type_url: str, method: str | None
) -> None:
    a, late = resource(type_url, "a"), resource(type_url, "late")
    served.put(type_url, a)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "late")
        assert await client.take(type_url) == anys(a)
        await client.assert_silent()
        served.put(type_url, late)
        assert await client.take(type_url) == anys(a, late)
        await client.assert_silent()


@transports(BY_NAME)
async def test_a_named_route_or_endpoint_that_is_created_later_comes_alone(
    served: Served, type_url: str, method: str | None
) -> None:
    a, late = resource(type_url, "a"), resource(type_url, "late")
    served.put(type_url, a)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "late")
        assert await client.take(type_url) == anys(a)
        await client.assert_silent()
        served.put(type_url, late)
        assert await client.take(type_url) == anys(late)
        await client.assert_silent()


async def test_an_update_of_one_type_does_not_touch_the_others_on_the_stream(served: Served) -> None:
    for type_url in SINGLE:
        served.put(type_url, resource(type_url, "a"))
    async with WorldClient(served.address) as client:
        for type_url in SINGLE:
            await client.ask(type_url, *(["a"] if type_url in BY_NAME else []))
            await client.take(type_url)
        for type_url in SINGLE:
            changed = resource(type_url, "a", "2")
            served.put(type_url, changed)
            assert await client.take(type_url) == anys(changed)
            await client.assert_silent()


@transports(WHOLE + BY_NAME)
async def test_after_a_name_is_dropped_only_the_others_are_sent(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        assert await client.take(type_url) == anys(a, b)
        await client.ask(type_url, "a")
        await client.assert_silent()
        served.put(type_url, resource(type_url, "b", "2"))
        await client.assert_silent()
        changed = resource(type_url, "a", "2")
        served.put(type_url, changed)
        assert await client.take(type_url) == anys(changed)
        await client.assert_silent()


@transports(WHOLE + BY_NAME)
async def test_after_the_last_name_is_dropped_nothing_is_sent(
    served: Served, type_url: str, method: str | None
) -> None:
    served.put(type_url, resource(type_url, "a"))
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a")
        await client.take(type_url)
        await client.ask(type_url)
        await client.assert_silent()
        served.put(type_url, resource(type_url, "a", "2"), resource(type_url, "b"))
        await client.assert_silent()


@transports(BY_NAME)
async def test_a_name_that_is_dropped_and_asked_for_again_is_sent_again(
    served: Served, type_url: str, method: str | None
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with WorldClient(served.address, method) as client:
        await client.ask(type_url, "a", "b")
        await client.take(type_url)
        await client.ask(type_url, "a")
        await client.ask(type_url, "a", "b")
        assert await client.take(type_url) == anys(b)
        await client.assert_silent()


@pytest.mark.parametrize("type_url", WHOLE)
async def test_the_first_wildcard_is_answered_even_with_nothing(served: Served, type_url: str) -> None:
    async with WorldClient(served.address) as client:
        await client.ask(type_url)
        assert await client.take(type_url) == {}
        await client.assert_silent()


async def test_an_empty_first_subscription_to_endpoints_asks_for_none(served: Served) -> None:
    served.put(ENDPOINTS, resource(ENDPOINTS, "a"))
    async with WorldClient(served.address) as client:
        await client.ask(ENDPOINTS)
        await client.assert_silent()


@pytest.mark.parametrize("type_url", WHOLE)
async def test_a_named_cluster_or_listener_that_does_not_exist_is_answered_by_its_absence(
    served: Served, type_url: str
) -> None:
    async with WorldClient(served.address) as client:
        await client.ask(type_url, "none")
        assert await client.take(type_url) == {}
        await client.assert_silent()


@pytest.mark.parametrize("type_url", WHOLE)
async def test_a_removed_resource_is_absent_from_the_next_response(served: Served, type_url: str) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with WorldClient(served.address) as client:
        await client.ask(type_url)
        await client.take(type_url)
        served.remove(type_url, "a")
        assert await client.take(type_url) == anys(b)
        await client.assert_silent()


@pytest.mark.parametrize("type_url", WHOLE)
async def test_names_after_a_legacy_wildcard_replace_it_unless_the_star_is_among_them(
    served: Served, type_url: str
) -> None:
    a, b = resource(type_url, "a"), resource(type_url, "b")
    served.put(type_url, a, b)
    async with WorldClient(served.address) as client:
        await client.ask(type_url)
        await client.take(type_url)
        await client.ask(type_url, "a")
        await client.assert_silent()
        served.put(type_url, resource(type_url, "b", "2"))
        await client.assert_silent()
        await client.ask(type_url, "*", "a")
        assert await client.take(type_url) == anys(a, resource(type_url, "b", "2"))
        await client.assert_silent()


async def test_a_name_that_is_dropped_before_it_was_sent_is_not_sent(served: Served) -> None:
    b = resource(ROUTES, "b")
    served.put(CLUSTER, resource(CLUSTER, "c"))
    served.put(ROUTES, resource(ROUTES, "a"), b)
    async with WorldClient(served.address) as client:
        await client.ask(CLUSTER)
        cluster = await client.next()  # Routes wait for its ACK.
        await client.ask(ROUTES, "a")
        await client.ask(ROUTES, "b")
        await client.ack(cluster)
        assert await client.take(ROUTES) == anys(b)
        await client.assert_silent()
