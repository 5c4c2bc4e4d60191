"""UDP through a Gateway's real Envoy: from the machine, from pods, by weight, under policy."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.node.manifests import CLIENT, NAMESPACES, STRANGER
from tests.node.mesh import RunningMesh, sluice, until

pytestmark = pytest.mark.root

GATE = "shop/talk-sluice"
#: Says who it is, from where it was asked, and what it was told; over TCP at another port as well.
TALKER = """
import socket, sys, threading
def bound(kind, port):
    own = socket.socket(socket.AF_INET6, kind)
    own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    own.bind(("::", port))
    return own
def answer(peer, data):
    return f"{sys.argv[1]} {peer[0].removeprefix('::ffff:')} {data.decode()}".encode()
def talk():
    own = bound(socket.SOCK_DGRAM, 5300)
    while True:
        data, peer = own.recvfrom(2048)
        own.sendto(answer(peer, data), peer)
threading.Thread(target=talk, daemon=True).start()
own = bound(socket.SOCK_STREAM, 5301)
own.listen()
while True:
    connection, peer = own.accept()
    with connection:
        connection.sendall(answer(peer, connection.recv(2048)))
"""
#: Says two words from each of so many sockets, and prints who answered; "-": nobody.
SPEAKER = """
import socket
for number in range({times}):
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.settimeout({patience})
    try:
        for word in ("one", "two"):
            own.sendto(word.encode(), ("{address}", 53))
            print(own.recv(2048).decode().split()[0], end=" ")
    except OSError:
        print("-", end=" ")
"""


def talker(name: str) -> str:
    command = json.dumps([sys.executable, "-c", TALKER, name])
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: talk, name: {name}}}}}
spec: {{containers: [{{name: main, command: {command}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{name: {name}}}
  ports:
    - {{name: talk, port: 53, targetPort: 5300, protocol: UDP}}
    - {{name: tcp-talk, port: 53, targetPort: 5301}}
"""


GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: talk, namespace: shop}
spec:
  gatewayClassName: sluice
  listeners: [{name: talk, port: 53, protocol: UDP}]
"""

BOTH = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: both, namespace: shop}
spec:
  gatewayClassName: sluice
  listeners: [{name: udp, port: 54, protocol: UDP}, {name: tcp, port: 54, protocol: TCP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: both, namespace: shop}
spec: {parentRefs: [{name: both}], rules: [{backendRefs: [{name: ann, port: 53}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: both, namespace: shop}
spec: {parentRefs: [{name: both}], rules: [{backendRefs: [{name: ann, port: 53}]}]}
"""


def route(first: int, second: int) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {{name: talk, namespace: shop}}
spec:
  parentRefs: [{{name: talk}}]
  rules:
    - backendRefs: [{{name: ann, port: 53, weight: {first}}}, {{name: bob, port: 53, weight: {second}}}]
"""


def policy(selected: str, direction: str, *peers: str) -> str:
    """A NetworkPolicy by which pods with these labels talk to those with those, and to nobody else."""
    rules = ", ".join(f"{{podSelector: {{matchLabels: {peer}}}}}" for peer in peers)
    side, key = ("to", "Egress") if direction == "egress" else ("from", "Ingress")
    return f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: talk, namespace: shop}}
spec:
  podSelector: {{matchLabels: {selected}}}
  policyTypes: [{key}]
  {direction}: [{{{side}: [{rules}]}}]
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    running = RunningMesh()
    try:
        texts = (NAMESPACES, CLIENT, STRANGER, talker("ann"), talker("bob"), GATEWAY, route(100, 0))
        running.up(*texts, folder=tmp_path_factory.mktemp("mesh"))
        until(lambda: running.status()["gateways"], "no way in")
        running.run("status", "--wait")
        yield running
    finally:
        sluice("down", "--name", running.name, "--purge", timeout=60)
    assert running.residue() == []


@pytest.fixture(scope="module")
def door(mesh: RunningMesh) -> tuple[str, int]:
    """Where the machine finds the Gateway, outside of the mesh."""
    return place(mesh, 53, "UDP")


@pytest.fixture(scope="module")
def address(mesh: RunningMesh) -> str:
    """Where pods do."""
    gateway = json.loads(mesh.run("get", "gateway", "talk", "-n", "shop", "-o", "json"))
    return next(entry["value"] for entry in gateway["status"]["addresses"] if "." in entry["value"])


def place(mesh: RunningMesh, port: int, protocol: str) -> tuple[str, int]:
    def found() -> list[str]:
        ways = mesh.status()["gateways"]
        return [way["url"] for way in ways if (way["port"], way["protocol"]) == (port, protocol)]

    (url,) = until(found, "no way in")
    parts = urlsplit(url)
    assert parts.hostname and parts.port and (parts.scheme == "udp") == (protocol == "UDP")
    return parts.hostname, parts.port


def from_machine(door: tuple[str, int], patience: float = 5) -> str:
    """Who answers; "" if nobody does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(patience)
        own.sendto(b"hello", door)
        try:
            name, _, said = own.recv(2048).decode().split()
        except TimeoutError:
            return ""
        assert said == "hello"
        return name


