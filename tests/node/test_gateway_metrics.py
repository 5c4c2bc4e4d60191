"""What is counted of connections that Envoys answer or open as TCP or HTTP, at either end (rule 25): around a
Gateway, whose Envoy reports as source what it leads on, and at a pod with an Envoy of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.agent.telemetry.samples import samples
from tests.node.conftest import running_mesh
from tests.node.manifests import CLIENT, NAMESPACES, pod
from tests.node.mesh import RunningMesh, until

pytestmark = pytest.mark.root

BACKENDS = ("plain", "judged")
PODS = "\n---\n".join(
    (NAMESPACES, CLIENT, *(pod(name, "shop", f"{{app: {name}}}", name, "8080", "9000") for name in BACKENDS))
)
SERVICES = "\n---\n".join(
    f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: any, port: 9000}}]
"""
    for name in BACKENDS
)

#: What is HTTP is judged as that, all else by the name of a hello.
JUDGED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: judged, namespace: shop}
spec:
  selector: {matchLabels: {app: judged}}
  rules:
  - to: [{operation: {methods: [GET]}}]
  - when: [{key: connection.sni, notValues: [blocked.example]}]
"""

HTTP, TLS, TCP, RAW = 8110, 8111, {"plain": 8112, "judged": 8113}, {"plain": 8114, "judged": 8115}


def route(kind: str, name: str, port: int, backend: str, backend_port: int, host: str = "") -> str:
    return json.dumps(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "parentRefs": [{"name": "edge", "port": port}],
                "rules": [{"backendRefs": [{"name": backend, "port": backend_port}]}],
                **({"hostnames": [host]} if host else {}),
            },
        }
    )


EDGE = "\n---\n".join(
    (
        f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  gatewayClassName: sluice
  listeners:
  - {{name: http, port: {HTTP}, protocol: HTTP}}
  - {{name: tls, port: {TLS}, protocol: TLS, tls: {{mode: Passthrough}}}}
"""
        + "\n".join(
            f"  - {{name: tcp-{port}, port: {port}, protocol: TCP}}"
            for port in (*TCP.values(), *RAW.values())
        ),
        *(
            made
            for name in BACKENDS
            for made in (
                route("HTTPRoute", name, HTTP, name, 80, f"{name}.example"),
                route("TLSRoute", name, TLS, name, 9000, f"{name}.example"),
                route("TCPRoute", name, TCP[name], name, 9000),
                route("TCPRoute", f"raw-{name}", RAW[name], name, 80),
            )
        ),
    )
)

#: Says something to an address and port, as HTTP to a host, by a hello to it, or else; prints how many bytes
#: went and came. Who is asked echoes, or closes.
TALK = """
import socket, ssl, sys
kind, host, ip, port = sys.argv[1:]
if kind == "http":
    said = f"GET / HTTP/1.1\\r\\nhost: {host}\\r\\nconnection: close\\r\\n\\r\\n".encode()
elif kind == "tls":
    hello = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=host).do_handshake()
    except ssl.SSLWantReadError:
        said = hello.read()
else:
    said = b"x" * 1000
with socket.create_connection((ip, int(port)), timeout=10) as connection:
    connection.sendall(said)
    got = 0
    while (kind == "http" or got < len(said)) and (more := connection.recv(65536)):
        got += len(more)
print(len(said), got)
"""

Counts = Counter[str]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    for running in running_mesh(tmp_path_factory, PODS, SERVICES, JUDGED, EDGE):
        until(lambda running=running: len(ways(running)) == 6, "no way in")
        running.run("status", "--wait")
        yield running


def ways(mesh: RunningMesh) -> dict[int, tuple[str, str]]:
    """Where the machine finds the Gateway's ports."""
    found = ((way["port"], way["url"].rpartition("//")[2]) for way in mesh.status()["gateways"])
    return {port: (url.split(":")[0], url.split(":")[1]) for port, url in found}


def counted(mesh: RunningMesh) -> Counts:
    """All that is told of the pods: who reports, who called whom, the service, and what."""
    found: Counts = Counter()
    for name, labels, value in samples(mesh.run("metrics"), "istio_"):
        what = name.removeprefix("istio_").removesuffix("_total")
        if labels["namespace"] != "shop" or name.endswith(("_bucket", "_count", "_sum")):
            continue
        if what == "requests":
            what = labels["response_code"]
        ends = f"{labels['source_workload']}>{labels['destination_workload']}"
        service = labels["destination_service_name"]
        found[f"{labels['pod']} {labels['reporter']} {ends} {service} {what}"] += int(value)
    return found


def tcp(reports: str, sent: int, got: int) -> Counts:
    """One connection in which the client sent and got so many bytes."""
    return Counter(
        {
            f"{reports} tcp_connections_opened": 1,
            f"{reports} tcp_connections_closed": 1,
            f"{reports} tcp_received_bytes": sent,
            f"{reports} tcp_sent_bytes": got,
        }
    )


CLIENT_TO_EDGE = "client source client>edge-sluice edge-sluice"


def led_on(name: str) -> tuple[str, str]:
    """The Gateway's report of what it leads to a backend, and the backend's."""
    return f"edge-sluice source edge-sluice>{name} {name}", f"{name} destination edge-sluice>{name} {name}"


(EDGE_TO_PLAIN, PLAIN), (EDGE_TO_JUDGED, JUDGES) = map(led_on, BACKENDS)
NOWHERE = "edge-sluice source edge-sluice>unknown unknown"

