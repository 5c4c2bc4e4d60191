"""Events and access-log entries become flows with names."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent.access_log import METHOD, Address, Refusal
from agent.entries import rules_cookie
from agent.flows import FlowLog, FlowTeller
from agent.names import Names
from agent.records import Change
from bpf.layout import NO_ADDRESS, Audit, DropReason, Event, EventFlags, EventType, Verdict, packed_address
from mesh.answers.flow import Flow, Peer, Request
from mesh.discovery.wire import bytes_field, integer_field, text_field
from mesh.model import ServiceName, WorkloadName
from mesh.node import (
    PolicyClass,
    PolicySet,
    PortVerdict,
    Record,
    ServicePortRecord,
    ServiceRecord,
    WorkloadRecord,
)
from tests.access_log import requests, tls

WEB, CLIENT = WorkloadName("shop", "web"), WorkloadName("shop", "client")
RULE = "NetworkPolicy shop/web ingress[0]"
TRIED = "NetworkPolicy shop/tried"
HTTP_RULES = ("CiliumNetworkPolicy shop/web ingress[0]", "CiliumNetworkPolicy shop/web ingress[1]")
LOGS = (("NetworkPolicy shop/other", "not this"), ("NetworkPolicy shop/web", "ticket 12"))
AUTHORIZATION = "AuthorizationPolicy shop/some rules[0]"
TOKENS = "RequestAuthentication shop/tokens jwtRules[0]"
STRICT = "PeerAuthentication shop/web mtls.mode"
LIMITS = tuple(f"RateLimit shop/web limits[{index}]" for index in (0, 1))


def names() -> Names:
    made = Names()
    records: list[Record] = [
        WorkloadRecord(WEB, 300, (("10.0.0.2", 0),), "node1"),
        WorkloadRecord(CLIENT, 301, (("10.0.0.1", 0),), "node1"),
        ServiceRecord(ServiceName("shop", "web"), ("10.128.0.1",), 0, ()),
        PolicyClass(
            1,
            (
                PortVerdict(
                    "TCP", 80, 80, "steer", 256, (*HTTP_RULES, AUTHORIZATION, STRICT, TOKENS, *LIMITS)
                ),
                PortVerdict("TCP", 81, 81, "allow", 0, (), "deny", (TRIED,)),
            ),
            (RULE,),
        ),
        PolicySet(2, "ingress", ("NetworkPolicy shop/web", "NetworkPolicy shop/other"), 1, (), LOGS),
    ]
    for number, record in enumerate(records):
        made.follow(Change("type", str(number), None, record))
    return made


def told(event: Event) -> Flow:
    log = FlowLog()
    FlowTeller(names(), log).tell([event.pack()])
    (flow,) = log.last(9)
    return flow


def event(**fields: int | bytes) -> Event:
    values: dict[str, int | bytes] = {
        "time_ns": 1,
        "src": packed_address("10.0.0.1"),
        "dst": packed_address("10.0.0.2"),
        "vip": NO_ADDRESS,
        "src_id": 301,
        "dst_id": 300,
        "cookie": 0,
        "audit_cookie": 0,
        "generation": 1,
        "src_port": 40000,
        "dst_port": 8080,
        "vip_port": 0,
        "protocol": socket.IPPROTO_TCP,
        "type": EventType.FLOW,
        "verdict": Verdict.ALLOW,
        "reason": 0,
        "flags": EventFlags.EGRESS,
    }
    return Event(**values | fields)  # type: ignore[arg-type]


def test_a_flow_to_a_service_names_both_workloads_and_the_service() -> None:
    flow = told(event(vip=packed_address("10.128.0.1"), vip_port=80))
    assert flow.source == Peer("10.0.0.1", 40000, "shop", "client", 301)
    assert flow.destination == Peer("10.0.0.2", 8080, "shop", "web", 300, "shop/web")
    assert (flow.verdict, flow.path, flow.direction) == ("FORWARDED", "kernel", "egress")


def test_a_drop_says_why_and_by_which_rules() -> None:
    flow = told(
        event(
            type=EventType.DROP,
            verdict=Verdict.DENY,
            reason=DropReason.POLICY_INGRESS,
            cookie=rules_cookie((RULE,)),
            flags=0,
        )
    )
    assert (flow.verdict, flow.drop_reason, flow.direction) == ("DROPPED", "POLICY_INGRESS", "ingress")
    assert flow.policies == (RULE,)
    assert flow.policy_log == ("ticket 12",)
    assert str(flow).endswith(f"by {RULE} log=ticket 12")
    assert Flow.from_json(flow.to_json()) == flow


def test_a_flow_says_what_policies_in_audit_mode_would_do_and_which() -> None:
    flow = told(event(audit=Audit.DENY, audit_cookie=rules_cookie((TRIED,))))
    assert (flow.verdict, flow.audit, flow.audit_policies) == ("FORWARDED", "DROPPED", (TRIED,))
    assert str(flow).endswith(f"audit=DROPPED by {TRIED}")
    assert Flow.from_json(flow.to_json()) == flow
    assert "audit" not in told(event()).to_json()


def test_a_steered_connection_takes_the_path_through_envoy() -> None:
    flow = told(event(type=EventType.CONNECT, verdict=Verdict.STEER, flags=EventFlags.EGRESS))
    assert (flow.verdict, flow.path) == ("REDIRECTED", "envoy")


def test_an_address_that_changed_hands_is_told_by_its_new_owner() -> None:
    made = names()
    old = WorkloadRecord(WEB, 300, (("10.0.0.2", 0),), "node1")
    new = WorkloadRecord(CLIENT, 301, (("10.0.0.2", 0),), "node1")
    made.follow(Change("type", "b", None, new))
    made.follow(Change("type", "a", old, None))
    assert made.workload(packed_address("10.0.0.2")) == new


def logged(
    local: str,
    remote: str,
    upstream: str,
    status: int,
    details: str,
    route: str = "",
    more: bytes = b"",
    **said: str,
) -> bytes:
    def address(ip: str, port: int) -> bytes:
        return bytes_field(1, text_field(2, ip) + integer_field(3, port))

    common = (
        bytes_field(2, address("8.8.8.8", 1))  # what X-Forwarded-For says
        + bytes_field(3, address(local, 80))
        + bytes_field(5, integer_field(1, 1_700_000_000))
        + bytes_field(12, integer_field(2, 3_500_000))
        + bytes_field(13, address(upstream, 8080))
        + (bytes_field(17, metadata(said)) if said else b"")
        + text_field(19, route)
        + bytes_field(20, address(remote, 40000))
        + more
    )
    request = integer_field(1, 1) + text_field(3, "web") + text_field(5, "/a\x1b[2J")
    response = bytes_field(1, integer_field(1, status)) + text_field(6, details)
    entry = bytes_field(1, common) + bytes_field(3, request) + bytes_field(4, response)
    return bytes_field(2, bytes_field(1, entry))


def metadata(said: dict[str, str]) -> bytes:
    """What Envoy's RBAC filters leave, beside some of another filter."""
    pairs = [text_field(1, key) + bytes_field(2, text_field(3, value)) for key, value in said.items()]
    struct = b"".join(bytes_field(1, pair) for pair in pairs)
    rbac = text_field(1, "envoy.filters.http.rbac") + bytes_field(2, struct)
    return bytes_field(1, text_field(1, "other") + bytes_field(2, b"")) + bytes_field(1, rbac)


