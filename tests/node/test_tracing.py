"""Telemetry and MeshConfig in a running mesh: spans of requests that an Envoy carries reach the collector, a
Service of the mesh, and the application gets the context."""

from __future__ import annotations

from tests.agent.telemetry.samples import value
from tests.node.manifests import CANARY
from tests.node.mesh import RunningMesh, until

#: The collector: any server that answers 2xx; what it is sent, Envoy counts.
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - {name: zipkin, zipkin: {service: web-v2.shop.svc.cluster.local, port: 80}}
"""

TRACED = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all, namespace: shop}
spec: {tracing: [{providers: [{name: zipkin}], randomSamplingPercentage: 100}]}
"""


def test_requests_through_an_envoy_are_traced_while_a_telemetry_says_so(mesh: RunningMesh) -> None:
    def headers(url: str = "http://web/") -> dict[str, str]:
        status, body = mesh.get("shop/client", url)
        assert status == 200 and isinstance(body, dict)
        found: dict[str, str] = body["headers"]
        return found

    mesh.apply(CANARY, CONFIG)
    try:
        assert "traceparent" not in headers()
        mesh.apply(TRACED)
        context = headers()["traceparent"].split("-")
        assert context[-1] == "01"
        cluster = {"cluster_name": "outbound|80|http|web-v2.shop.svc.cluster.local"}
        until(
            lambda: value(
                mesh.run("metrics", "shop/client"), "envoy_cluster_upstream_rq_completed", **cluster
            ),
            "the collector got a span",
        )
        assert "traceparent" not in headers("http://web-v1/"), "the kernel's path has none"
        mesh.delete(TRACED)
        assert "traceparent" not in headers()
    finally:
        mesh.delete(CANARY, CONFIG)
