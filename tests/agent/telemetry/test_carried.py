"""TCP connections that Envoys carry (rule 25): each is counted once at each end, whoever tells of it, and
never if any Envoy takes it for HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.access_log import Address, LoggedConnection, Principals
from agent.names import Names
from agent.records import Change
from agent.sandbox import Sandbox
from agent.telemetry import carried
from agent.telemetry.carried import Carried, Told
from bpf.layout import FlowFlags, FlowKey, FlowValue, packed_address
from mesh.model import ServiceName, WorkloadName
from mesh.node import Canonical, PodRecord, Record, ServicePortRecord, ServiceRecord, WorkloadRecord

IPS = {"client": "10.0.0.1", "edge": "10.0.0.2", "web": "10.0.0.3"}
NAMES = {WorkloadName("shop", name): name for name in IPS}
VIP = "10.128.0.1"

#: Who calls whom, and the Envoys on that connection.
CALLER, DESTINATION, BOTH = FlowFlags.BY_PROXY, FlowFlags.TO_PROXY, FlowFlags.BY_PROXY | FlowFlags.TO_PROXY
IN, ON = Address(IPS["client"], 40000), Address(IPS["edge"], 50000)
GATEWAY, WEB = Address(IPS["edge"], 8090), Address(IPS["web"], 9000)
OUTBOUND = "outbound|9000||web.shop.svc.cluster.local"


def names() -> Names:
    made = Names()
    records: list[Record] = [
        *(
            WorkloadRecord(pod, 300, ((IPS[name], 0),), "node1", Canonical(name, "", "", name, "latest"))
            for pod, name in NAMES.items()
        ),
        PodRecord(WorkloadName("shop", "edge"), (IPS["edge"],), 301, gateway=(8090,)),
        *(
            ServiceRecord(
                ServiceName("shop", name), vips, 0, (ServicePortRecord(port, "TCP", ((ip, port),)),)
            )
            for name, vips, ip, port in (("edge", (), *GATEWAY), ("web", (VIP,), *WEB))
        ),
    ]
    for number, record in enumerate(records):
        made.follow(Change("type", str(number), None, record))
    return made


class Node:
    """What its pods report of what Envoys tell, with the kernel's table of flows."""

    def __init__(self) -> None:
        self.flows: dict[bytes, bytes | None] = {}
        self.carried = Carried(names())
        self.asked: set[bytes] = set()

    def connect(
        self, opener: Address, acceptor: Address, flags: FlowFlags, ends: tuple[int, int] = (2, 3)
    ) -> None:
        (a, a_port), (b, b_port) = opener, acceptor
        key = FlowKey.of(packed_address(a), a_port, packed_address(b), b_port, 6).pack()
        self.flows[key] = FlowValue(flags=flags, ifindex_a=ends[0], ifindex_b=ends[1]).pack()

    def count(self, *told: Told) -> dict[str, tuple[int, int, int, int]]:
        """Opened, closed, received and sent, by who reports, who called whom, and the service."""
        found: dict[str, tuple[int, int, int, int]] = {}
        self.asked = self.carried.flows(told)
        for count in self.carried.counts(told, self.flows):
            said = count.said
            assert said.protocol == "tcp"
            ends = (end.canonical.workload if end else "?" for end in (said.source, said.destination))
            flags = "" if said.flags == "-" else f" {said.flags}"
            key = f"{NAMES[count.pod]} {said.reporter} {'>'.join(ends)} {said.service.name}{flags}"
            a, b, c, d = found.get(key, (0, 0, 0, 0))
            found[key] = a + count.opened, b + count.closed, c + count.received, d + count.sent
        return found


def told(pod: str, connection: LoggedConnection | None) -> Told:
    at = Sandbox(WorkloadName("shop", pod), "", Path("/"), "", (IPS[pod],))
    return at, connection


def by_gateway(*, ended: bool = False, upstream: Address = WEB) -> Told:
    received, sent = (100, 2000) if ended else (0, 0)
    return told("edge", LoggedConnection(IN, GATEWAY, ON, upstream, received, sent, "-", OUTBOUND, ended))