def told_request(message: bytes) -> Flow:
    log = FlowLog()
    for request in requests(message):
        FlowTeller(names(), log).tell_request(("10.0.0.1",), request)
    (flow,) = log.last(9)
    return flow


def test_a_request_of_a_steered_caller_is_told_with_the_callers_own_address() -> None:
    flow = told_request(logged("10.128.0.1", "127.0.0.1", "10.0.0.2", 200, "via_upstream"))
    assert flow.source == Peer("10.0.0.1", 40000, "shop", "client", 301)
    assert flow.destination == Peer("10.0.0.2", 8080, "shop", "web", 300, "shop/web")
    assert flow.l7 == Request("GET", "/a\x1b[2J", "web", 200, 3.5)
    assert (flow.verdict, flow.direction, flow.type) == ("FORWARDED", "egress", "L7")
    assert flow.time == "2023-11-14T22:13:20.000000Z"


def test_a_request_that_came_in_is_of_the_service_behind_which_its_pod_stands() -> None:
    known = names()
    port = ServicePortRecord(80, "TCP", (("10.0.0.1", 80),))
    known.follow(Change("type", "s", None, ServiceRecord(ServiceName("shop", "api"), (), 0, (port,))))
    log = FlowLog()
    (request,) = requests(logged("10.0.0.1", "10.0.0.2", "", 403, NONE))
    FlowTeller(known, log).tell_request(("10.0.0.1",), request)
    (flow,) = log.last(9)
    assert (flow.destination.service, flow.verdict) == ("shop/api", "DROPPED")


