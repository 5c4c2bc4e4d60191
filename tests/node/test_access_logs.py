"""Access logs in a running mesh: an Envoy that runs anyway writes them, `sluice logs` shows them."""

from __future__ import annotations

import json
import time

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