def from_pod(
    mesh: RunningMesh, address: str, pod: str = "shop/client", times: int = 1, patience: float = 5
) -> list[str]:
    return mesh.python(pod, SPEAKER.format(times=times, patience=patience, address=address)).split()


@contextmanager
def applied(mesh: RunningMesh, text: str) -> Iterator[None]:
    mesh.apply(text)
    try:
        yield
    finally:
        mesh.delete(text)


def test_the_machine_and_pods_reach_a_service_by_udp(
    mesh: RunningMesh, door: tuple[str, int], address: str
) -> None:
    assert from_machine(door) == "ann"
    assert from_pod(mesh, address) == ["ann", "ann"]
    told = mesh.run("status")
    assert f"gateway {GATE} port 53: udp://127.0.0.1:{door[1]}" in told
    assert "problem" not in told
    assert mesh.pod(GATE)["proxy"]["reasons"] == ["Gateway shop/talk"]


def test_the_status_says_that_it_is_served(mesh: RunningMesh) -> None:
    found = json.loads(mesh.run("get", "gateway", "talk", "-n", "shop", "-o", "json"))["status"]
    (udp,) = found["listeners"]
    assert [kind["kind"] for kind in udp["supportedKinds"]] == ["UDPRoute"]
    assert udp["attachedRoutes"] == 1
    assert {c["type"]: c["status"] for c in udp["conditions"]}["Programmed"] == "True"
    route = json.loads(mesh.run("get", "udproute", "talk", "-n", "shop", "-o", "json"))
    (parent,) = route["status"]["parents"]
    assert [(c["type"], c["status"]) for c in parent["conditions"]] == [
        ("Accepted", "True"),
        ("ResolvedRefs", "True"),
    ]


def test_tcp_and_udp_have_a_port_number_each_to_themselves(mesh: RunningMesh) -> None:
    with applied(mesh, BOTH):
        tcp, udp = (place(mesh, 54, protocol) for protocol in ("TCP", "UDP"))
        mesh.run("status", "--wait")
        with socket.create_connection(tcp, timeout=5) as own:
            own.sendall(b"hello")
            assert own.recv(2048).split()[::2] == [b"ann", b"hello"]
        assert from_machine(udp) == "ann"


def test_weights_share_clients_out_and_each_stays_where_it_is(
    mesh: RunningMesh, door: tuple[str, int], address: str
) -> None:
    mesh.apply(route(0, 100))
    try:
        assert from_machine(door) == "bob"
        mesh.apply(route(50, 50))
        for pod in ("shop/client", "street/stranger"):
            answers = from_pod(mesh, address, pod, times=10)
            assert len(answers) == 20 and len(set(answers)) == 1
        table = mesh.run("proxy-config", "listeners", GATE, "--type", "UDP").splitlines()
        assert [" ".join(line.split()) for line in table[1:]] == [
            "0.0.0.0,:: 53 Source: hash % 100 >= 50 Cluster: outbound|53|~udp|ann.shop.svc.cluster.local",
            "0.0.0.0,:: 53 ALL Cluster: outbound|53|~udp|bob.shop.svc.cluster.local",
        ]
    finally:
        mesh.apply(route(100, 0))


def test_without_a_route_nobody_answers(mesh: RunningMesh, door: tuple[str, int], address: str) -> None:
    mesh.delete(route(100, 0))
    try:
        assert from_machine(door, 0.3) == ""
        assert from_pod(mesh, address, patience=0.3) == ["-"]
    finally:
        mesh.apply(route(100, 0))
    assert from_machine(door) == "ann"


def test_policy_judges_clients_of_the_gateway_and_the_gateway(
    mesh: RunningMesh, door: tuple[str, int], address: str
) -> None:
    """Rule 4: who calls the gateway is judged at its pod, and the gateway at the backend."""
    gateway = "{gateway.networking.k8s.io/gateway-name: talk}"
    with applied(mesh, policy(gateway, "ingress", "{app: client}")):
        assert from_pod(mesh, address) == ["ann", "ann"]
        assert from_pod(mesh, address, "street/stranger", patience=0.3) == ["-"]
        assert from_machine(door, 0.3) == ""
    mesh.apply(policy("{app: talk}", "ingress", "{app: client}"))
    assert from_pod(mesh, address, patience=0.3) == ["-"]
    mesh.apply(policy("{app: talk}", "ingress", gateway))
    assert from_machine(door) == "ann"
    mesh.apply(policy(gateway, "egress", "{app: client}"))
    assert from_pod(mesh, address, patience=0.3) == ["-"]
    # Answers are no calls: they go back to whoever asked.
    with applied(mesh, policy(gateway, "egress", "{app: talk}")):
        assert from_machine(door) == "ann"
