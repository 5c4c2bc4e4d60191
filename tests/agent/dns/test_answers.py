"""What the resolver says: of the mesh with authority, of the rest what upstreams say."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import pytest

from mesh.dns import RECORDS, Zone
from tests.agent.dns.running import FREE, WEB, ZONE, Resolver, rcode, until, values
from tests.agent.dns.upstream import TinyUpstream


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (WEB, "A", ["10.128.0.1"]),
        (WEB, "AAAA", ["fd51::1"]),
        ("db.shop.svc.cluster.local", "A", ["10.64.0.2", "10.64.0.3"]),
        ("db-1.db.shop.svc.cluster.local", "A", ["10.64.0.3"]),
        (f"_http._tcp.{WEB}", "SRV", [f"0 100 80 {WEB}."]),
        ("1.0.128.10.in-addr.arpa", "PTR", [f"{WEB}."]),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
    ],
)
async def test_the_meshs_own_names_are_answered_with_authority(
    resolver: Resolver, upstream: TinyUpstream, name: str, kind: str, expected: list[str]
) -> None:
    for answer in (await resolver.ask(name, kind), await resolver.ask_tcp(name, kind)):
        assert (rcode(answer), values(answer)) == ("NOERROR", expected)
        assert answer.flags & dns.flags.AA
        assert answer.answer[0].ttl == 5
    assert not upstream.asked


async def test_a_name_with_other_records_is_no_data_and_one_without_any_does_not_exist(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    for name in (WEB, "shop.svc.cluster.local", "svc.cluster.local", f"_tcp.{WEB}"):
        answer = await resolver.ask(name, "MX")
        assert rcode(answer) == "NOERROR" and not answer.answer and answer.authority[0].rdtype.name == "SOA"
    for name in (
        "nobody.shop.svc.cluster.local",
        "db-7.db.shop.svc.cluster.local",
        "example.com.cluster.local",
    ):
        answer = await resolver.ask(name)
        assert rcode(answer) == "NXDOMAIN" and answer.authority[0].rdtype.name == "SOA"
    assert not upstream.asked


async def test_changed_records_are_answered_from_the_next_query_on(resolver: Resolver) -> None:
    for number in range(1, 30):
        resolver.put(RECORDS, Zone({WEB: (f"10.128.1.{number}",)}, {}, {}).to_json())
        assert values(await resolver.ask(WEB)) == [f"10.128.1.{number}"]
    resolver.put(RECORDS, "{")
    assert values(await resolver.ask(WEB)) == ["10.128.1.29"], "what cannot be read leaves what was known"


async def test_other_names_come_from_upstream_and_are_kept(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    for _ in range(3):
        answer = await resolver.ask("WWW.example.com")
        assert values(answer) == ["192.0.2.1"]
        assert answer.flags & dns.flags.RA and not answer.flags & dns.flags.AA
    assert upstream.count("www.example.com") == 1
    assert values(await resolver.ask("other.org", "TXT")) == ['"hello"']


async def test_an_answer_is_kept_as_long_as_it_says_and_one_without_time_to_live_not_at_all(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    upstream.ttl = 1
    assert (await resolver.ask("www.example.com")).answer[0].ttl <= 1
    await asyncio.sleep(1.1)
    await resolver.ask("www.example.com")
    assert upstream.count("www.example.com") == 2
    upstream.ttl = 0
    for _ in range(2):
        await resolver.ask("other.org")
    assert upstream.count("other.org") == 2


async def test_that_a_name_does_not_exist_is_kept_for_a_moment(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    for _ in range(3):
        answer = await resolver.ask("nobody.example.com")
        assert rcode(answer) == "NXDOMAIN" and answer.authority[0].ttl <= 20
    assert upstream.count("nobody.example.com") == 1


async def test_what_is_not_on_the_way_from_the_question_is_left_out(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    def bend(query: dns.message.Message, answer: bytes, tcp: bool) -> list[bytes]:
        message = dns.message.from_wire(answer)
        message.answer.append(dns.rrset.from_text("bank.example.", 60, "IN", "A", "203.0.113.66"))
        message.additional.append(dns.rrset.from_text("bank.example.", 60, "IN", "A", "203.0.113.66"))
        return [message.to_wire()]

    upstream.bend = bend
    answer = await resolver.ask("www.example.com")
    assert "203.0.113.66" not in answer.to_text()
    assert values(answer) == ["192.0.2.1"]


async def test_cname_chains_are_followed_and_loops_are_servfail(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    answer = await resolver.ask("api.example.com")
    assert [rrset.rdtype.name for rrset in answer.answer] == ["CNAME", "CNAME", "A"]
    assert values(answer) == ["192.0.2.7", "192.0.2.8"]
    upstream.put("a.loop CNAME b.loop.")
    upstream.put("b.loop CNAME a.loop.")
    assert rcode(await resolver.ask("a.loop")) == "SERVFAIL"


async def test_a_large_answer_is_cut_off_at_what_the_caller_takes_and_whole_by_tcp(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    for number in range(1, 201):
        upstream.put(f"many.example.com A 192.0.2.{number}")
    upstream.udp_room = 512  # TCP fallback towards upstream, too
    query = dns.message.make_query("many.example.com", "A", use_edns=False)
    larger = dns.message.make_query("many.example.com", "A", payload=4096)
    for message in (query, larger):
        small = await resolver.send(message.to_wire())
        assert len(small) <= 1232 and dns.message.from_wire(small).flags & dns.flags.TC
    assert len(values(await resolver.ask_tcp("many.example.com"))) == 200
    assert [tcp for _, _, tcp in upstream.asked] == [False, True], "asked once, by UDP and then by TCP"
    for number in range(1, 51):
        upstream.put(f"some.example.com A 192.0.2.{number}")
    for payload, cut in ((512, True), (1232, False), (65535, False)):
        answer = await resolver.ask("some.example.com", payload=payload)
        assert bool(answer.flags & dns.flags.TC) == cut


async def test_a_silent_upstream_is_servfail_in_time_and_the_next_one_is_asked(
    tmp_path_factory: pytest.TempPathFactory, upstream: TinyUpstream
) -> None:
    silent = await TinyUpstream().start()
    silent.bend = lambda query, answer, tcp: []
    resolver = Resolver(
        tmp_path_factory.mktemp("silent") / "r", "--upstream", silent.address, upstream.address
    )
    try:
        await resolver.start()
        assert values(await resolver.ask("www.example.com")) == ["192.0.2.1"]
        upstream.bend = silent.bend
        assert rcode(await resolver.ask("other.org")) == "SERVFAIL"
        assert b"SERVFAIL" in resolver.log.read_bytes()
        asked = upstream.count("other.org")
        assert rcode(await resolver.ask("other.org")) == "SERVFAIL"
        assert upstream.count("other.org") == asked, "nobody waits for it again so soon"
        upstream.bend = lambda query, answer, tcp: [answer]
        assert values(await resolver.ask("api.example.com")) == ["192.0.2.7", "192.0.2.8"]
        async with asyncio.timeout(20):
            while rcode(await resolver.ask("other.org")) != "NOERROR":
                await asyncio.sleep(0.1)
    finally:
        resolver.close()


async def test_questions_that_wait_are_bounded_for_each_caller_and_others_go_on(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    upstream.delay = 30
    waiting = [
        asyncio.create_task(resolver.ask(f"n{number}.example.com", caller="127.0.0.2"))
        for number in range(300)
    ]
    await until(lambda: sum(task.done() for task in waiting) >= 44)
    refused = [task.result() for task in waiting if task.done()]
    assert {rcode(answer) for answer in refused} == {"SERVFAIL"}
    assert values(await resolver.ask(WEB)) == ["10.128.0.1"]
    upstream.delay = 0
    assert values(await resolver.ask("www.example.com", caller="127.0.0.4")) == ["192.0.2.1"]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_question_of_many_callers_goes_upstream_once(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    upstream.delay = 0.3
    answers = await asyncio.gather(*(resolver.ask("www.example.com", caller=FREE) for _ in range(50)))
    assert {tuple(values(answer)) for answer in answers} == {("192.0.2.1",)}
    assert upstream.count("www.example.com") == 1
    assert Zone.from_json(ZONE.to_json()) == ZONE
