"""ExternalName: a CNAME of the mesh, and behind it in the same answer what there is of the name that it leads
to, as CoreDNS has it. Policies that speak of the alias know the addresses before the answer leaves."""

from __future__ import annotations

import asyncio
import dataclasses

import dns.flags
import pytest

from mesh.aliases import LONGEST
from mesh.dns import POLICY, RECORDS, Queries, Zone
from tests.agent.dns.running import BOUND, FREE, RULE, WEB, ZONE, Resolver, policy, rcode, until, values
from tests.agent.dns.upstream import TinyUpstream


def own(name: str) -> str:
    return f"{name}.shop.svc.cluster.local"


ALIASES = {
    own("front"): WEB,
    own("pods"): own("db"),
    own("out"): "www.example.com",
    own("far"): own("near"),
    own("near"): "api.example.com",
    own("lost"): own("nobody"),
    own("gone"): "gone.example.com",
    own("self"): own("self"),
    own("a"): own("b"),
    own("b"): own("a"),
}
WITH_ALIASES = dataclasses.replace(ZONE, aliases=ALIASES)


@pytest.fixture(autouse=True)
def aliases(resolver: Resolver) -> None:
    resolver.put(RECORDS, WITH_ALIASES.to_json())


async def test_the_zone_says_it_on_paper() -> None:
    assert Zone.from_json(WITH_ALIASES.to_json()) == WITH_ALIASES


@pytest.mark.parametrize(
    ("name", "kind", "way", "expected"),
    [
        ("front", "A", [WEB], ["10.128.0.1"]),
        ("front", "AAAA", [WEB], ["fd51::1"]),
        ("pods", "A", [own("db")], ["10.64.0.2", "10.64.0.3"]),
        ("out", "A", ["www.example.com"], ["192.0.2.1"]),
        ("out", "AAAA", ["www.example.com"], ["2001:db8::1"]),
        (
            "far",
            "A",
            [own("near"), "api.example.com", "edge.cdn.net", "pop.cdn.net"],
            ["192.0.2.7", "192.0.2.8"],
        ),
    ],
)
async def test_an_alias_is_answered_with_the_addresses_of_the_name_that_it_leads_to(
    resolver: Resolver, name: str, kind: str, way: list[str], expected: list[str]
) -> None:
    for answer in (await resolver.ask(own(name).upper(), kind), await resolver.ask_tcp(own(name), kind)):
        *links, last = answer.answer
        assert [link.rdtype.name for link in links] == ["CNAME"] * len(way)
        assert [link[0].target.to_text().lower() for link in links] == [f"{step}." for step in way]
        assert [r.name.to_text().lower() for r in (*links[1:], last)] == [f"{step}." for step in way]
        assert (rcode(answer), last.rdtype.name, values(answer)) == ("NOERROR", kind, expected)
        assert links[0].ttl == 5 and answer.flags & dns.flags.AA


async def test_a_question_for_the_cname_gets_that_alone(resolver: Resolver, upstream: TinyUpstream) -> None:
    answer = await resolver.ask(own("far"), "CNAME")
    assert [r.rdtype.name for r in answer.answer] == ["CNAME"]
    assert values(answer) == [f"{own('near')}."]
    assert not upstream.asked
    assert [r.rdtype.name for r in (await resolver.ask(own("out"), "TXT")).answer] == ["CNAME"]


@pytest.mark.parametrize(("name", "why"), [("lost", "NXDOMAIN"), ("gone", "NXDOMAIN")])
async def test_what_is_not_there_at_the_end_is_not_there(resolver: Resolver, name: str, why: str) -> None:
    """RFC 6604: the code is that of the last name."""
    answer = await resolver.ask(own(name))
    assert (rcode(answer), [r.rdtype.name for r in answer.answer]) == (why, ["CNAME"])
    assert answer.authority[0].rdtype.name == "SOA"


@pytest.mark.parametrize("name", ["self", "a", "b"])
async def test_a_circle_is_servfail_at_once(resolver: Resolver, upstream: TinyUpstream, name: str) -> None:
    assert rcode(await resolver.ask(own(name), timeout=2)) == "SERVFAIL"
    assert not upstream.asked


async def test_a_row_has_an_end(resolver: Resolver) -> None:
    row = {own(f"r{at}"): own(f"r{at + 1}") for at in range(LONGEST)}
    resolver.put(RECORDS, dataclasses.replace(ZONE, aliases=row | {own(f"r{LONGEST}"): WEB}).to_json())
    assert values(await resolver.ask(own("r1"))) == ["10.128.0.1"]
    assert rcode(await resolver.ask(own("r0"))) == "SERVFAIL", "that is one more"


async def test_the_name_that_is_asked_for_is_judged(resolver: Resolver, upstream: TinyUpstream) -> None:
    """As with CNAMEs of the world: rules on queries are about questions."""
    answer = await resolver.ask(own("out"), caller=BOUND)
    assert (rcode(answer), answer.answer) == ("REFUSED", []), "what it leads to is allowed, and it is not"
    assert not upstream.asked
    callers = [dataclasses.replace(c, names=(own("out"),), rules=(RULE,)) for c in policy().callers]
    resolver.put(POLICY, Queries(tuple(callers)).to_json())
    assert values(await resolver.ask(own("out"), caller=BOUND)) == ["192.0.2.1"]
    assert rcode(await resolver.ask("www.example.com", caller=BOUND)) == "REFUSED"


