"""Names under patterns of ServiceEntries (DYNAMIC_DNS): who asks for one makes it a service of the mesh, and
is answered when it is one."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from agent.dns.memory import ASKED_LIFETIME, MOST_ASKED, Full, Memory
from mesh.dns import POLICY, RECORDS, AskedName, Learned, Queries
from tests.agent.dns.running import BOUND, FREE, ZONE, Resolver, policy, rcode, until, values
from tests.agent.dns.upstream import TinyUpstream, silent_of

WWW, VIP = "www.example.com", "10.128.0.8"


def zone(*known: str, to: tuple[str, ...] = ("*",)) -> str:
    """`known` have the address of the mesh; the pattern is for the namespaces `to`."""
    own = dataclasses.replace(
        ZONE,
        addresses={**ZONE.addresses, **dict.fromkeys(known, (VIP,))},
        patterns={"*.example.com": to},
    )
    return own.to_json()


def asked(resolver: Resolver) -> tuple[str, ...]:
    return resolver.learned.live(time.time()).asked


async def become_a_service(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone())
    await resolver.ask(WWW)
    await until(lambda: asked(resolver) == (WWW,))
    resolver.put(RECORDS, zone(WWW))
    assert values(await resolver.ask(WWW)) == [VIP]


async def test_a_name_is_answered_when_it_is_a_service_in_force(resolver: Resolver) -> None:
    """With its addresses in the same report, so that something stands behind it at once."""
    resolver.put(RECORDS, zone())
    asking = asyncio.create_task(resolver.ask("WWW.example.com"))
    await until(lambda: asked(resolver) == (WWW,))
    assert dict(resolver.learned.current)[WWW] == ("192.0.2.1", "2001:db8::1")
    resolver.put(RECORDS, zone(WWW))
    await asyncio.sleep(0.2)
    assert not asking.done(), "the kernel does not know it yet"
    resolver.acknowledge(resolver.learned.sequence)
    assert values(await asking) == [VIP]


async def test_it_is_asked_for_again_and_survives_a_restart(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    upstream.ttl = 1
    resolver.acknowledge(1000)
    await become_a_service(resolver)
    upstream.records[WWW, "A"] = ["192.0.2.9"]
    await until(lambda: dict(resolver.learned.current)[WWW] == ("192.0.2.9", "2001:db8::1"), 20)
    resolver.kill()
    await resolver.start()
    upstream.bend = lambda query, answer, tcp: []
    assert values(await resolver.ask(WWW)) == [VIP]
    assert asked(resolver) == (WWW,)


async def test_what_the_world_has_no_address_for_is_no_service(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone())
    assert rcode(await resolver.ask("nothing.example.com")) == "NXDOMAIN"
    assert asked(resolver) == ()


@pytest.mark.parametrize(
    "name", ["*.example.com", "a/b.example.com", "a|b.example.com", r"a\000.example.com"]
)
async def test_what_can_be_no_host_is_no_service(
    resolver: Resolver, upstream: TinyUpstream, name: str
) -> None:
    """A wildcard of the world has addresses for everything that a pod makes up."""
    resolver.put(RECORDS, zone())
    upstream.records[name, "A"] = ["192.0.2.9"]
    assert values(await resolver.ask(name)) == ["192.0.2.9"]
    assert asked(resolver) == ()


async def test_a_server_that_fails_at_one_kind_of_address_does_not_keep_a_name_from_its_others(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    resolver.put(RECORDS, zone())
    upstream.bend = silent_of("AAAA")
    asking = asyncio.create_task(resolver.ask(WWW, timeout=20))
    await until(lambda: asked(resolver) == (WWW,), 20)
    assert dict(resolver.learned.current)[WWW] == ("192.0.2.1",)
    asking.cancel()


async def test_a_name_that_an_object_names_is_its_own(resolver: Resolver, upstream: TinyUpstream) -> None:
    resolver.put(RECORDS, zone(WWW))
    assert values(await resolver.ask(WWW)) == [VIP]
    assert (asked(resolver), upstream.count(WWW)) == ((), 0)


async def test_a_pattern_is_for_pods_of_its_namespaces_and_policy_comes_first(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone(to=("shop",)))
    callers = policy().callers
    resolver.put(POLICY, Queries(callers, (), {FREE: "street", BOUND: "shop"}).to_json())
    assert values(await resolver.ask(WWW)) == ["192.0.2.1"], "for others it is the world's"
    assert rcode(await resolver.ask("other.org", caller=BOUND)) == "REFUSED"
    assert asked(resolver) == ()
    asking = asyncio.create_task(resolver.ask(WWW, caller=BOUND))
    await until(lambda: asked(resolver) == (WWW,))
    asking.cancel()


async def test_in_doubt_it_is_servfail_and_never_the_worlds_address(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    resolver.put(RECORDS, zone())
    assert rcode(await resolver.ask(WWW)) == "SERVFAIL"
    assert b"no service of the mesh in time" in resolver.log.read_bytes()
    resolver.acknowledge(1000)
    assert rcode(await resolver.ask(WWW)) == "SERVFAIL"
    assert b"the mesh has no address for it" in resolver.log.read_bytes()
    upstream.bend = lambda query, answer, tcp: []
    assert rcode(await resolver.ask("new.example.com", timeout=20)) == "SERVFAIL"


async def test_without_its_pattern_a_name_is_the_worlds_again(resolver: Resolver) -> None:
    resolver.acknowledge(1000)
    await become_a_service(resolver)
    resolver.put(RECORDS, ZONE.to_json())
    await until(lambda: asked(resolver) == () and not resolver.learned.current)
    assert values(await resolver.ask(WWW)) == ["192.0.2.1"]


def test_what_is_followed_meanwhile_takes_no_answer_from_a_name_that_was_just_asked_for() -> None:
    memory = Memory(Learned(current=(("old.example.com", ("192.0.2.9",)),)), 0)
    memory.ask(WWW, ("192.0.2.1",), "shop", 0.0)
    memory.follow({"other.org"})
    memory.answer("other.org", ("198.51.100.1",))
    assert dict(memory.report().current) == {WWW: ("192.0.2.1",), "other.org": ("198.51.100.1",)}


def test_names_end_a_day_after_the_last_question() -> None:
    memory = Memory(Learned(3, asked=(AskedName("old.example.com", 100.0, 2, "street"),)), 3)
    assert memory.ask("new.example.com", ("192.0.2.1",), "shop", 50.0) == 4
    assert memory.ask_again("old.example.com", 99.0) == 2
    memory.expire(101.0)
    assert set(memory.asked) == {"old.example.com", "new.example.com"}, "it was asked for again"
    memory.expire(50.0 + ASKED_LIFETIME)
    assert set(memory.asked) == {"old.example.com"}


def test_names_are_not_too_many_and_no_namespace_takes_those_of_all() -> None:
    """Under a wildcard of the world a pod can make up as many as it likes."""
    memory = Memory(Learned(), 0)

    def ask(namespace: str, at: int) -> int:
        return memory.ask(f"n{at}.{namespace}.example.com", (), namespace, 0.0)

    def fill(namespace: str) -> int:
        for at in range(MOST_ASKED + 1):
            try:
                ask(namespace, at)
            except Full:
                return at
        return -1

    assert fill("shop") == MOST_ASKED // 2
    with pytest.raises(Full, match=r"of 1000 names .* 500 are taken, 500 by pods of shop"):
        ask("shop", MOST_ASKED)
    assert ask("shop", 0) == 1, "who is in stays in"
    assert fill("street") == MOST_ASKED // 4
    memory = Memory(Learned.from_json(memory.report().to_json()), 1)
    assert (fill("shop"), fill("street")) == (MOST_ASKED // 2, MOST_ASKED // 4), "over a restart, too"
