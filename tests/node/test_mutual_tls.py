"""Mutual TLS in the whole product: what is on the wire, what applications are told, who is left outside."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.agent.telemetry.samples import value
from tests.node.mesh import RUN, RunningMesh, until

STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: STRICT}
"""
BUT_ECHO = STRICT + "  portLevelMtls: {9000: {mode: DISABLE}}\n"
SENDING = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""
ONLY_THE_STREET = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{from: [{source: {principals: [cluster.local/ns/street/sa/default]}}]}]
"""
ID = "spiffe://cluster.local/ns/shop/sa/default"
REASON = "PeerAuthentication shop/web mtls.mode"
REQUESTS, OPENED = "istio_requests_total", "istio_tcp_connections_opened_total"

ECHO = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=5) as made:
    made.sendall(b"in the clear")
    print(made.recv(64).decode())
"""
#: Tells what payloads came in at a pod's device until it is told to stop.
WATCH = """
import socket, sys, threading
taken = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
taken.bind(("eth0", 3))
seen = []
threading.Thread(target=lambda: [seen.append(taken.recv(65536)) for _ in iter(int, 1)], daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
whole = b"".join(seen)
print(b"in the clear" in whole, b"x-secret" in whole, b"\\x16\\x03\\x01" in whole, flush=True)
"""


