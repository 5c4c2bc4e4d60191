"""A mesh of 1,000 services, 10,000 workloads and 1,000 policies: what a policy costs there, from the file
that changed to the kernel that enforces it, and how much memory agent and control plane have by then.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.change import CLIENT, expect, policies, timed
from bench.figures import Figure, percentile
from bench.load import ECHO_PORT, LOAD
from bench.memory import resident
from bench.mesh import address_of, mesh
from bench.mesh_size import Size, everyone, manifests, policy, put, service, write
from sluice.demo.live_mesh import LiveMesh

SIZE = Size(10_000, policies=1_000)
#: How often the policy that selects every workload comes and goes, and connections are ended.
ROUNDS = 10
CONNECTIONS = 2_000
MEMORY = {"agent": 200.0, "xds": 700.0}


def of_everyone(live: LiveMesh, folder: Path) -> list[float]:
    """Milliseconds until the client may not reach a pod that only the policy of everyone selects, and until
    it may again."""
    address = address_of(live, CLIENT, "b.bench", ECHO_PORT)
    taken = []
    with live.talk(CLIENT, *LOAD, "watch-connect", address, str(ECHO_PORT)) as client:
        expect(client, "allowed")
        for _ in range(ROUNDS):
            taken.append(timed(client, "refused", lambda: put(folder / "everyone.yaml", everyone("nobody"))))
            taken.append(timed(client, "allowed", (folder / "everyone.yaml").unlink))
    return taken


def ended(live: LiveMesh, folder: Path) -> list[float]:
    """Milliseconds from the change until the last of CONNECTIONS that it forbids has ended."""
    taken = []
    for _ in range(ROUNDS):
        put(folder / "policy.yaml", policy("a", "a", "client"))
        live.sluice("status", "--wait")
        address = address_of(live, CLIENT, "a.bench", ECHO_PORT)
        with live.talk(CLIENT, *LOAD, "watch-end", address, str(ECHO_PORT), str(CONNECTIONS)) as client:
            expect(client, "connected")
            start = time.monotonic()
            put(folder / "policy.yaml", policy("a", "a", "nobody"))
            taken.append((expect(client, "ended")["at"] - start) * 1000)
    return taken


def figures(folder: Path, changes: int) -> list[Figure]:
    write(folder, manifests(SIZE))
    put(folder / "policy.yaml", policy("a", "a", "client"))
    put(folder / "b.yaml", service("b", "b"))
    with mesh(folder) as live:
        one = policies(live, folder, changes)
        all_ = of_everyone(live, folder)
        ends = ended(live, folder)
        memory = {module: resident(live.process_of(module)) for module in MEMORY}
    where = "1,000 services, 10,000 workloads, 1,000 policies"
    made = [
        Figure("one policy -> enforced: p50", round(percentile(one, 0.5), 1), "ms", at_most=25.0, note=where),
        Figure("one policy -> enforced: p99", round(percentile(one, 0.99), 1), "ms", at_most=150.0),
        Figure(
            "a policy of every workload -> enforced: slowest",
            round(max(all_), 1),
            "ms",
            at_most=2000.0,
            note=f"{len(all_)} changes",
        ),
        Figure(
            f"{CONNECTIONS:,} connections forbidden -> the last has ended: slowest",
            round(max(ends), 1),
            "ms",
            at_most=1000.0,
            note=f"{len(ends)} times",
        ),
    ]
    return made + [
        Figure(f"resident memory at that size: {module}", memory[module], "MB", at_most=most)
        for module, most in MEMORY.items()
    ]
