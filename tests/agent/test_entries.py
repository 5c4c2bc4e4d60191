"""Records become the map entries that the programs look up."""

from __future__ import annotations

import socket
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from agent import entries
from agent.entries import Backends, Block, Local
from bpf import layout
from mesh.model import Protocol, ServiceName, WorkloadName
from mesh.node import (
    EVERYONE,
    PodRecord,
    PolicyClass,
    PolicySet,
    PortVerdict,
    ServicePortRecord,
    ServiceRecord,
    WorkloadRecord,
)

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


def verdict_of(record: PolicyClass, protocol: int, port: int) -> layout.RuleValue:
    """What the kernel's search finds."""
    rows = {layout.RuleKey.unpack(key): value for _, key, value in entries.class_entries(record)}
    page, place = 0, protocol << 16 | port
    for _ in range(layout.RuleTree.DEPTH):
        found = layout.RulePage.unpack(rows[layout.RuleKey(record.id, page)])
        value = next(rule for start, rule in reversed(found.intervals) if start <= place)
        if value.verdict != layout.Verdict.LOOK_BELOW:
            return value
        page = value.listener
    raise AssertionError("deeper than the kernel looks")


@given(st.sets(st.integers(0, 65535), max_size=700), st.sets(st.integers(0, 65535), max_size=40))
def test_every_port_of_a_range_gets_its_verdict_and_no_other(bounds: set[int], asked: set[int]) -> None:
    edges = sorted(bounds)
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    record = PolicyClass(5, tuple(PortVerdict("TCP", a, b, "allow", 0, (f"{a}",)) for a, b in ranges))
    for port in asked | {p + d for p in edges[:60] for d in (-1, 0, 1) if 0 <= p + d <= 65535}:
        hit = next((a for a, b in ranges if a <= port <= b), None)
        wanted = layout.Verdict.DENY if hit is None else layout.Verdict.ALLOW
        assert verdict_of(record, TCP, port).verdict == wanted
        assert verdict_of(record, TCP, port).cookie == (
            0 if hit is None else entries.rules_cookie((f"{hit}",))
        )
        assert verdict_of(record, UDP, port).verdict == layout.Verdict.DENY


def test_a_class_without_many_ports_is_one_page_and_one_with_every_port_is_not_deep() -> None:
    few = PolicyClass(5, tuple(PortVerdict("TCP", p, p, "allow") for p in (80, 443, 8080)))
    assert len(entries.class_entries(few)) == 1
    every = PolicyClass(5, tuple(PortVerdict("TCP", p, p, "allow", 0, (str(p),)) for p in range(65536)))
    assert verdict_of(every, TCP, 40000).cookie == entries.rules_cookie(("40000",))
    assert len(entries.class_entries(every)) < 65536 / 14


def test_what_no_port_covers_is_refused_in_the_name_of_the_class() -> None:
    record = PolicyClass(
        5, (PortVerdict("TCP", 80, 90, "steer", 300, ("Rule a",)),), ("NetworkPolicy shop/deny",)
    )
    steered = verdict_of(record, TCP, 85)
    assert steered == layout.RuleValue(
        layout.Verdict.STEER, listener=300, cookie=entries.rules_cookie(("Rule a",))
    )
    denied = verdict_of(record, TCP, 91)
    assert denied == layout.RuleValue(
        layout.Verdict.DENY, cookie=entries.rules_cookie(("NetworkPolicy shop/deny",))
    )


def test_what_audit_mode_would_say_stands_beside_the_verdict() -> None:
    port = PortVerdict("TCP", 80, 80, "allow", audit="deny", audit_rules=("NetworkPolicy shop/tried",))
    found = verdict_of(PolicyClass(5, (port,)), TCP, 80)
    assert found == layout.RuleValue(
        layout.Verdict.ALLOW,
        layout.Audit.DENY,
        audit_cookie=entries.rules_cookie(("NetworkPolicy shop/tried",)),
    )


def test_every_protocol_that_a_rule_may_name_has_its_number() -> None:
    named = set(get_args(Protocol))
    assert named == set(entries.PROTOCOL_NUMBERS)
    record = PolicyClass(5, tuple(PortVerdict(p, 0, 65535, "allow") for p in sorted(named)))
    for number in range(256):
        found = verdict_of(record, number, 0)
        allowed = number in entries.PROTOCOL_NUMBERS.values()
        assert found.verdict == (layout.Verdict.ALLOW if allowed else layout.Verdict.DENY)