def by_destination(remote: Address = ON, *, ended: bool = False) -> Told:
    received, sent = (100, 2000) if ended else (0, 0)
    inside, cluster = Address("127.0.0.6", 60000), "InboundPassthroughCluster"
    return told("web", LoggedConnection(remote, WEB, inside, WEB, received, sent, "-", cluster, ended))


def by_caller(*, ended: bool = False) -> Told:
    received, sent = (100, 2000) if ended else (0, 0)
    inside, dialled = Address("127.0.0.1", 60000), Address(VIP, 9000)
    return told("client", LoggedConnection(inside, dialled, IN, WEB, received, sent, "-", OUTBOUND, ended))


OPENED, CLOSED, WHOLE = (1, 0, 0, 0), (0, 1, 100, 2000), (1, 1, 100, 2000)
CLIENT_TO_EDGE = "client source client>edge edge"
EDGE_TO_WEB, WEB_FROM_EDGE = "edge source edge>web web", "web destination edge>web web"
CLIENT_TO_WEB, WEB_FROM_CLIENT = "client source client>web web", "web destination client>web web"


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_gateways_envoy_tells_for_both_ends_where_nobody_else_does(node: Node) -> None:
    node.connect(IN, GATEWAY, DESTINATION)
    node.connect(ON, WEB, CALLER)
    three = (CLIENT_TO_EDGE, EDGE_TO_WEB, WEB_FROM_EDGE)
    assert node.count(by_gateway()) == dict.fromkeys(three, OPENED)
    assert node.asked == node.flows.keys()
    assert node.count(by_gateway(ended=True)) == dict.fromkeys(three, CLOSED)
    assert node.asked == set()
    assert node.count(by_gateway(ended=True)) == {}


def test_who_calls_from_outside_reports_nothing(node: Node) -> None:
    stranger = Address("192.0.2.1", 40000)
    node.connect(stranger, GATEWAY, DESTINATION, (0, 3))
    node.connect(ON, WEB, CALLER)
    both = (
        told("edge", LoggedConnection(stranger, GATEWAY, ON, WEB, 1, 2, "-", OUTBOUND, end))
        for end in (False, True)
    )
    assert node.count(*both) == {EDGE_TO_WEB: (1, 1, 1, 2), WEB_FROM_EDGE: (1, 1, 1, 2)}


def test_the_callers_envoy_and_the_destinations_tell_for_the_other_end_too(node: Node) -> None:
    both = (CLIENT_TO_WEB, WEB_FROM_CLIENT)
    node.connect(IN, WEB, CALLER)
    assert node.count(by_caller(), by_caller(ended=True)) == dict.fromkeys(both, WHOLE)
    node.connect(IN, WEB, DESTINATION)
    assert node.count(by_destination(IN), by_destination(IN, ended=True)) == dict.fromkeys(both, WHOLE)


def test_of_two_envoys_each_tells_its_own_end_in_whatever_order(node: Node) -> None:
    node.connect(IN, WEB, BOTH)
    both = (CLIENT_TO_WEB, WEB_FROM_CLIENT)
    one, other = (by_caller(), by_caller(ended=True)), (by_destination(IN), by_destination(IN, ended=True))
    assert node.count(*one) == {}
    assert node.count(*other) == dict.fromkeys(both, WHOLE)
    assert node.count(one[0]) == {}
    assert node.count(other[0]) == dict.fromkeys(both, OPENED)
    assert node.count(one[1]) == {CLIENT_TO_WEB: CLOSED}
    assert node.count(other[1]) == {WEB_FROM_CLIENT: CLOSED}


def test_what_one_of_two_takes_for_http_is_counted_at_neither_end(node: Node) -> None:
    node.connect(IN, GATEWAY, DESTINATION)
    node.connect(ON, WEB, BOTH)
    assert node.count(by_gateway(), by_gateway(ended=True)) == {CLIENT_TO_EDGE: WHOLE}


def test_what_the_kernel_does_not_know_is_not_counted(node: Node) -> None:
    for flags, ends in ((CALLER | FlowFlags.MIDWAY, (2, 3)), (CALLER, (2, 0))):
        node.connect(IN, WEB, flags, ends)
        assert node.count(by_caller(), by_caller(ended=True)) == {}
    node.flows.clear()
    assert node.count(by_caller(), by_caller(ended=True)) == {}


