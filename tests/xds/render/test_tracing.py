"""Tracing by real Envoys: what reaches a real collector, and what it changes for requests."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.discovery.envoy import LISTENER
from mesh.model import ALL, Backend, CustomTag, HttpMatch, ServiceName, TracingProvider, WorkloadName
from mesh.node import Canonical
from mesh.proxy import Destination, Part, ProxyView, Target, Tracing
from tests.trace_agent import TraceAgent
from tests.xds.render import backend
from tests.xds.render.client import ask
from tests.xds.render.collector import HttpCollector, OtlpCollector, Span, spans, zipkin
from tests.xds.render.conftest import Serve
from tests.xds.render.standalone import validate
from tests.xds.render.views import destination, entry, l7, part, prefix, routed, to, view
from xds.render import render

OTEL = TracingProvider("otel", "opentelemetry", "otel.shop.svc.cluster.local", 4317)
ZIPKIN = TracingProvider("z", "zipkin", "otel.shop.svc.cluster.local", 9411, "/api/v2/spans")
DATADOG = TracingProvider("d", "datadog", "otel.shop.svc.cluster.local", 8126, "/v0.4/traces")
CLIENT, WEB = WorkloadName("shop", "client-1"), WorkloadName("shop", "web-1")
POLICY = "CiliumNetworkPolicy-ns[shop]-policy[web]-rule[ingress[0].toPorts[0]]"


@pytest.fixture(scope="module")
def collector() -> Iterator[OtlpCollector]:
    found = OtlpCollector()
    yield found
    found.stop()


def traced(provider: TracingProvider, pod: WorkloadName, sampling: int = ALL, *tags: CustomTag) -> Tracing:
    name = pod.name.partition("-")[0]
    return Tracing(provider, sampling, tags, pod, f"{name}.shop", Canonical(name, name, "", name, "v1"))


def taking(port: int, provider: TracingProvider = OTEL) -> Destination:
    """The collector, as a service of the mesh."""
    target = Target(ServiceName("shop", "otel"), provider.port)
    return Destination(target, (Part(0, (Backend("127.0.0.1", port),)),))


def caller(backend_port: int, collector_port: int, tracing: Tracing) -> ProxyView:
    return view(
        routed=(routed("api", entry(prefix("/"), to("api"))),),
        destinations=(
            destination("api", part(backend_port)),
            taking(collector_port, tracing.provider),
        ),
        egress_tracing=tracing,
    )


def judge(collector_port: int, tracing: Tracing) -> ProxyView:
    return view(
        ingress=(l7(300, "ingress", HttpMatch(path="/.*")),),
        destinations=(taking(collector_port, tracing.provider),),
        ingress_tracing=tracing,
    )


ROUTED, JUDGED = "api.shop.svc.cluster.local:80", "virtualInbound|300"


def test_a_request_through_two_envoys_is_one_trace_with_the_callers_span_as_parent(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector
) -> None:
    web = serve(judge(collector.port, traced(OTEL, WEB)), ("127.0.0.1", servers["one"].port))
    client = serve(caller(web.ports[JUDGED], collector.port, traced(OTEL, CLIENT)))
    answer = ask(client.ports[ROUTED], "/a")
    assert answer.status == 200
    found = {span.resource["service.name"]: span for span in collector.take(2)}
    sent, got = found["client.shop"], found["web.shop"]
    assert (sent.parent, got.parent) == ("", sent.id)
    assert sent.trace == got.trace
    # The application gets the context of the Envoy before it.
    (context,) = answer.sent("traceparent")
    assert context == f"00-{got.trace}-{got.id}-01"
    assert sent.tags["sluice.route"] == sent.tags["sluice.steered_by"] == "HTTPRoute shop/api rules[0]"
    assert (got.tags["sluice.policy"], got.tags["sluice.verdict"]) == (POLICY, "allowed")
    assert got.tags["sluice.steered_by"] == "CiliumNetworkPolicy shop/web ingress[0].toPorts[0]"
    assert got.tags["istio.canonical_service"] == "web"
    assert (got.resource["k8s.pod.name"], got.resource["k8s.namespace.name"]) == ("web-1", "shop")


def test_whose_caller_traces_is_traced_and_nobody_else_where_nothing_is_sampled(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector
) -> None:
    client = serve(caller(servers["one"].port, collector.port, traced(OTEL, CLIENT, 0)))
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    port = client.ports[ROUTED]
    assert ask(port, "/quiet").status == 200
    ask(port, "/no", headers=[("traceparent", f"00-{trace}-{parent}-00")])
    ask(port, "/yes", headers=[("traceparent", f"00-{trace}-{parent}-01")])
    (span,) = collector.take(1)
    assert (span.trace, span.parent) == (trace, parent)
    with pytest.raises(queue.Empty):
        collector.take(1, timeout=6)


def listeners(shown: ProxyView) -> list[bytes]:
    return [resource.any for resource in render(shown) if resource.type_url == LISTENER]


def test_tags_bind_live_connections_and_change_no_listener(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector
) -> None:
    """Rule 6."""
    plain = caller(servers["one"].port, collector.port, traced(OTEL, CLIENT))
    tags = (
        CustomTag("a", "literal", "b"),
        CustomTag("team", "header", "x-team", "none"),
        CustomTag("where", "environment", "SLUICE_NO_SUCH", "here"),
    )
    tagged = replace(plain, egress_tracing=traced(OTEL, CLIENT, ALL, *tags))
    assert listeners(plain) == listeners(tagged)
    client = serve(plain, updated=True)
    client.update(tagged)
    ask(client.ports[ROUTED], "/", headers=[("x-team", "blue")])
    ask(client.ports[ROUTED], "/")
    for span, team in zip(collector.take(2), ("blue", "none"), strict=True):
        assert (span.tags["a"], span.tags["team"], span.tags["where"]) == ("b", team, "here")


def test_without_istios_tags_the_others_stay_and_no_listener_changes(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector
) -> None:
    tagged = caller(servers["one"].port, collector.port, traced(OTEL, CLIENT))
    bare = replace(tagged, egress_tracing=replace(traced(OTEL, CLIENT), istio_tags=False))
    assert listeners(tagged) == listeners(bare)
    ask(serve(bare).ports[ROUTED], "/")
    (span,) = collector.take(1)
    assert not [name for name in span.tags if name.startswith("istio.")]
    assert span.tags["sluice.route"] == "HTTPRoute shop/api rules[0]"


@pytest.mark.parametrize("by_id", [True, False])
def test_a_request_whose_id_is_none_is_traced_where_ids_do_not_sample(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector, by_id: bool
) -> None:
    tracing = replace(traced(OTEL, CLIENT), by_request_id=by_id)
    port = serve(caller(servers["one"].port, collector.port, tracing)).ports[ROUTED]
    ask(port, "/odd", headers=[("x-request-id", "mine")])
    ask(port, "/even")
    found = {span.tags["http.url"].rpartition("/")[2] for span in collector.take(1 if by_id else 2)}
    assert found == ({"even"} if by_id else {"odd", "even"})


def test_sampling_changes_no_listener_but_for_opentelemetry() -> None:
    for provider, same in ((ZIPKIN, True), (OTEL, False)):
        none, all_ = (caller(80, 4317, traced(provider, CLIENT, sampling)) for sampling in (0, ALL))
        assert (listeners(none) == listeners(all_)) is same


def test_tracing_changes_no_header_that_the_client_sent_and_none_without_it(
    serve: Serve, servers: dict[str, backend.Backend], collector: OtlpCollector
) -> None:
    """Rule 22: a request id and a trace context are added where something is traced, nothing else."""
    tracing = caller(servers["one"].port, collector.port, traced(OTEL, CLIENT, 0))
    plain = serve(replace(tracing, egress_tracing=None)).ports[ROUTED]
    port = serve(tracing).ports[ROUTED]
    names = [{name for name, _ in ask(at, "/").read["headers"]} for at in (plain, port)]
    assert names[1] - names[0] == {"x-request-id", "traceparent", "tracestate"} & names[1]
    assert "x-request-id" in names[1] and "x-request-id" not in names[0]
    own = "3a3b8f6e-1d5b-4c65-9c8a-0242ac130003"
    assert ask(port, "/", headers=[("x-request-id", own)]).sent("x-request-id") == [own]


def test_opentelemetry_goes_by_http_where_the_provider_has_a_path(
    serve: Serve, servers: dict[str, backend.Backend]
) -> None:
    collector = HttpCollector()
    provider = replace(OTEL, port=4318, path="/v1/traces", headers=(("x-token", "a%b"),))
    try:
        client = serve(caller(servers["one"].port, collector.port, traced(provider, CLIENT)))
        ask(client.ports[ROUTED], "/a")
        path, headers, body = collector.received.get(timeout=15)
    finally:
        collector.stop()
    (span,) = spans(body)
    assert (path, headers["x-token"], headers["host"]) == (
        "/v1/traces",
        "a%b",
        "otel.shop.svc.cluster.local:4318",
    )
    assert span.resource["service.name"] == "client.shop"


def test_zipkin_gets_b3_and_w3c_and_a_span_of_each_end(
    serve: Serve, servers: dict[str, backend.Backend]
) -> None:
    collector = HttpCollector()
    try:
        web = serve(judge(collector.port, traced(ZIPKIN, WEB)), ("127.0.0.1", servers["one"].port))
        client = serve(caller(web.ports[JUDGED], collector.port, traced(ZIPKIN, CLIENT)))
        answer = ask(client.ports[ROUTED], "/a")
        found: list[Span] = []
        while len(found) < 2:
            path, _, body = collector.received.get(timeout=15)
            assert path == "/api/v2/spans"
            found += zipkin(body)
    finally:
        collector.stop()
    sent, got = sorted(found, key=lambda span: len(span.parent))
    assert (got.trace, got.parent) == (sent.trace, sent.id)
    assert answer.sent("x-b3-traceid") == [got.trace]
    assert answer.sent("traceparent") == [f"00-{got.trace}-{got.id}-01"]
    assert len(got.trace) == 32


def test_datadogs_spans_have_the_ids_that_go_on_in_its_headers_and_in_w3cs(
    serve: Serve, servers: dict[str, backend.Backend]
) -> None:
    agent = TraceAgent(0)
    try:
        web = serve(judge(agent.port, traced(DATADOG, WEB)), ("127.0.0.1", servers["one"].port))
        client = serve(caller(web.ports[JUDGED], agent.port, traced(DATADOG, CLIENT)))
        answer = ask(client.ports[ROUTED], "/a")
        found = {span["service"]: span for span in agent.take(2)}
    finally:
        agent.stop()
    sent, got = found["client.shop"], found["web.shop"]
    assert (sent["parent"], got["parent"], got["trace"]) == ("", sent["id"], sent["trace"])
    assert answer.sent("traceparent") == [f"00-{got['trace']}-{got['id']}-01"]
    assert answer.sent("x-datadog-trace-id") == [str(int(got["trace"][16:], 16))]
    assert answer.sent("x-datadog-parent-id") == [str(int(got["id"], 16))]
    assert got["attributes"]["sluice.policy"] == POLICY


def test_envoy_takes_datadog_and_a_collector_outside_the_mesh(folder: Path) -> None:
    provider = replace(DATADOG, service="datadog.example.com", max_tag_length=99)
    shown = replace(judge(9, traced(provider, WEB)), destinations=())
    assert validate(render(shown), folder) == ""
