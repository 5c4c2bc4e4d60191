"""Ports of a pod's loopback that its Sidecar has its Envoy listen at: what the pod dials there is bound as if
it had dialled the service."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.node.conftest import running_mesh
from tests.node.manifests import MESH
from tests.node.mesh import RUN, RunningMesh, until

SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: client, namespace: shop}
spec:
  workloadSelector: {labels: {app: client}}
  egress:
  - {port: {number: 80, protocol: HTTP, name: http}, bind: 127.0.0.1, captureMode: NONE, hosts: ["./*"]}
  - port: {number: 9000, protocol: TCP, name: echo}
    captureMode: NONE
    hosts: [./web.shop.svc.cluster.local]
  - {hosts: ["*/*"]}
"""
TO_V1 = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {version: v1}}}], ports: [{port: 8080}]}]
"""
FAULT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{uri: {prefix: /fault}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: web}}]
  - route: [{destination: {host: web}}]
"""
ECHO = """
import socket
with socket.create_connection(("127.0.0.1", 9000), timeout=5) as made:
    made.settimeout(5)
    made.sendall(b"you")
    print(made.recv(64))
"""
TAKEN = """
import socket, time
made = socket.create_server(("127.0.0.1", 80))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    yield from running_mesh(tmp_path_factory, MESH)


@pytest.fixture
def bound(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(SIDECAR)
    yield mesh
    mesh.delete(SIDECAR)


def asked(mesh: RunningMesh, host: str, path: str = "/") -> tuple[int, str]:
    status, body = mesh.get("shop/client", f"http://127.0.0.1{path}", "-H", f"host: {host}")
    return status, body["name"] if isinstance(body, dict) else ""


def test_services_answer_at_loopback_by_their_names(bound: RunningMesh) -> None:
    until(lambda: asked(bound, "web")[0] == 200, "the Envoy listens")
    assert {asked(bound, host) for host in ("web-v1", "web-v1.shop", "web-v1.shop.svc.cluster.local")} == {
        (200, "v1")
    }
    assert [asked(bound, host)[0] for host in ("nobody", "elsewhere.example")] == [503, 404]
    assert b"you" in eval(bound.python("shop/client", ECHO))
    assert bound.get("shop/other", "http://127.0.0.1/")[0] == 0, "it is for those that the Sidecar selects"
    assert bound.explain("shop/client", "shop/web-v1:80")["path"] == "kernel"
    told = bound.run("describe", "pod", "shop/client")
    assert "Sidecar shop/client egress[0].bind" in told
    until(
        lambda: any(
            flow.get("l7", {}).get("authority") == "web-v1.shop"
            for flow in bound.observe("--from", "shop/client", "--to", "shop/web-v1", "--last", "500")
        ),
        "the request is a flow of the pod's",
    )


def test_rules_for_the_services_callers_bind_there(bound: RunningMesh) -> None:
    bound.apply(FAULT)
    until(lambda: asked(bound, "web", "/fault")[0] == 418, "the route is in force")
    bound.delete(FAULT)
    bound.apply(TO_V1)
    until(lambda: asked(bound, "web-v2")[0] == 503, "it may not reach v2")
    assert asked(bound, "web-v1") == (200, "v1")
    bound.delete(TO_V1)


def test_a_port_that_the_application_has_is_left_to_it_and_told(mesh: RunningMesh) -> None:
    """All else of the pod's goes on."""
    until(lambda: "envoy" not in mesh.processes("shop/client"), "nothing needs it", seconds=60)
    command = [*RUN, "exec", "--name", mesh.name, "shop/client", "--", sys.executable, "-c", TAKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        try:
            mesh.run("apply", "-f", "-", "--no-wait", stdin=SIDECAR)
            until(lambda: "127.0.0.1_80" in str(mesh.status()["problems"]), "it is told")
            assert b"you" in eval(until(lambda: mesh.python("shop/client", ECHO), "the other one is there"))
            assert mesh.get("shop/client", "http://web-v1/")[0] == 200
            mesh.apply(TO_V1)
            assert until(
                lambda: mesh.get("shop/client", "http://web-v2/")[0] in (0, -1), "policy is in force"
            )
            mesh.delete(TO_V1)
        finally:
            process.kill()
            mesh.delete(SIDECAR)
