"""Who is traced: MeshConfig, root namespace, namespace, workload, each field by the narrowest (rule 20)."""

from __future__ import annotations

import pytest

from mesh.datapath import Node
from mesh.model import ServiceName, WorkloadName
from mesh.node import Collector, Form, TracingRecord
from mesh.proxy import ProxyView
from mesh.routes.gateways import GATEWAY_NAME
from tests.mesh.shop import CANARY, GET_ONLY, SHOP, documents, mesh_of
from xds.dialects import read

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - {name: otel, opentelemetry: {service: otel.shop.svc.cluster.local, port: 4317}}
    - {name: zipkin, zipkin: {service: zipkin.example.com, port: 9411}}
    DEFAULT
"""
DEFAULT = CONFIG.replace("DEFAULT", "defaultProviders: {tracing: [otel]}")
CONFIG = CONFIG.replace("DEFAULT", "")

OTEL = """
apiVersion: v1
kind: Service
metadata: {name: otel, namespace: shop}
spec: {selector: {app: stranger}, ports: [{name: grpc, port: 4317}]}
"""


def telemetry(namespace: str, spec: str, name: str = "one") -> str:
    return f"""
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""


def view(*texts: str, pod: str = "shop/storefront") -> ProxyView:
    return Node(mesh_of(SHOP, CANARY, GET_ONLY, OTEL, *texts), "here").proxies[pod]


def found(*texts: str, pod: str = "shop/storefront") -> tuple[str, int, str, int] | None:
    """Provider and sampling of what it sends and gets; None: nothing is traced."""
    shown = view(*texts, pod=pod)
    parts = [
        (t.provider.name, t.sampling) if t else ("", 0) for t in (shown.egress_tracing, shown.ingress_tracing)
    ]
    return None if parts == [("", 0)] * 2 else (*parts[0], *parts[1])


def tracing(namespace: str, rule: str, name: str = "one") -> str:
    return telemetry(namespace, f"{{tracing: [{rule}]}}", name)


ROOT = tracing("istio-system", "{providers: [{name: otel}], randomSamplingPercentage: 10}")
SHOPS = tracing("shop", "{randomSamplingPercentage: 50}")
STREETS = tracing("street", "{randomSamplingPercentage: 50}")
BEHIND = tracing("shop", "{randomSamplingPercentage: 7}", "zero")
SENT = tracing("shop", "{match: {mode: CLIENT}, randomSamplingPercentage: 5}")
GOT = tracing("shop", "{match: {mode: SERVER}, disableSpanReporting: true}")
ONES = telemetry(
    "shop", "{selector: {matchLabels: {app: storefront}}, tracing: [{providers: [{name: zipkin}]}]}", "two"
)
SERVED = telemetry(
    "shop",
    "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: public}],"
    " tracing: [{randomSamplingPercentage: 33}]}",
    "gate",
)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((CONFIG,), None),
        ((DEFAULT,), ("otel", 100, "otel", 100)),
        ((CONFIG, ROOT), ("otel", 1000, "otel", 1000)),
        ((CONFIG, SHOPS), None),
        ((CONFIG, ROOT, SHOPS), ("otel", 5000, "otel", 5000)),
        ((CONFIG, ROOT, SHOPS, ONES), ("zipkin", 5000, "zipkin", 5000)),
        ((CONFIG, ROOT, STREETS), ("otel", 1000, "otel", 1000)),
        ((CONFIG, ROOT, SENT), ("otel", 500, "otel", 1000)),
        ((CONFIG, ROOT, GOT), ("otel", 1000, "", 0)),
        ((DEFAULT, SHOPS, BEHIND), ("otel", 5000, "otel", 5000)),
    ],
)
def test_each_field_is_the_narrowest_ones_and_of_several_at_one_level_the_first_by_name(
    texts: tuple[str, ...], expected: tuple[str, int, str, int] | None
) -> None:
    assert found(*texts) == expected


def test_whether_the_id_of_a_request_samples_and_istios_tags_are_there_the_narrowest_says_too() -> None:
    root = tracing("istio-system", "{useRequestIdForTraceSampling: false, enableIstioTags: false}")
    own = tracing("shop", "{match: {mode: SERVER}, enableIstioTags: true}")
    shown = view(DEFAULT), view(DEFAULT, root), view(DEFAULT, root, own)
    said = [
        [one and (one.by_request_id, one.istio_tags) for one in (v.egress_tracing, v.ingress_tracing)]
        for v in shown
    ]
    assert said == [[(True, True)] * 2, [(False, False)] * 2, [(False, False), (False, True)]]