def test_a_request_that_policy_refused_is_a_dropped_flow_and_another_403_is_not() -> None:
    denied = told_request(logged("10.0.0.1", "10.0.0.2", "", 403, "rbac_access_denied_matched_policy[none]"))
    assert (denied.verdict, denied.drop_reason, denied.direction) == ("DROPPED", "L7_POLICY", "ingress")
    assert told_request(logged("10.0.0.1", "10.0.0.2", "", 403, "via_upstream")).verdict == "FORWARDED"


NONE = "rbac_access_denied_matched_policy[none]"
CILIUM = {
    "enforced_engine_result": "allowed",
    "enforced_effective_policy_id": "CiliumNetworkPolicy-ns[shop]-policy[web]-rule[ingress[1]]",
}


def asked(status: int, details: str, **said: str) -> Flow:
    return told_request(logged("10.0.0.1", "10.0.0.2", "", status, details, "inbound|256", **said))


def test_a_request_names_the_rule_that_allowed_it_or_all_that_did_not_or_its_route() -> None:
    assert asked(200, "", **CILIUM).policies == HTTP_RULES[1:]
    assert asked(403, NONE, enforced_engine_result="denied").policies == HTTP_RULES
    routed = logged("10.128.0.1", "127.0.0.1", "10.0.0.2", 200, "", "HTTPRoute shop/canary rules[0]")
    assert told_request(routed).policies == ("HTTPRoute shop/canary rules[0]",)
    assert asked(200, "", enforced_effective_policy_id="everything").policies == ()


def rule(name: str) -> str:
    return f"AuthorizationPolicy-ns[shop]-policy[{name}]-rule[rules[0]]"


def key(name: str) -> str:
    return f"AuthorizationPolicy shop/{name} rules[0]"


def test_a_request_names_the_authorization_rules_that_judged_it() -> None:
    found = asked(200, "via_upstream", **CILIUM, allow_enforced_effective_policy_id=rule("some"))
    assert (found.verdict, found.policies) == ("FORWARDED", (HTTP_RULES[1], key("some")))
    denied = f"rbac_access_denied_matched_policy[{rule('no')}]"
    result = {"deny_enforced_engine_result": "denied", "deny_enforced_effective_policy_id": rule("no")}
    found = asked(403, denied, **CILIUM, **result)
    assert (found.verdict, found.drop_reason, found.policies) == ("DROPPED", "L7_POLICY", (key("no"),))
    found = asked(403, NONE, **CILIUM, allow_enforced_engine_result="denied")
    assert (found.verdict, found.policies) == ("DROPPED", (AUTHORIZATION,))


def test_a_request_that_was_too_much_names_the_limits_of_its_class() -> None:
    for details in ("local_rate_limited", "request_rate_limited", "rate_limiter_error"):
        found = asked(429, details, **CILIUM)
        assert (found.verdict, found.drop_reason, found.policies) == ("DROPPED", "L7_POLICY", LIMITS)


def test_what_an_authorization_service_refuses_is_dropped_by_the_rule_that_asked_it_last() -> None:
    said = {f"custom_{i}_shadow_effective_policy_id": rule(f"ask{i}") for i in (10, 2)}
    for details in ("ext_authz_denied", "ext_authz_error"):
        found = asked(401, details, **CILIUM, **said)
        assert (found.verdict, found.policies) == ("DROPPED", (key("ask10"),))
    assert asked(200, "via_upstream", **said).policies == (key("ask2"), key("ask10"))


def test_what_users_filters_leave_in_names_of_ours_decides_nothing() -> None:
    said = {f"custom_{odd}_shadow_effective_policy_id": rule("x") for odd in ("x", "²", "", "9" * 5000)}
    assert asked(200, "via_upstream", **said).policies == ()
    for route in ("mine|x", "mine|²", "mine|" + "9" * 5000):
        assert names().judging(route) == ()


def shadows(rules: str = "allowed", deny: str = "allowed", allow: str = "allowed") -> dict[str, str]:
    found = {"audit_rules": rules, "audit_deny": deny, "audit_allow": allow}
    names = {f"{stage}_shadow_effective_policy_id": rule(stage) for stage in found}
    if rules == "denied":
        del names["audit_rules_shadow_effective_policy_id"]
    return names | {f"{stage}_shadow_engine_result": result for stage, result in found.items()}


