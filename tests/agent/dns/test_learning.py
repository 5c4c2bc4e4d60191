"""Names that policies speak of: an answer leaves when its addresses are in force, and never before."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.dns.memory import MOST, Full, Memory
from mesh.dns import LEARNED, POLICY, Learned
from mesh.model import LearnedNames
from tests.agent.dns.running import FREE, Resolver, policy, rcode, until, values
from tests.agent.dns.upstream import TinyUpstream


def want(resolver: Resolver, *patterns: str) -> None:
    resolver.put(POLICY, policy(wanted=patterns).to_json())


async def test_an_answer_is_held_until_its_addresses_are_in_force(resolver: Resolver) -> None:
    want(resolver, "*.example.com")
    asking = asyncio.create_task(resolver.ask("www.example.com"))
    await until(lambda: resolver.learned.sequence == 1)
    await asyncio.sleep(0.3)
    assert not asking.done()
    assert resolver.learned.live(time.time()) == LearnedNames(1, (("www.example.com", ("192.0.2.1",)),))
    began = time.monotonic()
    resolver.acknowledge(1)
    assert values(await asking) == ["192.0.2.1"]
    assert time.monotonic() - began < 0.5


async def test_what_is_not_in_force_in_time_is_servfail_and_said_in_the_log(resolver: Resolver) -> None:
    want(resolver, "*.example.com")
    began = time.monotonic()
    assert rcode(await resolver.ask("www.example.com")) == "SERVFAIL"
    assert 1.9 < time.monotonic() - began < 4
    assert b"not in force in time: 192.0.2.1" in resolver.log.read_bytes()
    resolver.acknowledge(1)
    began = time.monotonic()
    assert values(await resolver.ask("www.example.com")) == ["192.0.2.1"]
    assert time.monotonic() - began < 0.5, "what is in force is answered at once"


async def test_names_of_no_interest_are_neither_held_nor_learned(resolver: Resolver) -> None:
    want(resolver, "*.example.com")
    assert values(await resolver.ask("other.org")) == ["198.51.100.1"]
    assert resolver.learned.addresses == ()


async def test_every_name_of_a_chain_that_fits_has_the_addresses_at_its_end(resolver: Resolver) -> None:
    want(resolver, "api.example.com", "edge.*.net")
    resolver.acknowledge(1000)
    assert values(await resolver.ask("api.example.com")) == ["192.0.2.7", "192.0.2.8"]
    await until(lambda: resolver.learned.addresses)
    both = ("192.0.2.7", "192.0.2.8")
    assert resolver.learned.live(time.time()).names == (("api.example.com", both), ("edge.cdn.net", both))


async def test_an_answer_that_is_kept_teaches_a_policy_that_comes_later(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    await resolver.ask("www.example.com")
    want(resolver, "www.example.com")
    asking = asyncio.create_task(resolver.ask("www.example.com"))
    await until(lambda: resolver.learned.sequence == 1)
    assert not asking.done()
    resolver.acknowledge(1)
    assert values(await asking) == ["192.0.2.1"]
    assert upstream.count("www.example.com") == 1


async def test_addresses_live_for_the_minimum_or_as_long_as_they_say(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    want(resolver, "*")
    resolver.acknowledge(1000)
    upstream.ttl = 10
    await resolver.ask("www.example.com")
    upstream.ttl = 90_000
    await resolver.ask("other.org")
    await until(lambda: len(resolver.learned.addresses) == 2)
    left = {known.name: known.expiry - time.time() for known in resolver.learned.addresses}
    assert 3500 < left["www.example.com"] <= 3600
    assert 89_000 < left["other.org"] <= 90_000


async def test_a_name_that_is_not_said_again_is_forgotten_and_one_that_is_stays(
    tmp_path_factory, upstream: TinyUpstream
) -> None:
    upstream.ttl = 1
    resolver = Resolver(
        tmp_path_factory.mktemp("expiry") / "r", "--upstream", upstream.address, "--minimum-ttl", "3"
    )
    try:
        await resolver.start()
        want(resolver, "*")
        resolver.acknowledge(1000)
        await resolver.ask("www.example.com")
        for _ in range(5):
            await resolver.ask("other.org")
            await asyncio.sleep(1)
        names = {known.name for known in resolver.learned.addresses}
        assert names == {"other.org"}
    finally:
        resolver.close()


async def test_a_killed_resolver_is_followed_by_one_that_knows_what_is_in_force(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    want(resolver, "*.example.com")
    asking = asyncio.create_task(resolver.ask("www.example.com"))
    await until(lambda: resolver.learned.sequence == 1)
    resolver.acknowledge(1)
    await asking
    held = asyncio.create_task(resolver.ask("api.example.com"))
    await until(lambda: resolver.learned.sequence == 2)
    resolver.kill()
    held.cancel()
    began = time.monotonic()
    await resolver.start()
    assert time.monotonic() - began < 2
    assert values(await resolver.ask("www.example.com", caller=FREE)) == ["192.0.2.1"], "in force before"
    assert resolver.learned.sequence == 2
    asking = asyncio.create_task(resolver.ask("api.example.com"))
    await asyncio.sleep(0.3)
    assert not asking.done(), "reported, and not in force yet"
    resolver.acknowledge(2)
    assert values(await asking) == ["192.0.2.7", "192.0.2.8"]


async def test_a_report_that_was_lost_is_not_taken_for_one_in_force(resolver: Resolver) -> None:
    want(resolver, "*.example.com")
    resolver.acknowledge(7)
    resolver.kill()
    (resolver.state / LEARNED).unlink(missing_ok=True)
    await resolver.start()
    asking = asyncio.create_task(resolver.ask("www.example.com"))
    await until(lambda: resolver.learned.addresses)
    assert resolver.learned.sequence == 8
    await asyncio.sleep(0.2)
    assert not asking.done()
    resolver.acknowledge(8)
    assert values(await asking) == ["192.0.2.1"]


def test_no_namespace_takes_the_room_of_all() -> None:
    """Under a name of its own a tenant can make up answers as it likes."""
    memory = Memory(Learned(), 0)

    def fill(namespace: str) -> int:
        for at in range(MOST):
            address = f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"
            try:
                memory.learn([f"n{at >> 8}.{namespace}.example"], [address], 0.0, 100.0, namespace)
            except Full:
                return at
        return MOST

    assert (fill("shop"), fill("street")) == (MOST // 2, MOST // 4)
    with pytest.raises(Full, match=r"of 65536 addresses 49152 are learned already, 32768 by pods of shop"):
        memory.learn(["new.shop.example"], ["192.0.2.1"], 0.0, 100.0, "shop")
    assert memory.learn(["new.bank.example"], ["192.0.2.1"], 0.0, 100.0, "bank") == 1
    again = Memory(Learned.from_json(memory.report().to_json()), 1)
    with pytest.raises(Full):
        again.learn(["new.shop.example"], ["192.0.2.1"], 0.0, 100.0, "shop")
    again.expire(101.0)
    assert again.learn(["new.shop.example"], ["192.0.2.1"], 102.0, 200.0, "shop") == 2