def test_one_for_a_gateway_is_of_the_pods_that_serve_it_as_if_it_selected_them() -> None:
    served = SHOP.replace("{app: storefront}", f"{{app: storefront, {GATEWAY_NAME}: public}}")
    node = Node(mesh_of(served, CANARY, GET_ONLY, OTEL, CONFIG, ROOT, SHOPS, SERVED), "here")
    samplings = {
        pod: shown.egress_tracing.sampling for pod, shown in node.proxies.items() if shown.egress_tracing
    }
    assert (samplings["shop/storefront"], samplings["shop/reviews-v1"]) == (3300, 5000)


def test_spans_say_who_the_workload_is() -> None:
    tracing = view(DEFAULT, pod="shop/reviews-v1").ingress_tracing
    assert tracing is not None
    assert (tracing.service_name, tracing.pod) == ("reviews.shop", WorkloadName("shop", "reviews-v1"))
    assert tracing.canonical.revision == "v1"


def test_a_collector_in_the_mesh_is_a_destination_of_the_proxy() -> None:
    reached = {(d.target.service, d.target.port) for d in view(DEFAULT).destinations}
    assert (ServiceName("shop", "otel"), 4317) in reached
    assert (ServiceName("shop", "otel"), 4317) not in {
        (d.target.service, d.target.port) for d in view(CONFIG).destinations
    }


def test_the_agent_is_told_whose_connections_it_traces_and_who_takes_the_spans() -> None:
    tagged = (
        "{randomSamplingPercentage: 5, customTags: {tier: {literal: {value: gold}}, h: {header: {name: h}}}}"
    )
    node = Node(mesh_of(SHOP, OTEL, DEFAULT, tracing("shop", tagged)), "here")
    assert set(node.state.tracings) == {str(pod.name) for pod in node.state.pods.values()}
    storefront = WorkloadName("shop", "storefront")
    assert node.state.tracings[str(storefront)] == TracingRecord(
        storefront,
        Collector("otel.shop.svc.cluster.local", 4317, ServiceName("shop", "otel")),
        500,
        "storefront.shop",
        "latest",
        (("tier", "gold"),),
    )


@pytest.mark.parametrize("texts", [(), (CONFIG,), (DEFAULT, GOT.replace("SERVER", "CLIENT"))])
def test_the_agent_traces_nobody_of_whose_connections_no_spans_are_asked_for(texts: tuple[str, ...]) -> None:
    node = Node(mesh_of(SHOP, OTEL, *texts), "here")
    assert "shop/storefront" not in node.state.tracings


@pytest.mark.parametrize(("more", "form"), [("", "zipkin"), (", enable64bitTraceId: true", "zipkin-64")])
def test_the_agent_tells_zipkin_in_its_own_form(more: str, form: Form) -> None:
    node = Node(mesh_of(SHOP, CONFIG.replace("9411}", f"9411{more}}}"), ROOT, ONES), "here")
    collector = node.state.tracings["shop/storefront"].collector
    assert collector == Collector("zipkin.example.com", 9411, path="/api/v2/spans", form=form)


def test_the_agent_tells_datadog_where_envoys_tracer_does() -> None:
    datadog = CONFIG.replace(
        "zipkin: {service: zipkin.example.com, port: 9411", "datadog: {service: d, port: 8126"
    )
    collector = Node(mesh_of(SHOP, datadog, ROOT, ONES), "here").state.tracings["shop/storefront"].collector
    assert collector == Collector("d", 8126, path="/v0.4/traces", form="datadog")


def test_tracing_rides_along_and_steers_nobody() -> None:
    """Rule 20."""
    node = Node(mesh_of(SHOP, OTEL, DEFAULT, ROOT), "here")
    assert node.proxies == {}
    assert not any(pod.reasons for pod in node.state.pods.values())


def test_a_telemetry_that_comes_and_goes_leaves_nothing() -> None:
    mesh = mesh_of(SHOP, CANARY, CONFIG, OTEL)
    node = Node(mesh, "here")
    before = dict(node.proxies)
    (document,) = documents(ROOT)
    fragment = read(document)
    node.update(mesh.apply({fragment.ref: fragment}))
    assert node.proxies["shop/storefront"].egress_tracing is not None
    node.update(mesh.apply({fragment.ref: None}))
    assert node.proxies == before


def test_a_provider_that_mesh_config_does_not_know_is_a_problem_until_it_does() -> None:
    mesh = mesh_of(SHOP, CONFIG, telemetry("shop", "{tracing: [{providers: [{name: jaeger}]}]}"))
    (problem,) = mesh.problems
    assert problem.field == "spec.tracing[0].providers[0].name"
    assert problem.message.startswith("jaeger is no extension provider of tracing")
    (document,) = documents(CONFIG.replace("name: otel", "name: jaeger"))
    fragment = read(document)
    mesh.apply({fragment.ref: fragment})
    assert mesh.problems == ()