def test_a_request_says_what_policies_in_audit_mode_would_do_and_which() -> None:
    same = asked(200, "via_upstream", **CILIUM, **shadows())
    assert (same.verdict, same.audit, same.audit_policies) == ("FORWARDED", "", ())
    worse = asked(200, "via_upstream", **CILIUM, **shadows(deny="denied"))
    assert (worse.verdict, worse.audit, worse.audit_policies) == (
        "FORWARDED",
        "DROPPED",
        (key("audit_deny"),),
    )
    worse = asked(200, "via_upstream", **CILIUM, **shadows(rules="denied"))
    assert (worse.audit, worse.audit_policies) == ("DROPPED", HTTP_RULES)
    better = asked(403, NONE, enforced_engine_result="denied", **shadows())
    assert (better.verdict, better.audit) == ("DROPPED", "FORWARDED")
    assert better.audit_policies == tuple(map(key, ("audit_rules", "audit_deny", "audit_allow")))
    assert asked(401, "ext_authz_denied", **shadows()).audit == ""
    assert asked(401, "ext_authz_denied", **shadows(deny="denied")).audit == ""


def test_a_rule_that_only_audits_is_told_and_changes_no_verdict() -> None:
    found = asked(200, "via_upstream", audit_action_shadow_effective_policy_id=rule("watch"))
    assert (found.verdict, found.audit, found.audit_policies) == ("FORWARDED", "", (key("watch"),))


def test_a_request_over_mutual_tls_says_by_which_identity_it_came() -> None:
    principal = "spiffe://cluster.local/ns/shop/sa/web"
    own = "spiffe://cluster.local/ns/shop/sa/client"
    plain = told_request(logged("10.0.0.1", "10.0.0.2", "", 200, ""))
    flow = told_request(logged("10.0.0.1", "10.0.0.2", "", 200, "", more=tls(principal, own)))
    assert (flow.source.principal, flow.destination.principal) == (principal, "")
    assert flow.to_json()["source"]["principal"] == principal
    assert str(flow).endswith(f"ingress via envoy principal={principal}")
    assert Flow.from_json(flow.to_json()) == flow
    assert "principal" not in plain.to_json()["source"]
    assert "principal" not in str(plain)


@pytest.mark.parametrize(
    ("unproven", "reason", "policies"),
    [
        (True, "AUTH_REQUIRED", (STRICT,)),
        (False, "L7_POLICY", (*HTTP_RULES, AUTHORIZATION, TOKENS, *LIMITS)),
    ],
)
def test_a_connection_that_envoy_let_nowhere_is_a_dropped_flow_by_what_refused_it(
    unproven: bool, reason: str, policies: tuple[str, ...]
) -> None:
    log = FlowLog()
    refusal = Refusal(Address("10.0.0.1", 40000), Address("10.0.0.2", 80), 1.7e9, "inbound|256", unproven)
    FlowTeller(names(), log).tell_refusal(("10.0.0.2",), refusal)
    assert log.last(9) == [
        Flow(
            time="2023-11-14T22:13:20.000000Z",
            source=Peer("10.0.0.1", 40000, "shop", "client", 301),
            destination=Peer("10.0.0.2", 80, "shop", "web", 300),
            verdict="DROPPED",
            path="envoy",
            direction="ingress",
            protocol="TCP",
            drop_reason=reason,
            policies=policies,
        )
    ]


def test_a_connection_that_the_callers_own_envoy_let_nowhere_is_told_with_the_callers_address() -> None:
    log = FlowLog()
    refusal = Refusal(Address("127.0.0.1", 40000), Address("10.128.0.1", 80), 1.7e9, "outbound|256")
    FlowTeller(names(), log).tell_refusal(("10.0.0.1",), refusal)
    (flow,) = log.last(9)
    assert flow.source == Peer("10.0.0.1", 40000, "shop", "client", 301)
    assert flow.destination == Peer("10.128.0.1", 80, service="shop/web")
    assert flow.direction == "egress"


def test_a_flow_is_one_line_that_cannot_steer_a_terminal() -> None:
    text = str(told_request(logged("10.128.0.1", "127.0.0.1", "10.0.0.2", 200, "")))
    assert text.isprintable()
    assert "GET web/a\\x1b[2J 200 3.5ms" in text


def test_a_flow_survives_json() -> None:
    flow = told_request(logged("10.128.0.1", "127.0.0.1", "10.0.0.2", 200, ""))
    assert Flow.from_json(flow.to_json()) == flow
    dropped = told(event(type=EventType.DROP, reason=DropReason.NO_FLOW, cookie=rules_cookie((RULE,))))
    assert Flow.from_json(dropped.to_json()) == dropped


async def test_a_follower_gets_what_was_and_what_comes() -> None:
    log = FlowLog()
    first, second = told(event()), told(event(src_port=40001))
    log.add(lambda: first)
    follower = log.follow(1)
    assert await anext(follower) == first
    following = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    log.add(lambda: second)
    assert await following == second


def test_the_access_log_method_is_the_one_that_envoy_calls() -> None:
    assert METHOD.startswith("/envoy.service.accesslog.v3.")
