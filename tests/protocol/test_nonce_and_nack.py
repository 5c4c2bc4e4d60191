"""What the client answers: stale nonces are ignored, a refused resource is not sent again until its
content changes, and of a refused Envoy push the guilty one is found (rule 27)."""

from __future__ import annotations

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from mesh.discovery.session import Acked, Nacked
from mesh.discovery.wire import DeltaRequest, DiscoveryRequest
from tests.protocol.bare_client import DeltaClient, WorldClient, anys, versions
from tests.protocol.served import NODE, Served, resource

RECORD = "type.googleapis.com/sluice.node.v1.Workload"


async def test_a_stale_nonce_is_ignored_in_the_state_of_the_world(served: Served) -> None:
    served.put(ROUTES, resource(ROUTES, "a"), resource(ROUTES, "b"))
    async with WorldClient(served.address) as client:
        await client.ask(ROUTES, "a")
        await client.take(ROUTES)
        stale = client.accepted[ROUTES]
        changed = resource(ROUTES, "a", "2")
        served.put(ROUTES, changed)
        current = await client.next()
        # Crossed our response on its way: neither its ACK nor its names count.
        await client.write(DiscoveryRequest(ROUTES, None, ("b",), stale.version, stale.nonce).encode())
        await client.ack(current)
        await client.assert_silent()
    acked = [event for _, event in served.events if isinstance(event, Acked) and event.type_url == ROUTES]
    assert [event.versions for event in acked] == [{"a": resource(ROUTES, "a").version}, versions(changed)]


async def test_a_repeated_ack_is_not_answered(served: Served) -> None:
    # Envoy repeats the ACK of its endpoints when a cluster warms again; it gets them with the cluster.
    served.put(ENDPOINTS, resource(ENDPOINTS, "a"))
    async with WorldClient(served.address) as client:
        await client.ask(ENDPOINTS, "a")
        await client.take(ENDPOINTS)
        await client.ack(client.accepted[ENDPOINTS])
        await client.assert_silent()


async def test_a_stale_nonce_acks_nothing_in_delta_but_its_subscription_counts(served: Served) -> None:
    a, b = resource(ROUTES, "a"), resource(ROUTES, "b")
    served.put(ROUTES, a, b)
    async with DeltaClient(served.address) as client:
        await client.ask(ROUTES, "a")
        first = await client.next()
        await client.write(DeltaRequest(ROUTES, subscribe=("b",), nonce="stale").encode())
        await client.write(DeltaRequest(ROUTES, nonce="stale", error="not about this").encode())
        await client.ack(first)
        assert await client.take(ROUTES) == (versions(b), ())
        await client.assert_silent()
    assert not [event for _, event in served.events if isinstance(event, Nacked)]


async def test_a_refused_version_is_not_sent_again_until_the_content_changes(served: Served) -> None:
    a = resource(LISTENER, "a")
    served.put(LISTENER, a)
    async with DeltaClient(served.address) as client:
        await client.ask(LISTENER)
        await client.take(LISTENER)
        bad = resource(LISTENER, "a", "bad")
        served.put(LISTENER, bad)
        await client.nack(await client.next(), "no good")
        await client.assert_silent()
        served.put(LISTENER, bad)
        await client.assert_silent()
        served.put(LISTENER, resource(LISTENER, "other"))
        assert await client.take(LISTENER) == (versions(resource(LISTENER, "other")), ())
        mended = resource(LISTENER, "a", "mended")
        served.put(LISTENER, mended)
        assert await client.take(LISTENER) == (versions(mended), ())
        await client.assert_silent()
    (refused,) = (event for _, event in served.events if isinstance(event, Nacked))
    assert (refused.type_url, refused.message, refused.names) == (LISTENER, "no good", ("a",))


async def test_a_refused_version_is_not_sent_again_in_the_state_of_the_world(served: Served) -> None:
    served.put(LISTENER, resource(LISTENER, "a"))
    async with WorldClient(served.address) as client:
        await client.ask(LISTENER)
        await client.take(LISTENER)
        served.put(LISTENER, resource(LISTENER, "a", "bad"))
        await client.nack(await client.next(), "no good")
        await client.assert_silent()
        mended = resource(LISTENER, "a", "mended")
        served.put(LISTENER, mended)
        assert await client.take(LISTENER) == anys(mended)
        await client.assert_silent()


async def test_a_refused_push_is_sent_in_parts_until_the_guilty_one_stands_alone(served: Served) -> None:
    names = [f"c{n}" for n in range(8)]
    served.put(CLUSTER, *(resource(CLUSTER, name) for name in names))
    accepted: set[str] = set()
    async with DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        while accepted != {name for name in names if name != "c5"}:
            response = await client.next()
            sent = {name for name, _, _ in response.resources}
            if "c5" in sent:
                await client.nack(response, "c5 it is")
            else:
                assert not sent & accepted
                accepted |= sent
                await client.ack(response)
        while len(sent) > 1 or "c5" not in sent:
            response = await client.next()
            sent = {name for name, _, _ in response.resources}
            await client.nack(response, "c5 it is") if "c5" in sent else await client.ack(response)
        await client.assert_silent()
    refusals = [event.names for _, event in served.events if isinstance(event, Nacked)]
    assert refusals[-1] == ("c5",)
    assert [len(refused) for refused in refusals] == [8, 4, 2, 1]


async def test_a_refused_push_of_records_is_not_taken_apart(served: Served) -> None:
    served.put(RECORD, *(resource(RECORD, name) for name in "abc"))
    async with DeltaClient(served.address) as client:
        await client.ask(RECORD, "*")
        await client.nack(await client.next(), "disk full")
        await client.assert_silent()


async def test_a_malformed_request_ends_the_stream_and_no_other(served: Served) -> None:
    served.put(CLUSTER, resource(CLUSTER, "a"))
    async with DeltaClient(served.address) as broken, DeltaClient(served.address) as client:
        await client.ask(CLUSTER)
        await client.take(CLUSTER)
        await broken.write(b"\x0a\xff")
        assert (await broken.status()).name == "INVALID_ARGUMENT"
        await client.assert_silent()
    assert all(node == NODE for node, _ in served.events)


async def test_a_client_may_refuse_later_what_it_accepted_and_nothing_is_sent_for_it(served: Served) -> None:
    # A node accepts a manifest when it has it, and may learn from its Envoy that it is no good.
    served.put(RECORD, resource(RECORD, "a"))
    async with DeltaClient(served.address) as client:
        await client.ask(RECORD, "*")
        response = await client.next()
        await client.ack(response)
        await client.nack(response, "the proxy refused it")
        await client.assert_silent()
    (refused,) = (event for _, event in served.events if isinstance(event, Nacked))
    assert (refused.type_url, refused.message) == (RECORD, "the proxy refused it")
