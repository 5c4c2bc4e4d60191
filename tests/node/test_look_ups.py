"""A Sidecar that names nothing, widened by what its pods look up: at the first answer their Envoy knows."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.node.conftest import running_mesh
from tests.node.manifests import MESH
from tests.node.mesh import RunningMesh, until

NARROW = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop, annotations: {sluice.io/widen-by-lookup: "true"}}
spec: {egress: [{hosts: ["~/*"]}]}
"""
ROUTES = "\n---\n".join(
    f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}]
  http:
  - fault: {{abort: {{percentage: {{value: 100}}, httpStatus: 418}}}}
    route: [{{destination: {{host: {name}}}}}]
"""
    for name in ("web", "web-v1", "web-v2")
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    yield from running_mesh(tmp_path_factory, MESH, NARROW, ROUTES)


def address(mesh: RunningMesh, service: str) -> str:
    """Without asking the resolver."""
    told = json.loads(mesh.run("describe", "svc", f"shop/{service}", "-o", "json"))
    found: str = told["addresses"][0]
    return found


def test_the_first_request_by_a_name_meets_its_route(mesh: RunningMesh) -> None:
    at = address(mesh, "web")
    assert mesh.get("shop/client", f"http://{at}/")[0] == 200, "its pods have looked nothing up yet"
    assert "envoy" not in mesh.processes("shop/client")
    assert mesh.get("shop/client", "http://web/")[0] == 418
    assert mesh.get("shop/client", f"http://{at}/")[0] == 418, "now its Envoy knows of it"
    listed = mesh.run("proxy-config", "routes", "shop/client")
    assert "web.shop.svc.cluster.local:80" in listed and "web-v1" not in listed
    assert mesh.get("shop/other", "http://web-v1/")[0] == 418, "another pod, another service, likewise"
    assert mesh.get("street/stranger", "http://web-v2.shop/")[0] == 418, "whom no Sidecar narrows"


def test_what_was_looked_up_outlives_the_resolver(mesh: RunningMesh) -> None:
    mesh.get("shop/client", "http://web/")
    for pid in mesh.pids("agent.dns"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: mesh.get("shop/client", "http://web/")[0] == 418, "it is back")
    listed = mesh.run("proxy-config", "routes", "shop/client")
    assert "web.shop.svc.cluster.local:80" in listed
