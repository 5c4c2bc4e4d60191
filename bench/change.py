"""How long a change takes, seen from where it matters: a client in a pod that notices by its own connections.

A file is replaced in the watched folder; the clock runs from just before that until the client's first
connection with the other outcome, in a mesh of 100 or 10,000 workloads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import Figure, percentile
from bench.load import ECHO_PORT, LOAD
from bench.mesh import address_of, mesh
from bench.mesh_size import Size, endpoints, manifests, policy, put, route, service, write
from sluice.demo.live_mesh import Conversation, LiveMesh

SMALL, LARGE = Size(100), Size(10_000)
CLIENT = "caller/client"
#: Seconds between changes, so that each is a change of its own and the sweep after the one before is over.
PAUSE = 0.5


def measure(folder: Path, size: Size, changes: int) -> tuple[list[float], list[float]]:
    """Milliseconds from changed policy to enforcement, and from changed endpoint to shifted traffic."""
    write(folder, manifests(size))
    put(folder / "policy.yaml", policy("a", "a", "client"))
    put(folder / "services.yaml", service("shift", "a"), service("target", None, "caller"))
    with mesh(folder) as live:
        return policies(live, folder, changes), shifts(live, folder, changes)


def policies(live: LiveMesh, folder: Path, changes: int) -> list[float]:
    """The client's right to connect is taken and given back."""
    address = address_of(live, CLIENT, "a.bench", ECHO_PORT)
    taken = []
    with live.talk(CLIENT, *LOAD, "watch-connect", address, str(ECHO_PORT)) as client:
        expect(client, "allowed")
        for number in range(changes):
            peer, state = (("nobody", "refused"), ("client", "allowed"))[number % 2]
            taken.append(timed(client, state, partial(put, folder / "policy.yaml", policy("a", "a", peer))))
    return taken


def shifts(live: LiveMesh, folder: Path, changes: int) -> list[float]:
    """The one endpoint behind the client's route is `a`, then `b`, then `a`."""
    addresses = {name: live.sandboxes()[f"bench/{name}"]["addresses"][0] for name in ("a", "b")}
    put(folder / "target.yaml", endpoints("target", addresses["a"], "caller"))
    put(folder / "route.yaml", route("shift", "shift", "target", "caller"))
    live.sluice("status", "--wait")
    address = address_of(live, CLIENT, "shift.bench", 80)
    taken = []
    with live.talk(CLIENT, *LOAD, "watch-http", address, "80") as client:
        expect(client, "a")
        for number in range(changes):
            name = "ba"[number % 2]
            change = endpoints("target", addresses[name], "caller")
            taken.append(timed(client, name, partial(put, folder / "target.yaml", change)))
    return taken


def timed(client: Conversation, state: str, change: Callable[[], None]) -> float:
    """Milliseconds from the change until the client sees `state`."""
    time.sleep(PAUSE)
    start = time.monotonic()
    change()
    seen: float = expect(client, state)["at"]
    return (seen - start) * 1000


def expect(client: Conversation, state: str) -> dict[str, Any]:
    """What the client says when it sees `state`; anything else it sees in between passes."""
    while (heard := client.hear())["state"] != state:
        pass
    return heard


def figures(folder: Path, changes: int) -> list[Figure]:
    small_policies, small_shifts = measure(folder / "small", SMALL, changes)
    large_policies, large_shifts = measure(folder / "large", LARGE, changes)
    note = f"{changes} changes"
    made = []
    for what, small, large, most in (
        ("policy file changed -> enforced in the kernel", small_policies, large_policies, 25.0),
        ("endpoint changed -> traffic shifted, one Envoy", small_shifts, large_shifts, 10.0),
    ):
        p50, small_p50 = percentile(large, 0.5), percentile(small, 0.5)
        made.append(Figure(f"{what}: p50 at 10,000", round(p50, 1), "ms", at_most=most, note=note))
        if most == 25.0:
            made.append(
                Figure(f"{what}: p99 at 10,000", round(percentile(large, 0.99), 1), "ms", at_most=100.0)
            )
        made.append(
            Figure(
                f"{what}: 10,000 / 100",
                round(p50 / small_p50, 2),
                "ratio",
                at_most=3.0,
                measured=round(p50, 1),
                baseline=round(small_p50, 1),
                note="p50, ms",
            )
        )
    return made
