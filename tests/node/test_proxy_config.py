"""ProxyConfig in the whole product: how Envoys are started; a change of it waits for the next start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import PIPE, Popen

from tests.node.manifests import CANARY, GET_ONLY
from tests.node.mesh import RUN, RunningMesh, until

SHOPS = """
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: shop}
spec: {concurrency: 3, environmentVariables: {TIER: gold and silver}}
"""
ALL_CPUS = SHOPS.replace("concurrency: 3", "concurrency: 0")
AT_ONCE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultConfig: {terminationDrainDuration: 0s, proxyMetadata: {REGION: east}}"}
"""

#: Asks once, and holds the connection.
HELD = """
import http.client, sys
connection = http.client.HTTPConnection("web", timeout=10)
connection.request("GET", "/")
print(connection.getresponse().status)
sys.stdin.readline()
"""


def envoy(mesh: RunningMesh, pod: str) -> int | None:
    """The pod's Envoy: the one in its network namespace."""
    own = mesh.exec(pod, "readlink", "/proc/self/ns/net").stdout.strip()
    found = [pid for pid in mesh.pids("--concurrency") if os.readlink(f"/proc/{pid}/ns/net") == own]
    return next((pid for pid in found if os.readlink(f"/proc/{pid}/exe").endswith("/envoy")), None)


def workers(pid: int) -> int:
    names = [(thread / "comm").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(name.startswith("wrk:worker_") for name in names)


def environment(pid: int) -> Mapping[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def test_an_envoy_is_started_as_is_said_and_a_change_waits_for_the_next_start(mesh: RunningMesh) -> None:
    mesh.apply(SHOPS, AT_ONCE)
    try:
        assert "envoy" not in mesh.processes("shop/client"), "it is no reason for an Envoy"
        mesh.apply(CANARY, GET_ONLY)
        first = envoy(mesh, "shop/client")
        assert first and workers(first) == 3
        said = {"TIER": "gold and silver", "REGION": "east"}
        assert environment(first) == said, "and nothing of the agent's"
        # Connections of all workers come through one listening socket of the kernel's.
        asked = [mesh.get("shop/client", f"http://web/{path}")[0] for path in ("public", "other") * 10]
        assert asked == [200, 403] * 10
        mesh.apply(ALL_CPUS)
        assert envoy(mesh, "shop/client") == first and workers(first) == 3
        os.kill(first, signal.SIGKILL)
        second = until(lambda: (pid := envoy(mesh, "shop/client")) != first and pid, "it is back")
        assert second and until(lambda: workers(second) == os.cpu_count(), "it has its workers")
        mesh.delete(GET_ONLY)
        command = [*RUN, "exec", "--name", mesh.name, "shop/client", "--", sys.executable, "-uc", HELD]
        with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as run:
            assert run.stdin and run.stdout and run.stdout.readline() == "200\n"
            mesh.delete(CANARY)
            until(lambda: envoy(mesh, "shop/client") is None, "it does not wait for the connection")
            run.stdin.close()
    finally:
        mesh.delete(SHOPS, AT_ONCE)