def test_an_entry_for_every_protocol_stands_behind_the_others() -> None:
    record = PolicyClass(5, (PortVerdict("TCP", 22, 22, "deny"), PortVerdict(None, 0, 65535, "allow")))
    assert [verdict_of(record, TCP, port).verdict for port in (22, 23)] == [
        layout.Verdict.DENY,
        layout.Verdict.ALLOW,
    ]


def test_an_address_has_the_id_of_its_workload_and_the_set_of_its_cidrs() -> None:
    record = WorkloadRecord(WorkloadName("shop", "web"), 300, (("10.0.0.1", 0), ("fd00::1", 9)), "node1")
    assert entries.workload_entries(record) == (
        ("sl_addr", layout.AddrKey.of("10.0.0.1/32").pack(), layout.AddrSlot(id=300).pack()),
        ("sl_addr", layout.AddrKey.of("fd00::1/128").pack(), layout.AddrSlot(id=300, cidrs=9).pack()),
    )


def test_a_service_address_leads_to_backends_of_its_own_family_only() -> None:
    port = ServicePortRecord(
        80, "TCP", (("10.0.0.2", 8080), ("10.0.0.1", 8080), ("fd00::1", 8080)), (EVERYONE, "shop")
    )
    record = ServiceRecord(ServiceName("shop", "web"), ("10.128.0.1", "fd00:2::1"), 30, (port,))
    asked: dict[bytes, Backends] = {}

    def place(key: bytes, backends: Backends) -> Block:
        asked[key] = backends
        return Block(64, 31)

    found = entries.service_entries(record, place)
    key = layout.ServiceKey(layout.packed_address("10.128.0.1"), 80, TCP).pack()
    assert asked[key] == tuple(
        layout.Backend(layout.packed_address(address), 8080).pack() for address in ("10.0.0.1", "10.0.0.2")
    )
    (slot,) = [layout.ServiceSlot.unpack(value) for table, k, value in found if k == key]
    assert (slot.size, slot.offset, slot.affinity) == (31, 64, 30)
    assert slot.flags == layout.ServiceFlags.PRESENT | layout.ServiceFlags.ROUTED
    views = {layout.RouteKey.unpack(k).view for table, k, _ in found if table == "sl_route"}
    assert views == {0, entries.view_id("shop")}
    assert sum(table == "sl_vip" for table, _, _ in found) == 2


def test_an_address_that_stands_behind_itself_looks_alike_before_and_after() -> None:
    """So tc cannot tell what was not translated (rule 14): a ServiceEntry may name the real address."""
    name = ServiceName("shop", "api.example.com")
    port = ServicePortRecord(80, "TCP", (("192.0.2.1", 80),))
    found = entries.service_entries(ServiceRecord(name, ("192.0.2.1", "192.0.2.2"), 0, (port,)), _nowhere)
    assert [k for table, k, _ in found if table == "sl_vip"] == [
        layout.VipKey(layout.packed_address("192.0.2.2")).pack()
    ]


def _nowhere(key: bytes, backends: Backends) -> Block:
    return Block(0, len(backends))


def test_the_default_class_of_a_set_stands_under_peer_zero() -> None:
    record = PolicySet(7, "ingress", ("NetworkPolicy shop/a",), 70, ((300, 0, 71),))
    classes = {
        layout.PeerKey.unpack(key).id: layout.PeerSlot.unpack(value).class_id
        for _, key, value in entries.set_entries(record)
    }
    assert classes == {0: 70, 300: 71}


def test_a_pod_is_found_by_each_address_and_by_its_namespace() -> None:
    record = PodRecord(WorkloadName("shop", "web"), ("10.0.0.1", "fd00::1"), 300, 1, 2, view="shop")
    found = entries.pod_entries(record, Local(cookie=77, ifindex=9, flags=layout.PodFlags.PROXY))
    pods = [layout.PodSlot.unpack(value) for table, _, value in found if table == "sl_pod"]
    assert pods == [layout.PodSlot(0, 300, 1, 2, entries.view_id("shop"), 9, 1)] * 2
    (own,) = [layout.NetnsValue.unpack(value) for table, _, value in found if table == "sl_netns"]
    assert own == layout.NetnsValue(layout.packed_address("10.0.0.1"), layout.packed_address("fd00::1"))
