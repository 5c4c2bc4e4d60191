"""Access logs in a running mesh: an Envoy that runs anyway writes them, `sluice logs` shows them."""

from __future__ import annotations

import json
import time
from pathlib import Path

from agent.log_rotation import LIMIT, older
from tests.node.manifests import CANARY
from tests.node.mesh import RunningMesh, until

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    accessLogFormat: "seen %REQ(:PATH)% %RESPONSE_CODE%"
"""

OFF = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: quiet, namespace: shop}
spec: {selector: {matchLabels: {app: client}}, accessLogging: [{disabled: true}]}
"""


#: A line of some 9 KB.
LONG = CONFIG.replace("seen %REQ(:PATH)%", f"long %REQ(:PATH)% {'x' * 7900}")

MANY = """
import socket
with socket.create_connection(("web", 80)) as server:
    for number in range(%d):
        server.sendall(b"GET /%%d HTTP/1.1\\r\\nhost: web\\r\\n\\r\\n" %% number)
        read = b""
        while not read.endswith(b"}"):
            read += server.recv(65536)
"""

LABELS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: json
      envoyFileAccessLog:
        logFormat:
          labels:
            at: "%START_TIME(%s)%"
            cluster: "%UPSTREAM_CLUSTER_RAW%"
            code: "%RESPONSE_CODE%"
            dialled: "%DOWNSTREAM_LOCAL_ADDRESS%"
            duration: "%DURATION%"
            ends: "%DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST%"
            got: "%BYTES_SENT%"
            path: "%REQ(:PATH)%"
            sent: "%BYTES_RECEIVED%"
"""

TELLING = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: telling, namespace: shop}
spec:
  accessLogging:
  - {providers: [{name: json}]}
  - {match: {mode: CLIENT}, filter: {expression: "destination.port == 80 || request.path == '/x'"}}
"""

EXCHANGE = """
import socket
with socket.create_connection((socket.gethostbyname("web"), 80)) as server:
    server.sendall(b"GET /kernel HTTP/1.1\\r\\nhost: web\\r\\nconnection: close\\r\\n\\r\\n")
    ends = *server.getsockname()[:2], *server.getpeername()[:2]
    server.shutdown(socket.SHUT_WR)
    server.settimeout(10)
    got = 0
    while more := server.recv(99999):
        got += len(more)
    print(*ends, got)
"""


def told(mesh: RunningMesh, pod: str) -> list[dict[str, object]]:
    """The objects among what a pod's Envoy, or the agent beside it, has written."""
    try:
        written = mesh.run("logs", pod, "-c", "istio-proxy").splitlines()
    except AssertionError:
        return []
    return [json.loads(line) for line in written if line.startswith("{")]


def test_an_envoys_access_log_is_the_log_of_istio_proxy_until_a_telemetry_turns_it_off(
    mesh: RunningMesh,
) -> None:
    def seen() -> list[str]:
        written = mesh.run("logs", "shop/client", "-c", "istio-proxy").splitlines()
        return [line for line in written if line.startswith("seen ")]

    mesh.apply(CANARY, CONFIG)
    try:
        mesh.get("shop/client", "http://web/logged")
        until(lambda: seen() == ["seen /logged 200"], "the request has a line")
        mesh.apply(OFF)
        mesh.get("shop/client", "http://web/quiet")
        mesh.delete(OFF)
        mesh.get("shop/client", "http://web/again")
        until(lambda: seen()[1:] == ["seen /again 200"], "only the later request has a line")
    finally:
        mesh.delete(CANARY, CONFIG)


def test_a_connection_that_stays_in_the_kernel_has_a_line_at_either_end_and_one_through_an_envoy_none(
    mesh: RunningMesh,
) -> None:
    mesh.apply(LABELS, TELLING)
    try:
        ip, port, vip, vip_port, got = mesh.python("shop/client", EXCHANGE).split()
        (line,) = until(lambda: told(mesh, "shop/client"), "the caller has a line")
        backend = str(line["ends"]).split()[1]
        assert line | {"at": 0, "duration": 0} == {
            "at": 0,
            "cluster": "outbound|80||web.shop.svc.cluster.local",
            "code": 0,
            "dialled": f"{vip}:{vip_port}",
            "duration": 0,
            "ends": f"{ip}:{port} {backend}",
            "got": int(got),
            "path": None,
            "sent": len(b"GET /kernel HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"),
        }
        assert isinstance(line["duration"], int) and abs(time.time() - int(str(line["at"]))) < 300
        pods = {pod["ip"]: pod["name"] for pod in mesh.status()["pods"]}
        server = pods[backend.rpartition(":")[0]]
        (other,) = until(lambda: told(mesh, server), "the backend has a line")
        # The node's probes have none.
        inbound = {"cluster": "inbound|8080||", "dialled": backend}
        assert other | {"at": 0, "duration": 0} == line | {"at": 0, "duration": 0} | inbound
        mesh.python("shop/client", EXCHANGE.replace(", 80)", ", 9000)").replace("GET", "over"))
        mesh.apply(CANARY)
        mesh.get("shop/client", "http://web/steered")
        seen = until(lambda: told(mesh, "shop/client")[1:], "the request has a line")
        # By its Envoy alone, and the filter has kept what went to port 80.
        assert [line["path"] for line in seen] == ["/steered"]
        mesh.delete(CANARY)
        mesh.python("shop/client", EXCHANGE)
        seen = until(lambda: told(mesh, "shop/client")[2:], "the next connection has a line")
        assert [line["path"] for line in seen] == [None]
        ended = until(
            lambda: (
                found if len(found := [*told(mesh, "shop/web-v1"), *told(mesh, "shop/web-v2")]) > 2 else []
            ),
            "each has a line at the other end",
        )
        clusters = sorted(str(line["cluster"]) for line in ended)
        assert clusters == ["inbound|8080||", "inbound|8080||", "inbound|9000||"], "none of an Envoy's"
    finally:
        mesh.delete(TELLING, LABELS)


def test_a_log_that_has_become_large_is_cut_while_its_envoy_writes_on(mesh: RunningMesh) -> None:
    log = Path("/var/lib/sluice") / mesh.name / "logs/envoy-shop_client.log"
    mesh.apply(CANARY, LONG)
    try:
        mesh.python("shop/client", MANY % (LIMIT // 7900 + 20))
        until(lambda: older(log).exists(), "it is cut")
        assert older(log).stat().st_size <= LIMIT
        mesh.get("shop/client", "http://web/after")
        until(lambda: b"long /after" in log.read_bytes(), "its Envoy writes on")
        assert b"\0" not in log.read_bytes() and log.stat().st_size < LIMIT // 10
        shown = [
            line.split()[1]
            for line in mesh.run("logs", "shop/client", "-c", "istio-proxy").splitlines()
            if line.startswith("long ")
        ]
        assert shown[-1] == "/after" and shown[-3:-1] == [f"/{LIMIT // 7900 + n}" for n in (18, 19)]
    finally:
        mesh.delete(CANARY, LONG)
