"""What a change costs the compiler for each of many nodes: a thousand services with a route each, of which a
Sidecar tells the pods of each namespace four hundred, and a pod behind the one that all of them know is
replaced at another address.

CPU of this process; no socket and no Envoy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from bench.figures import Figure
from bench.mesh_size import Manifest, metadata, service
from mesh.assemble import Mesh
from mesh.identity import Allocations
from mesh.model import Fragment
from xds import garbage
from xds.dialects import read
from xds.snapshot import NodeSnapshot
from xds.tables import SharedTables

NODES, SERVICES, SCOPE = 100, 1_000, 400
RANGES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")
NETWORKING = "networking.istio.io/v1"


def pod(name: str, namespace: str, node: str, address: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, namespace, app=name),
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def host(number: int) -> str:
    return f"s-{number:04}.bench.svc.cluster.local"


def route(number: int) -> Manifest:
    http = [{"timeout": "5s", "route": [{"destination": {"host": host(number)}}]}]
    spec = {"hosts": [host(number)], "http": http}
    name = metadata(f"s-{number:04}")
    return {"apiVersion": NETWORKING, "kind": "VirtualService", "metadata": name, "spec": spec}


def sidecar(namespace: str, services: Iterator[int]) -> Manifest:
    egress = [{"hosts": [f"bench/{host(number)}" for number in services]}]
    name = metadata("scope", namespace)
    return {"apiVersion": NETWORKING, "kind": "Sidecar", "metadata": name, "spec": {"egress": egress}}


def served(number: int, address: str) -> Manifest:
    return pod(f"s-{number:04}", "bench", "elsewhere", address)


def manifests() -> Iterator[Manifest]:
    for number in range(SERVICES):
        yield service(f"s-{number:04}", f"s-{number:04}")
        yield route(number)
        yield served(number, f"10.1.{number // 250}.{number % 250 + 1}")
    for number in range(NODES):
        namespace = f"n-{number:03}"
        first = 1 + number * (SERVICES - SCOPE) // NODES
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        yield pod("client", namespace, f"node-{number:03}", f"10.2.0.{number + 1}")
        yield sidecar(namespace, iter((0, *range(first, first + SCOPE - 1))))


def _read(manifest: Manifest) -> Fragment:
    found = read(manifest)
    assert found.valid, found.problems
    return found


def figures(changes: int) -> list[Figure]:
    mesh = Mesh(Allocations(RANGES))
    fragments = map(_read, manifests())
    mesh.apply({fragment.ref: fragment for fragment in fragments})
    shared = SharedTables(mesh)
    begun = time.process_time()
    nodes = [
        NodeSnapshot(mesh, f"node-{number:03}", default=False, shared=shared, verdict=lambda _: None)
        for number in range(NODES)
    ]
    first = (time.process_time() - begun) / NODES * 1e3
    garbage.settle()  # as the control plane does
    taken = []
    for number in range(changes):
        moved = _read(served(0, f"10.3.0.{number % 250 + 1}"))
        before = nodes[0].digest
        begun = time.process_time()
        change = mesh.apply({moved.ref: moved})
        shared.update(change)
        for node in nodes:
            node.update(change)
        taken.append((time.process_time() - begun) / NODES * 1e6)
        assert nodes[0].digest != before
    where = f"{NODES} nodes, {SCOPE} of {SERVICES:,} routed services each"
    return [
        Figure("compiling a node for the first time: CPU", round(first, 1), "ms", note=where),
        Figure(
            "a pod is replaced at another address: CPU for each node",
            round(median(taken), 1),
            "us",
            note=f"{where}; {changes} changes",
        ),
    ]
