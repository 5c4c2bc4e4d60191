"""Istio's standard metrics of real traffic, as Prometheus would read them: of requests through Envoys, of TCP
connections that stay in the kernel, and never both for one connection (rule 25)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.telemetry.samples import samples, value
from tests.node.manifests import CANARY, GET_ONLY, L4
from tests.node.mesh import RunningMesh, until

PATH = "/stats/prometheus"
OPENED, REQUESTS = "istio_tcp_connections_opened_total", "istio_requests_total"


def scrape(mesh: RunningMesh, pod: str, port: int = 15020, by: str = "shop/other") -> tuple[int, str]:
    """As another pod sees it; status 0 when refused."""
    status, body = mesh.get(by, f"http://{mesh.pod(pod)['ip']}:{port}{PATH}")
    assert isinstance(body, str)
    return status, body


def grown(mesh: RunningMesh, pod: str, name: str, **labels: str) -> float:
    return value(mesh.run("metrics", pod), name, **labels)


def test_a_connection_that_stays_in_the_kernel_is_counted_at_both_ends(mesh: RunningMesh) -> None:
    for _ in range(3):
        assert mesh.get("shop/client", "http://web-v1/")[0] == 200
    known = {
        "source_workload": "client",
        "source_app": "client",
        "source_version": "unknown",
        "destination_workload": "web-v1",
        "destination_workload_namespace": "shop",
        "destination_version": "v1",
        "destination_canonical_service": "web",
        "request_protocol": "tcp",
    }
    source, destination = mesh.run("metrics", "shop/client"), mesh.run("metrics", "shop/web-v1")
    dialled = {
        "destination_service": "web-v1.shop.svc.cluster.local",
        "connection_security_policy": "unknown",
    }
    assert value(source, OPENED, reporter="source", **known, **dialled) == 3
    assert value(destination, OPENED, reporter="destination", connection_security_policy="none", **known) == 3
    until(lambda: grown(mesh, "shop/client", "istio_tcp_connections_closed_total") == 3, "curl has ended")
    sent = grown(mesh, "shop/client", "istio_tcp_sent_bytes_total", **known)
    until(
        lambda: grown(mesh, "shop/web-v1", "istio_tcp_sent_bytes_total", **known) == sent > 300,
        "both ends saw the same bytes",
    )
    assert samples(source, "istio_request") == []


@pytest.fixture
def routed(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(CANARY)
    yield mesh
    mesh.delete(CANARY)


def test_what_an_envoy_carries_is_counted_as_requests_and_at_neither_end_as_tcp(routed: RunningMesh) -> None:
    pods = ("shop/client", "shop/web-v1", "shop/web-v2")
    before = {pod: grown(routed, pod, OPENED, source_workload="client") for pod in pods}
    for header in ("x: y", "x-canary: yes", "x-canary: yes"):
        assert routed.get("shop/client", "http://web/", "-H", header)[0] == 200
    assert routed.get("shop/client", "http://web/old/a")[0] == 301

    def seen() -> bool:
        return grown(routed, "shop/client", REQUESTS) == 4

    until(seen, "the Envoy tells its requests")
    text = routed.run("metrics", "shop/client")
    v2 = {"destination_workload": "web-v2", "destination_service": "web-v2.shop.svc.cluster.local"}
    assert value(text, REQUESTS, reporter="source", response_code="200", response_flags="-", **v2) == 2
    redirect = {"response_code": "301", "destination_workload": "unknown"}
    assert value(text, REQUESTS, destination_service="web.shop.svc.cluster.local", **redirect) == 1
    assert value(text, "istio_request_duration_milliseconds_count", **v2) == 2
    assert value(text, "istio_response_bytes_sum", **v2) > 2 * 100
    assert value(text, "envoy_server_live") == 1, "its Envoy's own come with them"
    assert {pod: grown(routed, pod, OPENED, source_workload="client") for pod in pods} == before


def test_the_destinations_envoy_reports_as_destination(mesh: RunningMesh) -> None:
    mesh.apply(GET_ONLY)
    try:
        before = grown(mesh, "shop/client", OPENED)
        assert mesh.get("shop/client", "http://web-v1/public")[0] == 200
        assert mesh.get("shop/client", "http://web-v1/secret")[0] == 403
        until(lambda: grown(mesh, "shop/web-v1", REQUESTS) == 2, "the Envoy tells its requests")
        text = mesh.run("metrics", "shop/web-v1")
        for code in ("200", "403"):
            labels = {"reporter": "destination", "source_workload": "client", "response_code": code}
            assert value(text, REQUESTS, connection_security_policy="none", **labels) == 1
        assert grown(mesh, "shop/client", OPENED) == before
    finally:
        mesh.delete(GET_ONLY)


def test_prometheus_finds_a_pod_where_istio_has_it_and_policy_judges_who_asks(mesh: RunningMesh) -> None:
    assert mesh.get("shop/client", "http://web-v1/")[0] == 200
    for port in (15020, 15090):
        until(lambda port=port: scrape(mesh, "shop/web-v1", port)[0] == 200, f"{port} is served")
        _, text = scrape(mesh, "shop/web-v1", port)
        assert value(text, OPENED, reporter="destination", source_workload="client") >= 1
    ip = mesh.pod("shop/web-v1")["ip"]
    assert mesh.get("shop/other", f"http://{ip}:15020/")[0] == 404
    mesh.apply(L4)
    try:
        assert scrape(mesh, "shop/web-v1")[0] == 0
    finally:
        mesh.delete(L4)


def test_the_agent_tells_of_its_own_work_and_of_all_pods(mesh: RunningMesh) -> None:
    mesh.apply(L4)
    try:
        assert mesh.get("street/stranger", "http://web-v1.shop/")[0] == 0
        text = mesh.run("metrics")
    finally:
        mesh.delete(L4)
    assert value(text, "sluice_generation") == value(text, "sluice_generation_wanted") >= 2
    assert value(text, "sluice_pods_enforced") == value(text, "sluice_pods") >= 5
    assert value(text, "sluice_drops_total", reason="POLICY_INGRESS") >= 1
    assert value(text, "sluice_generation_apply_seconds_count") >= 2
    assert value(text, OPENED, namespace="shop", pod="web-v1", reporter="destination") >= 1
    assert text.count(f"# TYPE {OPENED} counter") == 1


def test_a_pod_that_is_not_there_is_said_to_be_so(mesh: RunningMesh) -> None:
    with pytest.raises(AssertionError, match="pod shop/none is not on this node"):
        mesh.run("metrics", "shop/none")


TELLING = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: telling, namespace: shop}
spec:
  selector: {matchLabels: {app: client}}
  metrics:
  - overrides:
    - {match: {metric: REQUEST_COUNT}, tagOverrides: {path: {value: request.url_path}}}
    - {match: {metric: REQUEST_SIZE}, disabled: true}
"""


def test_a_telemetry_changes_labels_and_silences_metrics_while_it_is_there(routed: RunningMesh) -> None:
    def asked(**labels: str) -> bool:
        routed.get("shop/client", "http://web/told?x=1")
        return grown(routed, "shop/client", REQUESTS, reporter="source", **labels) > 0

    routed.apply(TELLING)
    until(lambda: asked(path="/told"), "the path is a label")
    text = routed.run("metrics", "shop/client")
    assert value(text, "istio_response_bytes_count") > 0 == value(text, "istio_request_bytes_count")
    routed.delete(TELLING)
    until(asked, "requests are counted")
    assert grown(routed, "shop/client", REQUESTS, path="/told") == 0
    assert grown(routed, "shop/client", "istio_request_bytes_count") > 0
