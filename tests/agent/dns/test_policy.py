"""Who may ask for what, from the next query on, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.dns import POLICY, Observation, Queries
from tests.agent.dns.running import (
    AUDITED,
    BOUND,
    FREE,
    RULE,
    STRANGER,
    WEB,
    Resolver,
    edit,
    policy,
    rcode,
    values,
)
from tests.agent.dns.upstream import TinyUpstream


async def test_a_name_that_no_rule_fits_is_refused_over_both_transports_and_nobody_is_asked(
    resolver: Resolver, upstream: TinyUpstream
) -> None:
    for ask in (resolver.ask, resolver.ask_tcp):
        assert values(await ask("www.example.com", caller=BOUND)) == ["192.0.2.1"]
        for name in ("other.org", "a.b.example.com", "example.com.other.org", WEB, "notexample.com"):
            answer = await ask(name, caller=BOUND)
            assert (rcode(answer), answer.answer) == ("REFUSED", [])
        assert values(await ask("other.org", caller=FREE)) == ["198.51.100.1"]
    assert upstream.count("a.b.example.com") == 0


async def test_a_refused_name_stays_refused_when_somebody_elses_answer_is_kept(resolver: Resolver) -> None:
    assert values(await resolver.ask("other.org", caller=FREE)) == ["198.51.100.1"]
    assert rcode(await resolver.ask("other.org", caller=BOUND)) == "REFUSED"


async def test_capitals_and_a_final_dot_change_nothing(resolver: Resolver) -> None:
    assert values(await resolver.ask("WwW.eXaMpLe.CoM.", caller=BOUND)) == ["192.0.2.1"]
    assert rcode(await resolver.ask("OTHER.ORG.", caller=BOUND)) == "REFUSED"


async def test_a_search_list_leads_to_an_allowed_name(resolver: Resolver, upstream: TinyUpstream) -> None:
    for suffix in ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"):
        assert rcode(await resolver.ask(f"www.example.com.{suffix}", caller=BOUND)) == "NXDOMAIN"
        assert rcode(await resolver.ask(f"other.org.{suffix}", caller=BOUND)) == "REFUSED"
    assert rcode(await resolver.ask("www.example.com.other.org", caller=BOUND)) == "REFUSED"
    assert not upstream.asked


async def test_a_caller_that_nobody_listed_is_refused(resolver: Resolver) -> None:
    for name in (WEB, "www.example.com"):
        assert rcode(await resolver.ask(name, caller=STRANGER)) == "REFUSED"


async def test_the_pod_of_the_resolver_may_ask_itself(resolver: Resolver) -> None:
    assert values(await resolver.ask(WEB, caller="127.0.0.1")) == ["10.128.0.1"]


async def test_the_newest_policy_judges_the_next_query(resolver: Resolver) -> None:
    def bind(patterns: list[str] | None) -> None:
        def change(document: dict[str, Any]) -> None:
            for caller in document["callers"]:
                if caller[0] == FREE:
                    caller[2] = patterns

        edit(resolver, change)

    for _ in range(20):
        bind(["nothing.example"])
        assert rcode(await resolver.ask("other.org", caller=FREE)) == "REFUSED"
        bind(None)
        assert rcode(await resolver.ask("other.org", caller=FREE)) == "NOERROR"
    resolver.put(POLICY, "no json")
    assert rcode(await resolver.ask("other.org", caller=BOUND)) == "REFUSED", "what was known stays"


async def test_rules_in_audit_mode_change_nothing_and_say_what_they_would(resolver: Resolver) -> None:
    resolver.observations()
    assert values(await resolver.ask("other.org", caller=AUDITED)) == ["198.51.100.1"]
    assert values(await resolver.ask("www.example.com", caller=AUDITED)) == ["192.0.2.1"]
    would, fits = resolver.observations()
    assert (would.allowed, would.audit, would.rules) == (True, False, (RULE,))
    assert (fits.allowed, fits.audit) == (True, None)


async def test_every_query_is_told_and_nobody_need_listen(resolver: Resolver) -> None:
    resolver.observations()
    await resolver.ask("api.example.com", caller=BOUND)
    await resolver.ask_tcp("other.org", caller=BOUND)
    answered, refused = resolver.observations()
    assert (answered.caller, answered.resolver, answered.transport) == (BOUND, "127.0.0.1", "UDP")
    assert answered.answer.query == "api.example.com" and answered.answer.qtype == "A"
    assert sorted(answered.answer.ips) == ["192.0.2.7", "192.0.2.8"]
    assert answered.answer.cnames == ("edge.cdn.net", "pop.cdn.net")
    assert answered.answer.rcode == "NOERROR" and 0 < answered.answer.ttl <= 60
    assert (refused.transport, refused.allowed, refused.answer.rcode) == ("TCP", False, "REFUSED")
    assert Observation.from_json(answered.to_json()) == answered
    (resolver.run / "flows.sock").unlink()
    assert values(await resolver.ask("other.org", caller=FREE)) == ["198.51.100.1"]


def test_a_policy_reads_as_it_was_written_and_anything_else_is_an_error() -> None:
    whole = policy(wanted=("*.example.com",))
    assert Queries.from_json(whole.to_json()) == whole
    for text in (
        "",
        "[]",
        "{}",
        '{"callers":[["127.0.0.1","ICMP",null,null,[]]],"wanted":[]}',
        '{"callers":{}',
    ):
        with pytest.raises(ValueError):
            Queries.from_json(text)
