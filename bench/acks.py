"""How soon a live Envoy acknowledges a cluster that changes: from the published snapshot until the ACK, which
waits for the cluster's endpoints.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

from bench.figures import Figure, percentile
from mesh.discovery.envoy import CLUSTER, ENDPOINTS, ENVOY_TYPES
from mesh.discovery.resource import Resource, Snapshot
from mesh.discovery.session import Acked, Event
from mesh.model import NO_TRAFFIC_POLICY, Backend
from proxy_configs import bootstrap
from proxy_configs.binary import envoy_binary
from xds.render import clusters, endpoints
from xds.server import AdsServer

NAME = "outbound|80||shop.bench.svc.cluster.local"
#: Seconds between changes, and for one of them at most.
PAUSE, PATIENCE = 0.05, 30.0


class Changing:
    """A cluster in two versions, and when Envoy had which."""

    def __init__(self) -> None:
        self._made = [
            Resource.packed(NAME, clusters.service_cluster(NAME, False, NO_TRAFFIC_POLICY, version))
            for version in ("client", "http2")
        ]
        backends = (Backend("10.0.0.1", 8080),)
        self._endpoints = {NAME: Resource.packed(NAME, endpoints.endpoints(NAME, backends))}
        self._newest = self._made[0]
        self._acked = asyncio.Event()

    def change(self, number: int) -> None:
        self._newest = self._made[number % 2]
        self._acked.clear()

    def snapshot_for(self, _node: str) -> Snapshot:
        return {CLUSTER: {NAME: self._newest}, ENDPOINTS: self._endpoints}

    def heard(self, _node: str, event: Event) -> None:
        if isinstance(event, Acked) and event.type_url == CLUSTER:
            if event.versions.get(NAME) == self._newest.version:
                self._acked.set()

    async def acked(self) -> None:
        await asyncio.wait_for(self._acked.wait(), PATIENCE)


async def measured(folder: Path, changes: int) -> list[float]:
    binary = envoy_binary()
    if binary is None:
        raise RuntimeError("there is no Envoy: `make setup` installs it")
    changing = Changing()
    server = AdsServer(changing.snapshot_for, changing.heard, order=ENVOY_TYPES)
    await server.start([f"unix:{folder}/xds.sock"])
    places = {name: f"{folder}/{name}.sock" for name in ("access_log", "admin")}
    config = folder / "bootstrap.json"
    config.write_text(
        bootstrap(
            namespace="bench", pod="client", address="10.0.0.2", discovery=f"{folder}/xds.sock", **places
        )
    )
    command = [str(binary), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "off"]
    envoy = subprocess.Popen(command)
    taken = []
    try:
        await changing.acked()
        for number in range(1, changes + 1):
            await asyncio.sleep(PAUSE)
            changing.change(number)
            begun = time.perf_counter()
            server.publish()
            await changing.acked()
            taken.append((time.perf_counter() - begun) * 1e3)
    finally:
        envoy.kill()
        envoy.wait()
        await server.stop()
    return taken


def figures(folder: Path, changes: int) -> list[Figure]:
    taken = asyncio.run(measured(folder, changes))
    return [
        Figure(
            "cluster changed on a live Envoy -> ACK: p50",
            round(percentile(taken, 0.5), 2),
            "ms",
            at_most=10.0,
            note=f"p99 {percentile(taken, 0.99):.1f}; {changes} changes",
        )
    ]
