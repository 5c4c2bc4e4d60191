"""Ports that a Sidecar has an Envoy take in a pod's stead: who connects reaches what listens for that Envoy
alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import running_mesh
from tests.node.manifests import CLIENT, NAMESPACES
from tests.node.mesh import RunningMesh, until

SERVER = """
import os, socketserver, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        at = self.connection.getsockname()
        body = (at if isinstance(at, str) else "%s:%s" % at[:2]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
    def address_string(self): return ""

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello " + self.request.recv(64))

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): pass

servers = [
    ThreadingHTTPServer(("127.0.0.1", 8080), Handler),
    socketserver.ThreadingTCPServer((os.environ["POD_IP"], 9000), Echo),
    Unix(sys.argv[1], Handler),
]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: own, namespace: shop, labels: {{app: own}}}}
spec:
  containers:
  - name: main
    command: {command}
    env: [{{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: own, namespace: shop}}
spec:
  selector: {{app: own}}
  ports:
  - {{name: http, port: 80, targetPort: 9080}}
  - {{name: tcp-echo, port: 81, targetPort: 9081}}
  - {{name: http-unix, port: 82, targetPort: 9082}}
"""
SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own, namespace: shop}}
spec:
  workloadSelector: {{labels: {{app: own}}}}
  ingress:
  - {{port: {{number: 9080, protocol: HTTP, name: http}}, defaultEndpoint: "127.0.0.1:8080"}}
  - {{port: {{number: 9081, protocol: TCP, name: echo}}, defaultEndpoint: "0.0.0.0:9000"}}
  - {{port: {{number: 9082, protocol: HTTP, name: unix}}, defaultEndpoint: "unix://{path}"}}
"""
ONLY_GET = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: own, namespace: shop}
spec:
  selector: {matchLabels: {app: own}}
  rules: [{to: [{operation: {ports: ["9080"], methods: [GET]}}]}]
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: own, namespace: shop}
spec: {selector: {matchLabels: {app: own}}, mtls: {mode: STRICT}}
"""
ECHO = """
import socket
with socket.create_connection(("own", 81), timeout=5) as made:
    made.sendall(b"you")
    print(made.recv(64).decode())
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own") / "own.sock"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, path: Path) -> Iterator[RunningMesh]:
    command = json.dumps([sys.executable, "-c", SERVER, str(path)])
    yield from running_mesh(tmp_path_factory, NAMESPACES, CLIENT, POD.format(command=command))


@pytest.fixture
def taken(mesh: RunningMesh, path: Path) -> Iterator[RunningMesh]:
    sidecar = SIDECAR.format(path=path)
    mesh.apply(sidecar)
    yield mesh
    mesh.delete(sidecar)


def asked(mesh: RunningMesh, port: int, *curl: str) -> object:
    """Who answered, or the status if that is not 200."""
    status, body = mesh.get("shop/client", f"http://own:{port}/", *curl)
    return body if status == 200 else status


def echoed(mesh: RunningMesh) -> str:
    return mesh.exec("shop/client", sys.executable, "-c", ECHO).stdout.strip()


def test_without_it_nobody_is_there(mesh: RunningMesh) -> None:
    assert asked(mesh, 80) == 0
    assert mesh.explain("shop/client", "shop/own:80")["path"] == "kernel"


def test_connections_are_handed_on_to_where_the_pod_listens_for_its_envoy(
    taken: RunningMesh, path: Path
) -> None:
    assert until(lambda: asked(taken, 80), "the Envoy is there") == "127.0.0.1:8080"
    assert asked(taken, 82) == str(path)
    assert echoed(taken) == "hello you"
    found = taken.explain("shop/client", "shop/own:81")
    assert (found["verdict"], found["path"]) == ("allow", "envoy")
    assert [reason["effect"] for reason in found["reasons"]] == ["hands on to 0.0.0.0:9000"]
    flows = taken.observe("--from", "shop/client", "--to", "shop/own", "--last", "50")
    assert "Sidecar shop/own ingress[0]" in {rule for flow in flows for rule in flow.get("policies", ())}
    assert "port 9080 is handed on to 127.0.0.1:8080" in taken.run("describe", "pod", "shop/own")


def test_policy_judges_what_comes_there_and_mutual_tls_ends_there(taken: RunningMesh) -> None:
    until(lambda: asked(taken, 80), "the Envoy is there")
    taken.apply(ONLY_GET)
    assert until(lambda: asked(taken, 80, "-X", "POST") == 403, "POST is refused")
    assert asked(taken, 80) == "127.0.0.1:8080"
    assert echoed(taken) == ""
    taken.delete(ONLY_GET)
    taken.apply(STRICT)
    assert until(lambda: asked(taken, 80), "in mutual TLS") == "127.0.0.1:8080"
    assert until(lambda: echoed(taken), "in mutual TLS") == "hello you"
    address = taken.pod("shop/own")["ip"]
    assert taken.get("shop/client", f"http://{address}:9080/")[0] == 0
    taken.delete(STRICT)


def test_without_it_the_envoy_goes_again(mesh: RunningMesh) -> None:
    until(lambda: "envoy" not in mesh.processes("shop/own"), "nothing needs it", seconds=40)
    assert asked(mesh, 80) == 0
