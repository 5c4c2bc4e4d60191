"""A thousand Envoys' delta streams at one discovery server: distinct node ids, a hundred namespaces with a
scope of 200 clusters each. How soon are all in sync when they come at once, and how soon has the last
acknowledged the one endpoint that changes?

The server is ours, in this process, on the CPU of the benchmark; its snapshots are real Envoy resources, made
beforehand. The clients are another process, on any other CPU, and do nothing but acknowledge.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import grpc.aio

from bench.figures import Figure, percentile
from mesh.discovery.envoy import CLUSTER, ENDPOINTS, ENVOY_TYPES
from mesh.discovery.resource import Resource, Snapshot, Table
from mesh.discovery.session import Acked, Event
from mesh.discovery.wire import DeltaRequest, fields
from mesh.model import NO_TRAFFIC_POLICY, Backend
from xds import garbage
from xds.render import clusters, endpoints
from xds.server import AdsServer

STREAMS, SCOPES, CLUSTERS = 1_000, 100, 200
#: Services that there are; the first is in every scope.
SERVICES = 1_000
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_PATIENCE = 120.0
#: Field numbers of DeltaDiscoveryResponse: all of it that is read.
_TYPE_URL, _NONCE = 4, 5


def name_of(service: int) -> str:
    return f"outbound|80||s-{service:04}.bench.svc.cluster.local"


def scope(number: int) -> list[str]:
    """The clusters of a namespace."""
    first = 1 + number * (SERVICES - CLUSTERS) // SCOPES
    return [name_of(0), *map(name_of, range(first, first + CLUSTERS - 1))]


def endpoint(name: str, last: int) -> Resource:
    return Resource.packed(name, endpoints.endpoints(name, (Backend(f"10.0.0.{last}", 8080),)))


class Fleet:
    """What each of the streams is served, and who has acknowledged what."""

    def __init__(self) -> None:
        names = list(map(name_of, range(SERVICES)))
        made = {
            name: Resource.packed(name, clusters.service_cluster(name, False, NO_TRAFFIC_POLICY))
            for name in names
        }
        self._clusters = [Table({name: made[name] for name in scope(number)}) for number in range(SCOPES)]
        self._endpoints = {name: endpoint(name, 1) for name in names}
        reached = [Table({name: self._endpoints[name] for name in known}) for known in self._clusters]
        self._snapshots = [
            {CLUSTER: known, ENDPOINTS: table} for known, table in zip(self._clusters, reached, strict=True)
        ]
        self._waiting: dict[str, str] = {}
        self._done = asyncio.Event()

    def move(self, last: int) -> None:
        """The endpoint of the service that everyone has is another one now."""
        moved = {name_of(0): endpoint(name_of(0), last)}
        self._endpoints |= moved
        self._snapshots = [
            snapshot | {ENDPOINTS: snapshot[ENDPOINTS].after(moved)} for snapshot in self._snapshots
        ]

    def snapshot_for(self, node: str) -> Snapshot:
        return self._snapshots[int(node.rpartition("-")[2]) % SCOPES]

    def heard(self, node: str, event: Event) -> None:
        if isinstance(event, Acked) and event.type_url == ENDPOINTS:
            if event.versions.get(name_of(0)) == self._waiting.get(node):
                self._waiting.pop(node, None)
                if not self._waiting:
                    self._done.set()

    async def settle(self) -> None:
        """Until every stream has acknowledged the newest endpoint."""
        version = self._endpoints[name_of(0)].version
        self._waiting = {f"node-{number}": version for number in range(STREAMS)}
        self._done.clear()
        await asyncio.wait_for(self._done.wait(), _PATIENCE)


async def measured(folder: Path, changes: int) -> list[Figure]:
    fleet = Fleet()
    server = AdsServer(fleet.snapshot_for, fleet.heard, order=ENVOY_TYPES)
    address = f"unix:{folder}/xds.sock"
    await server.start([address])
    garbage.settle()  # as the control plane does
    before = _resident()
    others = os.cpu_count() or 1
    client = await asyncio.create_subprocess_exec(
        "taskset", "--cpu-list", f"0-{others - 1}", sys.executable, "-m", "bench.streams", address
    )
    try:
        begun = time.perf_counter()
        await fleet.settle()
        together = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        await asyncio.sleep(1)
        steady = _resident()
        taken, cpu = [], []
        for number in range(changes):
            fleet.move(2 + number % 2)
            begun, spent = time.perf_counter(), time.process_time()
            server.publish()
            await fleet.settle()
            taken.append((time.perf_counter() - begun) * 1e3)
            cpu.append((time.process_time() - spent) / STREAMS * 1e6)
    finally:
        if client.returncode is None:
            client.kill()
        await client.wait()
        await server.stop()
    what = f"{STREAMS:,} delta streams"
    return [
        Figure(
            f"{what}, {CLUSTERS} clusters each, come at once: all in sync",
            round(together, 2),
            "s",
            at_most=5.0,
        ),
        Figure(
            f"{what}: memory, peak over steady",
            round(peak / steady, 2),
            "ratio",
            at_most=1.5,
            measured=round(peak, 1),
            baseline=round(steady, 1),
            note=f"MB; {before:.0f} before they came",
        ),
        Figure(
            f"{what}, one endpoint changes: last ACK, p50",
            round(percentile(taken, 0.5), 1),
            "ms",
            at_most=150.0,
            note=f"{changes} changes, {min(taken):.0f} to {max(taken):.0f}",
        ),
        Figure(f"{what}: CPU for each", round(percentile(cpu, 0.5), 1), "us", at_most=150.0),
    ]


def figures(folder: Path, changes: int) -> list[Figure]:
    return asyncio.run(measured(folder, changes))


def _resident() -> float:
    """Of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- the clients -------------------------------------------------------------------------------------------


async def follow(address: str, number: int) -> None:
    """One Envoy: asks for all clusters and for their endpoints, and takes what comes."""
    # Without a pool of its own all of them would share one connection.
    channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    call = channel.stream_stream(METHOD)()
    await call.write(DeltaRequest(CLUSTER, node_id=f"node-{number}", subscribe=("*",)).encode())
    names: tuple[str, ...] = tuple(scope(number % SCOPES))
    while (message := await call.read()) is not grpc.aio.EOF:
        type_url, nonce = _answered(message)
        await call.write(DeltaRequest(type_url, nonce=nonce).encode())
        if names and type_url == CLUSTER:
            await call.write(DeltaRequest(ENDPOINTS, subscribe=names).encode())
            names = ()


def _answered(message: Any) -> tuple[str, str]:
    found = {number: value for number, _, value in fields(message) if number in (_TYPE_URL, _NONCE)}
    return found[_TYPE_URL].decode(), found[_NONCE].decode()


async def clients(address: str) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(STREAMS):
            group.create_task(follow(address, number))


if __name__ == "__main__":
    asyncio.run(clients(sys.argv[1]))