async def test_an_alias_exists(resolver: Resolver) -> None:
    """So does the name above it; and rules that allow what stands before a search domain do not allow it."""
    resolver.put(RECORDS, Zone({}, {}, {}, aliases={own("out"): "www.example.com"}).to_json())
    for name in ("shop.svc.cluster.local", "svc.cluster.local"):
        assert rcode(await resolver.ask(name)) == "NOERROR"
    callers = [dataclasses.replace(c, names=("out",), rules=(RULE,)) for c in policy().callers]
    resolver.put(POLICY, Queries(tuple(callers)).to_json())
    assert rcode(await resolver.ask(own("out"), caller=BOUND)) == "REFUSED"


async def test_an_observation_has_the_way(resolver: Resolver) -> None:
    await resolver.ask(own("far"))
    await resolver.ask(own("front"))
    far, front = (found.answer for found in resolver.observations())
    assert far.cnames == (own("near"), "api.example.com", "edge.cdn.net", "pop.cdn.net")
    assert set(far.ips) == {"192.0.2.7", "192.0.2.8"}
    assert (front.query, front.cnames, front.ips) == (own("front"), (WEB,), ("10.128.0.1",))


# --- policies that speak of names ------------------------------------------------------------------------


def learned(resolver: Resolver) -> set[tuple[str, str]]:
    return {(found.name, found.address) for found in resolver.learned.addresses}


async def test_every_name_on_the_way_is_learned_and_in_force_before_the_answer_leaves(
    resolver: Resolver,
) -> None:
    wanted = (own("far"), own("near"), "api.example.com", "pop.cdn.net")
    resolver.put(POLICY, policy(wanted=wanted).to_json())
    asking = asyncio.create_task(resolver.ask(own("far")))
    await until(lambda: resolver.learned.addresses)
    assert not asking.done(), "nobody has put it in force"
    assert learned(resolver) == {(name, ip) for name in wanted for ip in ("192.0.2.7", "192.0.2.8")}
    resolver.acknowledge(resolver.learned.sequence)
    assert values(await asking) == ["192.0.2.7", "192.0.2.8"]


async def test_what_is_not_in_force_in_time_is_servfail(resolver: Resolver) -> None:
    resolver.put(POLICY, policy(wanted=(own("out"),)).to_json())
    assert rcode(await resolver.ask(own("out"))) == "SERVFAIL"
    assert rcode(await resolver.ask("www.example.com")) == "NOERROR", "nobody speaks of that one"


async def test_addresses_of_the_mesh_are_not_learned(resolver: Resolver) -> None:
    """Policy knows pods by their identity: a name opens none of them."""
    resolver.put(POLICY, policy(wanted=("*",)).to_json())
    assert values(await resolver.ask(own("front"))) == ["10.128.0.1"]
    assert values(await resolver.ask(own("pods"))) == ["10.64.0.2", "10.64.0.3"]
    assert resolver.learned.addresses == ()


async def test_an_alias_of_a_host_of_a_service_entry_is_a_name_of_what_stands_behind_it(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    """Policy judges the addresses behind the host: by the alias, too, before its answer leaves, and when the
    host gets others, though nobody asks again."""
    upstream.ttl = 1
    addresses = {**ZONE.addresses, "www.example.com": ("10.128.0.9",)}
    whole = dataclasses.replace(WITH_ALIASES, addresses=addresses, upstream=("www.example.com",))
    resolver.put(RECORDS, whole.to_json())
    await until(lambda: dict(resolver.learned.current).get("www.example.com"))
    resolver.put(POLICY, policy(wanted=(own("out"),)).to_json())
    asking = asyncio.create_task(resolver.ask(own("out")))
    await until(lambda: learned(resolver) >= {(own("out"), "192.0.2.1"), (own("out"), "2001:db8::1")})
    assert not asking.done(), "nobody has put it in force"
    resolver.acknowledge(resolver.learned.sequence)
    assert values(await asking) == ["10.128.0.9"]
    upstream.records["www.example.com", "A"] = ["192.0.2.9"]
    await until(lambda: (own("out"), "192.0.2.9") in learned(resolver), 20)


async def test_an_alias_is_what_its_end_is_to_the_namespace_that_asks(resolver: Resolver) -> None:
    scoped = {"shop": {"www.example.com": ("10.128.0.9",)}}
    resolver.put(RECORDS, dataclasses.replace(WITH_ALIASES, scoped=scoped).to_json())
    resolver.put(POLICY, Queries(policy().callers, (), {FREE: "shop"}).to_json())
    assert values(await resolver.ask(own("out"))) == ["10.128.0.9"]
    resolver.put(POLICY, Queries(policy().callers, (), {FREE: "street"}).to_json())
    assert values(await resolver.ask(own("out"))) == ["192.0.2.1"]


async def test_who_asks_for_an_alias_asks_for_the_name_under_a_pattern(resolver: Resolver) -> None:
    resolver.put(RECORDS, dataclasses.replace(WITH_ALIASES, patterns={"*.example.com": ("*",)}).to_json())
    asking = asyncio.create_task(resolver.ask(own("out")))
    asked = await until(lambda: [found.name for found in resolver.learned.asked])
    assert asked == ["www.example.com"]
    addresses = {**ZONE.addresses, "www.example.com": ("10.128.0.9",)}
    whole = dataclasses.replace(WITH_ALIASES, addresses=addresses, patterns={"*.example.com": ("*",)})
    resolver.put(RECORDS, whole.to_json())
    resolver.acknowledge(resolver.learned.sequence)
    assert values(await asking) == ["10.128.0.9"]
