"""Which spans come of which events and access records (rule 26), without a kernel or a collector."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from agent.access_log import Address, Leg, LoggedRequest
from agent.flows import FlowLog, FlowTeller
from agent.names import Names
from agent.records import Change
from agent.tracing import connections
from agent.tracing.bound import RATE, Bound
from agent.tracing.connections import PATIENCE, Connections
from agent.tracing.span import Context, Span
from agent.tracing.traced import Traced
from bpf.layout import NO_ADDRESS, DropReason, Event, EventFlags, EventType, FlowFlags, FlowValue, Verdict
from bpf.layout import packed_address as packed
from mesh.model import ALL, ServiceName, WorkloadName
from mesh.node import Collector, Record, ServicePortRecord, ServiceRecord, TracingRecord, WorkloadRecord

CLIENT, WEB, OTEL = (WorkloadName("shop", name) for name in ("client", "web", "otel"))
COLLECTOR = Collector("otel.shop.svc.cluster.local", 4317, ServiceName("shop", "otel"))
RECORD = TracingRecord(CLIENT, COLLECTOR, ALL, "client.shop", "v1", (("tier", "gold"),))
SERVICES = [
    ServiceRecord(ServiceName("shop", "web"), ("10.128.0.1",), 0, ()),
    ServiceRecord(
        ServiceName("shop", "otel"),
        ("10.128.0.2",),
        0,
        (ServicePortRecord(4317, "TCP", (("10.0.0.3", 4317),)),),
    ),
]
#: From the kernel's clocks to the epoch.
OFFSET = 10**18
SECOND = 10**9

EVENT = Event(
    5 * SECOND, packed("10.0.0.1"), packed("10.0.0.2"), packed("10.128.0.1"), 301, 300, 0, 0, 7,
    40000, 8080, 80, 6, EventType.FLOW, Verdict.ALLOW, 0, EventFlags.EGRESS,
)  # fmt: skip


class Told:
    """Spans as they are told, of a pod whose Telemetry says `record`."""

    def __init__(self, record: TracingRecord | None = RECORD, *, rate: int = RATE) -> None:
        names = Names()
        self.traced = Traced(names)
        self.spans: list[Span] = []
        self.seconds = 0.0
        self.bound = Bound(lambda: self.seconds, rate)
        self.connections = Connections(
            self.traced, FlowTeller(names, FlowLog()).telling, self._emit, self.bound.allows, lambda: 0.5
        )
        workloads = {"10.0.0.1": CLIENT, "10.0.0.2": WEB, "10.0.0.3": OTEL}
        records: list[Record] = [
            *(WorkloadRecord(pod, 300, ((ip, 0),), "node1") for ip, pod in workloads.items()), *SERVICES,
        ]  # fmt: skip
        for found in (*records, *((record,) if record else ())):
            for follower in (names, self.traced):
                follower.follow(Change("type", "name", None, found))

    def see(self, *events: Event) -> None:
        self.connections.add_events([event.pack() for event in events], OFFSET)

    def look(self, flow: FlowValue | None, now: int = OFFSET + 6 * SECOND) -> None:
        packed_flow = flow.pack() if flow else None
        self.connections.look(dict.fromkeys(self.connections.open, packed_flow), OFFSET, now)

    def _emit(self, span: Span) -> Context:
        self.spans.append(span)
        return Context(900, len(self.spans))


def request(
    trace: int = 1, *, started: float = OFFSET / 1e9 + 4.99, port: int = 40000, flags: str = "01"
) -> LoggedRequest:
    return LoggedRequest(
        upstream=Address("10.0.0.2", 8080),
        started=started,
        lasted=0.1,
        cluster="outbound|80||web.shop.svc.cluster.local",
        traceparent=f"00-{trace:032x}-{trace + 1:016x}-{flags}",
        leg=Leg(Address("10.0.0.1", port), first_sent=0.02, last_got=0.09),
    )


BY_PROXY = replace(EVENT, flags=EventFlags.EGRESS | EventFlags.BY_PROXY, vip=NO_ADDRESS, vip_port=0)
CLOSED = FlowValue(
    seen_ns=5 * SECOND + 30_000_000, flags=FlowFlags.CLOSED | FlowFlags.FIN_A | FlowFlags.FIN_B
)


def test_a_connection_without_an_envoy_is_a_trace_of_its_own_from_its_first_packet_to_its_last() -> None:
    told = Told()
    told.see(EVENT)
    told.look(FlowValue(seen_ns=5 * SECOND, flags=FlowFlags.REPLIED))
    assert told.spans == []
    told.look(CLOSED)
    (span,) = told.spans
    assert (span.start, span.end) == (OFFSET + 5 * SECOND, OFFSET + 5 * SECOND + 30_000_000)
    assert (span.name, span.parent, span.links) == ("TCP web.shop.svc.cluster.local:80", None, ())
    assert span.attributes == {
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.local.address": "10.0.0.1",
        "network.local.port": 40000,
        "network.peer.address": "10.0.0.2",
        "network.peer.port": 8080,
        "server.address": "web.shop.svc.cluster.local",
        "server.port": 80,
        "sluice.path": "kernel",
        "sluice.verdict": "allowed",
        "sluice.source": "shop/client",
        "sluice.destination": "shop/web",
        "sluice.service": "shop/web",
        "sluice.kernel.generation": 7,
    }
    assert told.connections.open == []


def test_a_connection_that_was_reset_says_so_and_one_that_lasts_is_told_as_open() -> None:
    told = Told()
    told.see(EVENT, replace(EVENT, src_port=40001))
    live = FlowValue(seen_ns=5 * SECOND, flags=FlowFlags.REPLIED)
    reset, lasting = told.connections.open
    flows = {reset: replace(live, flags=FlowFlags.REPLIED | FlowFlags.CLOSED).pack(), lasting: live.pack()}
    told.connections.look(flows, OFFSET, OFFSET + 6 * SECOND)
    told.look(live, OFFSET + 5 * SECOND + PATIENCE + 1)
    first, second = told.spans
    assert (
        first.attributes["sluice.connection.reset"] is True
        and "sluice.connection.open" not in first.attributes
    )
    assert second.attributes["sluice.connection.open"] is True and second.end - second.start == PATIENCE + 1


def test_a_request_has_the_kernels_connection_as_a_child_and_those_after_it_a_link_to_that() -> None:
    told = Told()
    told.connections.add_request(request(1))
    assert told.spans == [], "the event may still be in the ring"
    told.see(BY_PROXY)
    later = OFFSET / 1e9 + 7
    told.connections.add_request(request(5, started=later))
    told.see()
    first, second = told.spans
    assert (first.parent, first.links, first.start) == (Context(1, 2), (), OFFSET + 5 * SECOND)
    assert first.attributes["sluice.connection.reused"] is False
    assert first.name == "TCP web.shop.svc.cluster.local:80"
    assert (second.parent, second.links) == (Context(5, 6), (Context(900, 1),))
    assert second.attributes["sluice.connection.reused"] is True
    assert abs(second.start - round(later * 1e9) - 20_000_000) < 1000
    assert abs(second.end - second.start - 70_000_000) < 1000


@pytest.mark.parametrize(
    "odd",
    [
        request(flags="00"),
        request(port=40001),
        replace(request(), traceparent=""),
        replace(request(), traceparent="00-zz"),
        replace(request(), traceparent=f"00-{0:032x}-{0:016x}-01"),
    ],
)
def test_a_request_that_is_not_recorded_or_whose_connection_was_not_seen_has_no_child(
    odd: LoggedRequest,
) -> None:
    told = Told()
    told.connections.add_request(odd)
    told.see(BY_PROXY)
    assert told.spans == []


@pytest.mark.parametrize("turned", [False, True], ids=["the opener's socket", "the other"])
def test_a_refusal_is_told_at_once_and_an_end_by_policy_with_the_newest_verdict(turned: bool) -> None:
    told = Told()
    told.see(replace(EVENT, type=EventType.CONNECT, verdict=Verdict.DENY, reason=DropReason.POLICY_INGRESS))
    (refused,) = told.spans
    assert refused.error == "POLICY_INGRESS" and refused.attributes["sluice.verdict"] == "denied"
    told.see(EVENT)
    end = replace(EVENT, type=EventType.END, verdict=Verdict.DENY, time_ns=8 * SECOND, generation=8)
    if turned:
        end = replace(end, src=end.dst, dst=end.src, src_port=end.dst_port, dst_port=end.src_port)
    told.see(end)
    _, ended = told.spans
    assert (ended.error, ended.end) == ("POLICY_CHANGED", OFFSET + 8 * SECOND)
    assert (
        ended.attributes["sluice.kernel.generation"] == 8 and ended.attributes["sluice.verdict"] == "denied"
    )


@pytest.mark.parametrize(
    ("record", "event"),
    [
        (None, EVENT),
        (replace(RECORD, sampling=ALL // 2), EVENT),
        (RECORD, replace(EVENT, src=packed("10.0.0.2"))),
        (RECORD, replace(EVENT, protocol=17)),
        (RECORD, replace(EVENT, flags=0)),
        (RECORD, replace(EVENT, dst=packed("10.0.0.3"), dst_port=4317)),
        (RECORD, replace(EVENT, type=EventType.DROP, verdict=Verdict.DENY, reason=DropReason.SPOOFED_SOURCE)),
        (RECORD, replace(EVENT, type=EventType.CONNECT, verdict=Verdict.STEER)),
    ],
    ids=["not traced", "not sampled", "another's", "UDP", "inbound", "to the collector", "forged", "steered"],
)
def test_of_what_is_not_traced_nothing_is_told(record: TracingRecord | None, event: Event) -> None:
    told = Told(record)
    told.see(event)
    told.look(CLOSED)
    assert told.spans == [] and told.bound.dropped == 0


def test_no_more_is_told_than_the_bound_allows_and_the_rest_is_counted() -> None:
    told = Told(rate=3)
    told.see(*(replace(EVENT, src_port=port) for port in range(1, 11)))
    told.look(CLOSED)
    assert (len(told.spans), told.bound.dropped) == (3, 7)
    told.seconds = 1 / 3
    told.see(EVENT)
    told.look(CLOSED)
    assert len(told.spans) == 4


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "OPEN", 2)
    monkeypatch.setattr(connections, "CARRYING", 2)
    told = Told()
    told.see(*(replace(BY_PROXY, src_port=port) for port in (40000, 1, 2)))
    told.connections.add_request(request())
    told.see(*(replace(EVENT, src_port=port) for port in (10, 11, 12)))
    (oldest,) = told.spans
    assert (
        oldest.attributes["network.local.port"] == 10 and oldest.attributes["sluice.connection.open"] is True
    )


def test_records_that_go_take_their_spans_with_them() -> None:
    told = Told()
    for _ in range(2):  # a generation that failed is followed again
        told.traced.follow(Change("type", "name", RECORD, None))
        told.traced.follow(Change("type", "name", SERVICES[1], None))
    told.see(EVENT)
    assert told.traced.records == set() and told.connections.open == []
    assert told.traced.addresses(COLLECTOR) == ()


def test_an_agent_that_traces_nobody_has_not_loaded_opentelemetry() -> None:
    code = "import agent.node_agent, sys; sys.exit('opentelemetry' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
