"""Names that services lead to: the resolver asks for them itself, and the last answer is what counts."""

from __future__ import annotations

import asyncio
import dataclasses

from agent.dns.following import AT_ONCE, LOOK
from agent.dns.upstream import ROUNDS
from mesh.dns import POLICY, RECORDS, Queries, Zone
from tests.agent.dns.running import BOUND, FREE, ZONE, Resolver, policy, rcode, until, values
from tests.agent.dns.upstream import Bend, TinyUpstream, silent_of

WWW = ("192.0.2.1", "2001:db8::1")


def zone(*upstream: str) -> str:
    return dataclasses.replace(ZONE, upstream=upstream).to_json()


def current(resolver: Resolver) -> dict[str, tuple[str, ...]]:
    return dict(resolver.learned.current)


async def test_it_asks_without_being_asked_and_reports_the_answer(resolver: Resolver) -> None:
    resolver.put(RECORDS, zone("www.example.com", "api.example.com"))
    wanted = {"www.example.com": WWW, "api.example.com": ("192.0.2.7", "192.0.2.8")}
    await until(lambda: current(resolver) == wanted)
    resolver.put(RECORDS, zone("www.example.com"))
    await until(lambda: current(resolver) == {"www.example.com": WWW})


async def test_an_answer_replaces_the_one_before_once_its_time_is_over(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    """Where policies speak of the name, its addresses outlast the answer, though no pod looked them up."""
    upstream.ttl = 1
    resolver.put(POLICY, Queries(policy().callers, ("www.example.com",)).to_json())
    resolver.put(RECORDS, zone("www.example.com"))
    await until(lambda: current(resolver) == {"www.example.com": WWW})
    before = resolver.learned.sequence
    upstream.records["www.example.com", "A"] = ["192.0.2.9"]
    await until(lambda: current(resolver) == {"www.example.com": ("192.0.2.9", WWW[1])}, 20)
    assert resolver.learned.sequence > before, "that is news"
    known = {(found.name, found.address) for found in resolver.learned.addresses}
    assert known == {("www.example.com", address) for address in (*WWW, "192.0.2.9")}


async def test_while_nobody_answers_the_last_answer_stays_over_a_restart_too(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    resolver.put(RECORDS, zone("www.example.com"))
    await until(lambda: current(resolver) == {"www.example.com": WWW})
    upstream.bend = lambda query, answer, tcp: []
    asked = len(upstream.asked)
    resolver.kill()
    await resolver.start()
    await until(lambda: len(upstream.asked) > asked)
    await until(lambda: b"keeps its addresses" in resolver.log.read_bytes(), 20)
    assert current(resolver) == {"www.example.com": WWW}


async def test_of_a_kind_of_address_of_which_nothing_is_said_the_last_answer_stays(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    upstream.ttl = 1
    resolver.put(RECORDS, zone("www.example.com"))
    await until(lambda: current(resolver) == {"www.example.com": WWW})
    upstream.bend = silent_of("AAAA")
    upstream.records["www.example.com", "A"] = ["192.0.2.9"]
    await until(lambda: current(resolver) == {"www.example.com": ("192.0.2.9", WWW[1])}, 20)


def silent_about(*names: str) -> Bend:
    """A server that says nothing of these names, by UDP or by TCP."""
    return lambda query, answer, tcp: (
        [] if query.question[0].name.to_text(omit_final_dot=True).lower() in names else [answer]
    )


async def test_what_is_answered_is_told_while_a_server_is_silent_about_another_name(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    upstream.bend = silent_about("slow.example.com")
    resolver.put(RECORDS, zone("slow.example.com", "www.example.com"))
    await until(lambda: current(resolver) == {"www.example.com": WWW})
    resolver.put(RECORDS, zone("slow.example.com", "www.example.com", "other.org"))
    await until(lambda: current(resolver).get("other.org") == ("198.51.100.1",))
    assert upstream.count("slow.example.com") < 2 * ROUNDS, "it was not waited for"


async def test_many_names_of_a_silent_server_leave_others_their_turn(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    slow = [f"n{at}.slow.example.com" for at in range(AT_ONCE)]
    upstream.bend = silent_about(*slow)
    resolver.put(RECORDS, zone(*slow))

    def asked() -> int:
        """How often one of them was asked for, at most."""
        return max(map(upstream.count, slow))

    await until(lambda: asked() > 2 * ROUNDS, 30)
    await asyncio.sleep(2 * LOOK)  # until all are due again
    resolver.put(RECORDS, zone(*slow, "www.example.com"))
    await until(lambda: current(resolver) == {"www.example.com": WWW})
    assert asked() < 4 * ROUNDS, "none of them was waited for"


async def test_a_host_is_answered_to_those_for_whom_it_is(resolver: Resolver, upstream: TinyUpstream) -> None:
    """One address for most, another in one namespace, and none but the world's where nothing is exported."""
    scoped = {"shop": {"www.example.com": ("10.128.0.9",), "other.org": ("10.128.0.10",)}}
    addresses = {**ZONE.addresses, "www.example.com": ("10.128.0.8",)}
    resolver.put(RECORDS, Zone(addresses, {}, {}, scoped).to_json())
    callers = policy().callers
    resolver.put(POLICY, Queries(callers, (), {FREE: "street", BOUND: "shop"}).to_json())
    assert values(await resolver.ask("www.example.com")) == ["10.128.0.8"]
    assert values(await resolver.ask("www.example.com", caller=BOUND)) == ["10.128.0.9"]
    assert values(await resolver.ask("other.org")) == ["198.51.100.1"]
    assert rcode(await resolver.ask("other.org", caller=BOUND)) == "REFUSED", "policy counts as before"
    assert not values(await resolver.ask("www.example.com", "AAAA")), (
        "what there is not, the world does not say"
    )
    assert not values(await resolver.ask("example.com")), "a name above it is the world's"
    assert upstream.count("www.example.com") == 0 and upstream.count("example.com") == 1