def test_of_cookies_only_the_class_is_known(node: Node) -> None:
    node.connect(IN, WEB, CALLER)
    (key,) = node.flows
    node.flows[key] = FlowValue(flags=CALLER, listener=256, ifindex_a=2, ifindex_b=3).pack()
    assert node.count(by_caller(), by_caller(ended=True)) == {}


def test_what_the_judges_hand_on_to_the_gateway_beside_them_is_told_by_that(node: Node) -> None:
    node.connect(IN, GATEWAY, DESTINATION)
    inside = Address("127.0.0.6", 60000)
    judged = LoggedConnection(IN, GATEWAY, inside, GATEWAY, 1, 1, "-", "InboundPassthroughCluster", True)
    assert node.count(told("edge", judged)) == {}
    node.connect(ON, WEB, CALLER)
    handed = LoggedConnection(inside, GATEWAY, ON, WEB, 0, 0, "-", OUTBOUND)
    assert node.count(told("edge", handed)) == {EDGE_TO_WEB: OPENED, WEB_FROM_EDGE: OPENED}


def test_without_a_backend_the_envoys_flags_say_why(node: Node) -> None:
    node.connect(IN, GATEWAY, DESTINATION)
    failed = LoggedConnection(IN, GATEWAY, upstream=WEB, flags="UF,URX", cluster=OUTBOUND, ended=True)
    assert node.count(told("edge", failed)) == {
        CLIENT_TO_EDGE: (1, 1, 0, 0),
        "edge source edge>? web UF,URX": (1, 1, 0, 0),
    }


def test_connections_of_an_envoy_that_is_gone_are_closed(node: Node) -> None:
    node.connect(IN, GATEWAY, DESTINATION)
    node.connect(ON, WEB, BOTH)
    node.count(by_gateway(), by_destination())
    assert node.count(told("edge", None)) == {CLIENT_TO_EDGE: (0, 1, 0, 0), EDGE_TO_WEB: (0, 1, 0, 0)}
    assert node.count(by_gateway(ended=True), told("edge", None)) == {}
    assert node.count(by_destination(ended=True)) == {WEB_FROM_EDGE: CLOSED}


PRINCIPALS = Principals("spiffe://cluster.local/ns/shop/sa/edge", "spiffe://cluster.local/ns/shop/sa/web")


def proven(node: Node, told: Told) -> dict[str, Principals]:
    """By who reports, of a connection whose client has shown this Envoy a certificate."""
    sandbox, connection = told
    assert connection
    found = replace(connection, principals=PRINCIPALS)
    counts = node.carried.counts([(sandbox, found)], node.flows)
    return {
        f"{NAMES[count.pod]} {count.said.reporter}": Principals(
            count.said.source_principal, count.said.destination_principal
        )
        for count in counts
    }


def test_of_mutual_tls_tells_the_destination_whose_envoy_has_ended_it(node: Node) -> None:
    node.connect(IN, WEB, DESTINATION)
    assert proven(node, by_destination(IN)) == {
        "client source": Principals(),
        "web destination": PRINCIPALS,
    }


def test_of_mutual_tls_with_a_gateway_tells_nobody_behind_it(node: Node) -> None:
    node.connect(IN, GATEWAY, DESTINATION)
    node.connect(ON, WEB, CALLER)
    assert set(proven(node, by_gateway()).values()) == {Principals()}


def test_what_is_remembered_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "OPEN", 1)
    monkeypatch.setattr(carried, "ENDED", 1)
    node.connect(IN, GATEWAY, DESTINATION)
    node.connect(ON, WEB, CALLER)
    assert len(node.count(by_gateway())) == 3
    assert node.count(by_gateway(ended=True)) == {EDGE_TO_WEB: CLOSED, WEB_FROM_EDGE: CLOSED}
    for opener in (IN, ON):
        node.connect(opener, WEB, BOTH)
        node.count(by_destination(opener), by_destination(opener, ended=True))
    assert node.count(by_caller()) == {}