#: Port, what is spoken, host: the requests, and the TCP connections, that are reported.
CASES: list[tuple[int, str, str, list[str], list[str]]] = [
    (HTTP, "http", "plain.example", [f"{EDGE_TO_PLAIN} 200"], []),
    (HTTP, "http", "judged.example", [f"{EDGE_TO_JUDGED} 200", f"{JUDGES} 200"], []),
    (HTTP, "http", "none.example", [f"{NOWHERE} 404"], []),
    (TCP["plain"], "tcp", "", [], [CLIENT_TO_EDGE, EDGE_TO_PLAIN, PLAIN]),
    (TCP["judged"], "tcp", "", [], [CLIENT_TO_EDGE, EDGE_TO_JUDGED, JUDGES]),
    (TLS, "tls", "plain.example", [], [CLIENT_TO_EDGE, EDGE_TO_PLAIN, PLAIN]),
    (TLS, "tls", "judged.example", [], [CLIENT_TO_EDGE, EDGE_TO_JUDGED, JUDGES]),
    # What the Gateway passes on unread is HTTP where the backend's Envoy reads it.
    (RAW["plain"], "http", "raw", [], [CLIENT_TO_EDGE, EDGE_TO_PLAIN, PLAIN]),
    (RAW["judged"], "http", "raw", [f"{JUDGES} 200"], [CLIENT_TO_EDGE]),
]


@pytest.mark.parametrize("outside", [False, True], ids=["pod", "machine"])
def test_each_end_counts_a_connection_once_and_as_what_it_is(mesh: RunningMesh, outside: bool) -> None:
    gateway, found = mesh.pod("shop/edge-sluice")["ip"], ways(mesh)
    expected = counted(mesh)
    for port, kind, host, requests, connections in CASES:
        if outside:
            said = spoken(kind, host, *found[port])
        else:
            said = tuple(map(int, mesh.exec("shop/client", *talk(kind, host, gateway, port)).stdout.split()))
        assert len(said) == 2 and min(said) > 30
        expected += Counter(requests)
        for reports in connections:
            if not (outside and reports == CLIENT_TO_EDGE):
                expected += tcp(reports, *said)
        settle(mesh, expected)


def settle(mesh: RunningMesh, expected: Counts) -> None:
    """All of this is told, and nothing else."""
    try:
        until(lambda: counted(mesh) == expected, "counted as they are")
    except AssertionError:
        assert counted(mesh) == expected


def talk(kind: str, host: str, ip: str, port: int | str) -> tuple[str, ...]:
    return sys.executable, "-c", TALK, kind, host, ip, str(port)


def spoken(kind: str, host: str, ip: str, port: str) -> tuple[int, ...]:
    done = subprocess.run(talk(kind, host, ip, port), capture_output=True, text=True, timeout=30)
    return tuple(map(int, done.stdout.split()))


def test_between_pods_too_an_envoy_tells_for_the_end_that_has_none(mesh: RunningMesh) -> None:
    before = counted(mesh)
    for kind, port in (("tcp", 9000), ("http", 80)):
        assert mesh.exec("shop/client", *talk(kind, "judged", "judged", port)).returncode == 0
    ends = ("client source client>judged judged", "judged destination client>judged judged")
    expected = before + Counter([f"{ends[1]} 200"])
    for reports in ends:
        expected += tcp(reports, 1000, 1000)
    settle(mesh, expected)


def test_a_connection_is_counted_as_open_while_it_is(mesh: RunningMesh) -> None:
    before = counted(mesh)
    opened = Counter(f"{reports} tcp_connections_opened" for reports in (EDGE_TO_JUDGED, JUDGES))
    host, port = ways(mesh)[TCP["judged"]]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"x" * 10)
        assert connection.recv(99)
        settle(mesh, before + opened)
    settle(mesh, before + tcp(EDGE_TO_JUDGED, 10, 10) + tcp(JUDGES, 10, 10))


def test_connections_of_an_envoy_that_dies_are_counted_as_closed(mesh: RunningMesh) -> None:
    before = counted(mesh)
    host, port = ways(mesh)[TCP["plain"]]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"x")
        assert connection.recv(9)
        settle(mesh, before + Counter(f"{end} tcp_connections_opened" for end in (EDGE_TO_PLAIN, PLAIN)))
        os.kill(mesh.pod("shop/edge-sluice")["proxy"]["pid"], signal.SIGKILL)
    settle(mesh, before + tcp(EDGE_TO_PLAIN, 0, 0) + tcp(PLAIN, 0, 0))
    until(lambda: mesh.pod("shop/edge-sluice")["proxy"]["ready"], "another one serves")


ONLY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: shop}
spec:
  selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: edge}}
  rules: [{to: [{operation: {methods: [%s]}}]}]
"""


def test_what_is_judged_at_a_gateway_is_reported_once_and_as_source(mesh: RunningMesh) -> None:
    expected, at = counted(mesh), ways(mesh)[HTTP]
    try:
        for method, told in (("POST", [f"{NOWHERE} 403"]), ("GET", [f"{EDGE_TO_PLAIN} 200"])):
            mesh.apply(ONLY % method)
            assert min(spoken("http", "plain.example", *at)) > 30
            expected += Counter(told)
            settle(mesh, expected)
    finally:
        mesh.delete(ONLY % "GET")