@pytest.fixture
def strict(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(STRICT)
    yield mesh
    mesh.delete(STRICT, BUT_ECHO)


@pytest.fixture
def sent(mesh: RunningMesh) -> Iterator[RunningMesh]:
    mesh.apply(SENDING)
    yield mesh
    mesh.delete(SENDING)


def echoed(mesh: RunningMesh, pod: str, host: str) -> str:
    return mesh.exec(pod, sys.executable, "-c", ECHO, host).stdout.strip()


def ask(mesh: RunningMesh, pod: str, url: str = "http://web/") -> str:
    """What the server is told of who asks; "" if nothing comes back."""
    status, body = mesh.get(
        pod, url, "-H", "x-forwarded-client-cert: URI=spiffe://forged", "-H", "x-secret: 1"
    )
    if status != 200 or not isinstance(body, dict):
        return ""
    told: str = body["headers"].get("x-forwarded-client-cert", "nothing")
    assert "forged" not in told
    return told


def test_without_a_rule_nobody_needs_an_envoy(mesh: RunningMesh) -> None:
    assert mesh.explain("shop/client", "shop/web:80")["path"] == "kernel"
    assert mesh.get("shop/client", "http://web/")[0] == 200
    assert not {"envoy"} & {*mesh.processes("shop/client"), *mesh.processes("shop/web-v1")}


def test_the_application_is_told_who_asks_and_so_is_who_watches(strict: RunningMesh) -> None:
    assert f"URI={ID}" in until(lambda: ask(strict, "shop/client"), "an answer")

    def proven() -> list[str]:
        flows = strict.observe("--from", "shop/client", "--last", "50")
        return [flow["source"]["principal"] for flow in flows if "principal" in flow["source"]]

    assert set(until(proven, "a flow of a request")) == {ID}
    answer = strict.explain("shop/client", "shop/web:80")
    assert (answer["verdict"], answer["path"]) == ("allow", "envoy")
    assert REASON in {f"{reason['object']} {reason['rule']}" for reason in answer["reasons"]}
    known = {"reporter": "destination", "connection_security_policy": "mutual_tls"}
    both = {**known, "source_principal": ID, "destination_principal": ID}
    until(
        lambda: sum(value(strict.run("metrics", f"shop/web-v{n}"), REQUESTS, **both) for n in (1, 2)),
        "the request is counted",
    )


def test_connections_that_are_not_http_come_in_it_too(strict: RunningMesh) -> None:
    assert until(lambda: echoed(strict, "shop/client", "web"), "an answer") == "in the clear"
    known = {"reporter": "destination", "connection_security_policy": "mutual_tls", "source_principal": ID}
    until(
        lambda: sum(value(strict.run("metrics", f"shop/web-v{n}"), OPENED, **known) for n in (1, 2)),
        "the connection is counted",
    )


def test_nothing_is_in_the_clear_on_the_wire(strict: RunningMesh) -> None:
    until(lambda: ask(strict, "shop/client"), "an answer")
    command = [*RUN, "exec", "--name", strict.name, "shop/web-v1", "--", sys.executable, "-uc", WATCH]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as watching:
        assert watching.stdin and watching.stdout and watching.stdout.readline() == "ready\n"
        for _ in range(6):  # some of them come here
            assert ask(strict, "shop/client") and echoed(strict, "shop/client", "web")
        watching.stdin.write("\n")
        watching.stdin.flush()
        assert watching.stdout.readline() == "False False True\n"


def test_who_brings_no_certificate_is_left_outside(strict: RunningMesh) -> None:
    """By the pod's own address nobody knows what is asked there, as with Istio."""
    until(lambda: ask(strict, "shop/client"), "an answer")
    address = strict.pod("shop/web-v1")["ip"]
    assert strict.get("shop/client", f"http://{address}:8080/")[0] == 0
    assert strict.explain("shop/client", f"{address}:8080")["verdict"] == "deny"
    assert echoed(strict, "shop/client", address) == ""
    assert strict.get("shop/client", f"https://{address}:8080/", "-k")[0] == 0

    def refused() -> list[tuple[object, ...]]:
        found = [
            (flow["destination"]["port"], flow["drop_reason"], flow["direction"], flow["policies"])
            for flow in strict.observe("--from", "shop/client", "--to", "shop/web-v1", "--last", "50")
            if (flow["verdict"], flow["path"]) == ("DROPPED", "envoy")
        ]
        return found if len(found) == 3 else []

    ports = until(refused, "each refusal is told")
    assert ports == [(port, "AUTH_REQUIRED", "ingress", [REASON]) for port in (8080, 9000, 8080)]
    # The node asks whether the pods are ready.
    assert all(pod["ready"] for pod in strict.status()["pods"])


def test_a_pod_that_calls_its_own_service_gets_every_answer(strict: RunningMesh) -> None:
    """From itself in the clear (rule 10), from others in mutual TLS."""
    until(lambda: ask(strict, "shop/web-v1"), "an answer")
    assert {ask(strict, "shop/web-v1")[:9] for _ in range(12)} == {"nothing", f"By={ID}"[:9]}
    assert all(echoed(strict, "shop/web-v1", "web") for _ in range(6))


def test_a_port_may_be_left_out(strict: RunningMesh) -> None:
    strict.apply(BUT_ECHO)
    address = strict.pod("shop/web-v1")["ip"]
    assert until(lambda: echoed(strict, "shop/client", address), "an answer") == "in the clear"
    assert strict.get("shop/client", f"http://{address}:8080/")[0] == 0
    assert strict.explain("shop/client", "shop/web:9000")["path"] == "kernel"
    assert ask(strict, "shop/client")


def test_who_may_call_is_asked_beside_it(strict: RunningMesh) -> None:
    strict.apply(ONLY_THE_STREET)
    try:
        assert until(lambda: ask(strict, "street/stranger", "http://web.shop/"), "an answer")
        assert ask(strict, "shop/client") == ""
    finally:
        strict.delete(ONLY_THE_STREET)


def test_an_agent_that_came_back_alone_serves_envoys_once_there_are_keys_again(strict: RunningMesh) -> None:
    """Keys are on no disk, so they come with the control plane, and with nothing new beside them."""
    until(lambda: ask(strict, "shop/client"), "an answer")
    (control_plane,), (agent,) = strict.pids("-m", "xds"), strict.pids("-m", "agent")
    envoy = strict.pod("shop/client")["proxy"]["pid"]
    os.kill(control_plane, signal.SIGSTOP)
    try:
        os.kill(agent, signal.SIGKILL)
        os.kill(envoy, signal.SIGKILL)
        log = Path("/var/lib/sluice", strict.name, "logs/agent.log")
        waits = "Envoy of pod shop/client waits for the control plane"
        until(lambda: waits in log.read_text(), "the agent has taken up what it knows")
        assert ask(strict, "shop/other"), "who lives goes on"
    finally:
        os.kill(control_plane, signal.SIGCONT)
    until(lambda: ask(strict, "shop/client"), "an Envoy that was started anew is served", 40)


def test_a_destination_rule_sends_it_to_who_takes_both(sent: RunningMesh) -> None:
    assert f"URI={ID}" in until(lambda: ask(sent, "shop/client"), "an answer")
    assert echoed(sent, "shop/client", "web") == "in the clear"
    address = sent.pod("shop/web-v1")["ip"]
    assert ask(sent, "shop/client", f"http://{address}:8080/") == "nothing"
    assert echoed(sent, "shop/client", address) == "in the clear"
