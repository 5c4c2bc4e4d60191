"""From the changed file until a kept-alive connection through an Envoy is answered otherwise: of a
VirtualService, in a mesh of 1,000 services with one each, all of them in one Envoy; and of a rule about
requests that lets less pass than before.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.change import CLIENT, expect, timed
from bench.figures import Figure, percentile
from bench.load import LOAD
from bench.mesh import address_of, mesh
from bench.mesh_size import Manifest, Size, manifests, metadata, put, service, write

SIZE = Size(10_000)
SUFFIX = "bench.svc.cluster.local"


def virtual_service(host: str, to: str) -> Manifest:
    """In the client's namespace, so that it binds the client and nobody else."""
    destination = {"host": f"{to}.{SUFFIX}", "port": {"number": 80}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata(host, "caller"),
        "spec": {"hosts": [f"{host}.{SUFFIX}"], "http": [{"route": [{"destination": destination}]}]},
    }


def shifts(folder: Path, changes: int) -> list[float]:
    """Milliseconds until requests follow: to `a`, to `b`, to `a`."""
    write(folder, manifests(SIZE))
    names = [f"s-{number:04}" for number in range(SIZE.services)]
    write(folder / "routes", (virtual_service(name, name) for name in names))
    put(folder / "services.yaml", service("shift", "a"), service("b", "b"))
    put(folder / "shift.yaml", virtual_service("shift", "a"))
    taken = []
    with mesh(folder) as live:
        address = address_of(live, CLIENT, "shift.bench", 80)
        with live.talk(CLIENT, *LOAD, "watch-http", address, "80") as client:
            expect(client, "a")
            for number in range(changes):
                name = "ba"[number % 2]
                change = virtual_service("shift", name)
                taken.append(timed(client, name, partial(put, folder / "shift.yaml", change)))
    return taken


def reading(path: str) -> Manifest:
    """Who asks `a` may ask for `path` only."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata("a"),
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "rules": [{"to": [{"operation": {"paths": [path]}}]}],
        },
    }


def tightenings(folder: Path, changes: int) -> list[float]:
    """Milliseconds until requests are refused that were allowed, at the server's Envoy."""
    write(folder, manifests(SIZE))
    put(folder / "reading.yaml", reading("/*"))
    taken = []
    with mesh(folder) as live:
        address = address_of(live, CLIENT, "a.bench", 80)
        with live.talk(CLIENT, *LOAD, "watch-http", address, "80") as client:
            expect(client, "a")
            for _ in range(changes):
                tight, wide = reading("/nothing"), reading("/*")
                taken.append(timed(client, "failed", partial(put, folder / "reading.yaml", tight)))
                timed(client, "a", partial(put, folder / "reading.yaml", wide))
    return taken


def figures(folder: Path, changes: int) -> list[Figure]:
    taken = shifts(folder / "routes", changes)
    tight = tightenings(folder / "rules", changes)
    what = "VirtualService changed -> traffic follows, one Envoy with 1,000 routed services"
    return [
        Figure(
            f"{what}: p50", round(percentile(taken, 0.5), 1), "ms", at_most=30.0, note=f"{changes} changes"
        ),
        Figure(f"{what}: p99", round(percentile(taken, 0.99), 1), "ms"),
        Figure(
            "a rule about requests tightened -> kept-alive connection refused: p99",
            round(percentile(tight, 0.99), 1),
            "ms",
            at_most=100.0,
            note=f"p50 {percentile(tight, 0.5):.1f}; 10,000 workloads, {changes} changes",
        ),
    ]
