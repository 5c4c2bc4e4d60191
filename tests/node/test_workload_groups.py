"""Machines that are registered by their WorkloadGroup: real servers outside, whom the node probes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from subprocess import Popen
from typing import Any

import pytest

from tests.node.conftest import running_mesh
from tests.node.manifests import CLIENT, NAMESPACES
from tests.node.mesh import RunningMesh, sluice, until
from tests.node.outside import machines, serving

ONE, TWO = "192.0.2.11", "192.0.2.12"
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.server.server_address[0] + " " + self.headers.get("x-route", "")).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

server = ThreadingHTTPServer((sys.argv[1], 8080), Handler)
print("ready", flush=True)
server.serve_forever()
"""
GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: legacy, namespace: shop}
spec:
  metadata: {labels: {app: legacy}, annotations: {owner: ops}}
  template: {ports: {http: 8080}, labels: {kind: machine}}
  probe: {periodSeconds: 1, failureThreshold: 1, httpGet: {path: /ready, port: 8080}}
"""
SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec:
  hosts: [legacy.example]
  addresses: [203.0.113.80]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: legacy}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: legacy, namespace: shop}
spec:
  hosts: [legacy.example]
  http: [{headers: {request: {set: {x-route: legacy}}}, route: [{destination: {host: legacy.example}}]}]
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    yield from running_mesh(tmp_path_factory, NAMESPACES, CLIENT, GROUP, SERVICE)


def asked(mesh: RunningMesh) -> tuple[int, Any]:
    return mesh.get("shop/client", "http://203.0.113.80/")


def entry(mesh: RunningMesh, address: str) -> dict[str, Any]:
    text = mesh.run("get", "workloadentry", f"legacy-{address}", "-n", "shop", "-o", "json")
    found: dict[str, Any] = json.loads(text)
    return found


def health(mesh: RunningMesh, address: str) -> str:
    conditions = entry(mesh, address).get("status", {}).get("conditions", [])
    return next((found["status"] for found in conditions if found["type"] == "Healthy"), "")


def at(netns: str, address: str) -> AbstractContextManager[Popen[bytes]]:
    return serving(netns, "-c", SERVER, address)


def test_a_machine_serves_while_it_is_registered_and_healthy(mesh: RunningMesh) -> None:
    with machines(mesh, (ONE, TWO)) as netns:
        said = mesh.run("register", "shop/legacy", ONE)
        assert said == f"workloadentry/legacy-{ONE} created\n"
        made = entry(mesh, ONE)
        assert made["metadata"]["annotations"] == {
            "owner": "ops",
            "istio.io/autoRegistrationGroup": "legacy",
            "proxy.istio.io/health-checks-enabled": "true",
        }
        assert made["spec"]["labels"] == {"app": "legacy", "kind": "machine"}
        assert (health(mesh, ONE), asked(mesh)[0]) == ("", 503), "nobody has found it healthy"
        with at(netns, ONE) as one:
            until(lambda: health(mesh, ONE) == "True", "it is found healthy")
            assert until(lambda: asked(mesh) == (200, f"{ONE} legacy"), "it is asked")
            with at(netns, TWO):
                mesh.run("register", "shop/legacy", TWO, "--label", "version=v2")
                until(lambda: health(mesh, TWO) == "True", "the other one is found healthy")
                assert {asked(mesh)[1] for _ in range(12)} == {f"{ONE} legacy", f"{TWO} legacy"}
                one.kill()
                until(lambda: health(mesh, ONE) == "False", "it is found to be gone")
                until(lambda: asked(mesh)[1] == f"{TWO} legacy", "the change is in force")
                assert {asked(mesh) for _ in range(12)} == {(200, f"{TWO} legacy")}
                table = mesh.run("get", "we", "-n", "shop").splitlines()
                assert [line.split()[:3] for line in table] == [
                    ["NAME", "ADDRESS", "HEALTHY"],
                    [f"legacy-{ONE}", ONE, "False"],
                    [f"legacy-{TWO}", TWO, "True"],
                ]
                gone = mesh.run("delete", "workloadentry", f"legacy-{TWO}", f"legacy-{ONE}", "-n", "shop")
                assert gone == f"workloadentry/legacy-{TWO} deleted\nworkloadentry/legacy-{ONE} deleted\n"
                assert asked(mesh)[0] == 503


def test_a_dry_run_shows_the_entry_and_registers_nothing(mesh: RunningMesh) -> None:
    shown = mesh.run("register", "shop/legacy", "2001:db8::7", "--port", "http=9080", "--dry-run")
    assert "name: legacy-2001-db8--7" in shown and "http: 9080" in shown
    assert "there is no WorkloadEntry" in sluice("get", "--name", mesh.name, "we", "-n", "shop").stderr


def test_who_has_no_group_is_not_registered(mesh: RunningMesh) -> None:
    done = sluice("register", "--name", mesh.name, "shop/none", ONE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("sluice: there is no WorkloadGroup shop/none; sluice get workloadgroups -A\n")
