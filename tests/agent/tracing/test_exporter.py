"""Spans reach a real collector by both protocols, and what cannot be sent is counted."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.tracing.span import Context, Span
from agent.tracing.tracers import Tracers
from mesh.model import ALL, WorkloadName
from mesh.node import Collector, Form, TracingRecord
from tests.node.mesh import until
from tests.trace_agent import TraceAgent
from tests.xds.render.collector import HttpCollector, OtlpCollector, spans

GRPC = Collector("otel.example.com", 4317, headers=(("x-token", "a"),))
HTTP = Collector("otel.example.com", 4318, None, "/v1/traces", (("x-token", "a"),), 3000)
RECORD = TracingRecord(WorkloadName("shop", "client"), GRPC, ALL, "client.shop", "v1", (("tier", "gold"),))
SPAN = Span(
    RECORD, "TCP web:80", 10**18, 10**18 + 5, {"sluice.path": "kernel"}, "", Context(1, 2), (Context(3, 4),)
)


@pytest.fixture
def stopping() -> Any:
    made: list[Any] = []
    yield made.append
    for one in made:
        one.stop()


def unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_a_span_arrives_over_grpc_from_the_pod_it_is_about_though_one_backend_is_dead(
    stopping: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "operators=own")
    collector = OtlpCollector()
    stopping(collector)
    tracers = Tracers(lambda _: (("127.0.0.1", unused()), ("127.0.0.1", collector.port)))
    told = tracers.emit(SPAN)
    (span,) = collector.take(1)
    assert (span.trace, span.id, span.parent) == (f"{1:032x}", f"{told.span:016x}", f"{2:016x}")
    assert span.tags == {"tier": "gold", "sluice.path": "kernel"}
    assert span.resource == {
        "service.name": "client.shop",
        "service.version": "v1",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "client",
    }
    assert tracers.lost == 0
    tracers.keep([])


def test_a_span_arrives_over_http_with_the_providers_headers_and_no_others(
    stopping: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=operators")
    collector = HttpCollector()
    stopping(collector)
    tracers = Tracers(lambda _: (("127.0.0.1", collector.port),))
    tracers.emit(replace(SPAN, record=replace(RECORD, collector=HTTP), parent=None))
    path, headers, body = collector.received.get(timeout=15)
    assert path == "/v1/traces" and headers["x-token"] == "a" and "authorization" not in headers
    assert headers["host"] == "otel.example.com:4318"
    (span,) = spans(body)
    assert span.parent == "" and span.trace != f"{1:032x}"
    tracers.keep([])


@pytest.mark.parametrize(("form", "digits"), [("zipkin", 32), ("zipkin-64", 16)])
def test_zipkin_gets_a_span_in_its_own_form(stopping: Callable[[Any], None], form: Form, digits: int) -> None:
    collector = HttpCollector()
    stopping(collector)
    to = Collector("zipkin.example.com", 9411, path="/api/v2/spans", form=form)
    tracers = Tracers(lambda _: (("127.0.0.1", collector.port),))
    said = {"network.local.address": "10.0.0.1", "network.local.port": 4, "sluice.connection.reused": False}
    parent = Context(0xA << 64 | 0xB, 2)
    told = tracers.emit(
        replace(SPAN, record=replace(RECORD, collector=to), attributes=said, parent=parent, end=10**18 + 7000)
    )
    tracers.emit(
        replace(SPAN, record=replace(RECORD, collector=to), parent=None, links=(), error="POLICY_EGRESS")
    )
    path, headers, body = collector.received.get(timeout=15)
    assert (path, headers["content-type"]) == ("/api/v2/spans", "application/json")
    child, root = json.loads(body)
    resource = {
        "service.version": "v1",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "client",
        "tier": "gold",
    }
    assert child == {
        "traceId": f"{parent.trace:032x}"[-digits:],
        "id": f"{told.span:016x}",
        "parentId": f"{2:016x}",
        "kind": "CLIENT",
        "name": "TCP web:80",
        "timestamp": 10**15,
        "duration": 7,
        "localEndpoint": {"serviceName": "client.shop", "ipv4": "10.0.0.1", "port": 4},
        "remoteEndpoint": {},
        "tags": resource
        | {
            "network.local.address": "10.0.0.1",
            "network.local.port": "4",
            "sluice.connection.reused": "false",
        }
        | {"link.0": f"{3:032x}-{4:016x}"},
    }
    assert "parentId" not in root and root["duration"] == 1 and root["tags"]["error"] == "POLICY_EGRESS"
    tracers.keep([])


DATADOG = replace(
    RECORD, collector=Collector("datadog.example.com", 8126, path="/v0.4/traces", form="datadog")
)


def test_datadog_gets_a_span_in_its_own_form(stopping: Callable[[Any], None]) -> None:
    agent = TraceAgent(0)
    stopping(agent)
    tracers = Tracers(lambda _: (("127.0.0.1", agent.port),))
    said = {"network.peer.port": 8080, "sluice.connection.reused": False}
    parent, link = Context(0xA << 124 | 0xB, 1 << 63), Context(0xC << 64 | 0xD, (1 << 64) - 1)
    span = replace(SPAN, record=DATADOG, attributes=said, parent=parent, links=(link,))
    told = tracers.emit(span)
    short = tracers.emit(replace(span, parent=Context(7, 8), links=()))
    refused = tracers.emit(replace(SPAN, record=DATADOG, parent=None, links=(), error="POLICY_EGRESS"))
    child, of_64_bits, root = agent.take(3)
    resource = {
        "service.version": "v1",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "client",
        "tier": "gold",
        "span.kind": "client",
    }
    assert child == {
        "trace": f"{parent.trace:032x}",
        "id": f"{told.span:016x}",
        "parent": "8000000000000000",
        "operation": "tcp.connection",
        "name": "TCP web:80",
        "type": "custom",
        "start": 10**18,
        "end": 10**18 + 5,
        "error": False,
        "service": "client.shop",
        "attributes": resource
        | {"network.peer.port": "8080", "sluice.connection.reused": "false", "_dd.p.tid": "a000000000000000"},
        "metrics": {"_sampling_priority_v1": 1},
        "links": [[f"{link.trace:032x}", "ffffffffffffffff"]],
    }
    assert (of_64_bits["trace"], of_64_bits["id"]) == (f"{7:032x}", f"{short.span:016x}")
    assert "_dd.p.tid" not in of_64_bits["attributes"]
    assert (root["trace"], root["parent"], root["links"]) == (f"{refused.trace:032x}", "", [])
    assert root["error"] and root["attributes"]["error.message"] == "POLICY_EGRESS"
    assert tracers.lost == 0
    tracers.keep([])


def test_what_datadogs_agent_drops_is_lost_though_it_answers_200_to_who_does_not_ask(
    stopping: Callable[[Any], None],
) -> None:
    agent = TraceAgent(0)
    stopping(agent)
    agent.overloaded = True
    tracers = Tracers(lambda _: (("127.0.0.1", agent.port),))
    tracers.emit(replace(SPAN, record=DATADOG))
    until(lambda: tracers.lost == 1, "counted")
    tracers.keep([])


def test_spans_that_nobody_takes_are_counted_also_when_their_collector_is_forgotten() -> None:
    tracers = Tracers(lambda _: ())
    tracers.emit(SPAN)
    until(lambda: tracers.lost, "counted")
    tracers.keep([])
    assert tracers.lost == 1
