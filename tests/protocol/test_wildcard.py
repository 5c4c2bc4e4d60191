"""Wildcards of the delta protocol: legacy (an empty first subscription) and explicit (`*`)."""

from __future__ import annotations

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER
from tests.protocol.bare_client import DeltaClient, versions
from tests.protocol.served import Served, resource

A, B = resource(CLUSTER, "a"), resource(CLUSTER, "b")


@pytest.mark.parametrize("names", [(), ("*",)], ids=["legacy", "explicit"])
async def test_a_wildcard_gets_what_is_there_what_comes_and_what_goes(
    served: Served, names: tuple[str, ...]
) -> None:
    served.put(CLUSTER, A)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, *names)
        assert await client.take(CLUSTER) == (versions(A), ())
        served.put(CLUSTER, B)
        assert await client.take(CLUSTER) == (versions(B), ())
        served.remove(CLUSTER, "a")
        assert await client.take(CLUSTER) == ({}, ("a",))
        await client.assert_silent()


@pytest.mark.parametrize("type_url", [CLUSTER, LISTENER])
@pytest.mark.parametrize("names", [(), ("*",)], ids=["legacy", "explicit"])
async def test_the_first_wildcard_is_answered_even_with_nothing(
    served: Served, type_url: str, names: tuple[str, ...]
) -> None:
    async with DeltaClient(served.address) as client:
        await client.ask(type_url, *names)
        assert await client.take(type_url) == ({}, ())
        await client.assert_silent()


async def test_endpoints_have_no_legacy_wildcard(served: Served) -> None:
    served.put(ENDPOINTS, resource(ENDPOINTS, "a"))
    async with DeltaClient(served.address) as client:
        await client.ask(ENDPOINTS)
        await client.assert_silent()


async def test_a_legacy_wildcard_stays_when_names_are_added(served: Served) -> None:
    served.put(CLUSTER, A)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(CLUSTER, "none")
        assert await client.take(CLUSTER) == ({}, ("none",))
        served.put(CLUSTER, B)
        assert await client.take(CLUSTER) == (versions(B), ())
        await client.assert_silent()


async def test_a_star_beside_names_covers_the_rest(served: Served) -> None:
    served.put(CLUSTER, A, B)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, "*", "a", "none")
        assert await client.take(CLUSTER) == (versions(A, B), ("none",))
        await client.assert_silent()


async def test_after_unsubscribing_from_the_star_only_the_names_are_left(served: Served) -> None:
    served.put(CLUSTER, A, B)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, "*", "a")
        await client.take(CLUSTER)
        await client.ask(CLUSTER, unsubscribe=("*",))
        await client.assert_silent()
        served.put(CLUSTER, resource(CLUSTER, "b", "2"), resource(CLUSTER, "c"))
        await client.assert_silent()
        changed = resource(CLUSTER, "a", "2")
        served.put(CLUSTER, changed)
        assert await client.take(CLUSTER) == (versions(changed), ())
        await client.assert_silent()


async def test_a_legacy_wildcard_ends_when_the_star_is_unsubscribed(served: Served) -> None:
    served.put(CLUSTER, A)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await client.ask(CLUSTER, unsubscribe=("*",))
        await client.assert_silent()
        served.put(CLUSTER, B)
        await client.assert_silent()


async def test_a_name_unsubscribed_under_a_wildcard_is_told_whether_the_wildcard_has_it(
    served: Served,
) -> None:
    # "the server must send it again or remove it": the client cannot know which resources a
    # wildcard covers (xDS protocol, "Unsubscribing from Resources").
    served.put(CLUSTER, A)
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER, "*", "a", "none")
        await client.take(CLUSTER)
        await client.ask(CLUSTER, unsubscribe=("a",))
        assert await client.take(CLUSTER) == (versions(A), ())
        await client.ask(CLUSTER, unsubscribe=("none",))
        await client.assert_silent()
