"""What a connection costs: the kernel path against none, the steered path against iptables.

Each round measures both sides one right after the other, and every other round in the other order.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from bench.direct import direct
from bench.figures import Figure, ratio
from bench.load import ECHO_PORT, HTTP_PORT, LOAD
from bench.mesh import address_of, mesh
from bench.mesh_size import endpoints, metadata, policy, put, route, running, service
from sluice.demo.live_mesh import LiveMesh

#: Runs a command on one of two sides and returns what it printed.
Run = Callable[..., str]
#: One measurement: what to run against an address, and how to read it.
Probe = Callable[[Run], float]

ROUND_TRIPS, CONNECTIONS, WRK_SECONDS = 10000, 10000, 1
CLIENT, REDIRECTED = "caller/client", "caller/redirected"
PROXY_PORT = 15001


def load(command: str, address: str, port: int, count: int, key: str) -> Probe:
    """A client of `bench.load` and the value it tells."""

    def probe(run: Run) -> float:
        return float(json.loads(run(*LOAD, command, address, str(port), str(count)))[key])

    return probe


def wrk(address: str, port: int, *options: str) -> Probe:
    """Requests a second over 16 kept-alive connections."""

    def probe(run: Run) -> float:
        text = run("wrk", "-t1", "-c16", f"-d{WRK_SECONDS}s", *options, f"http://{address}:{port}/")
        found = re.search(r"Requests/sec:\s+([\d.]+)", text)
        if found is None or "Non-2xx" in text:
            raise RuntimeError(f"wrk against {address}:{port} had other answers than 200: {text}")
        return float(found[1])

    return probe


def interleave(
    rounds: int, sides: dict[str, tuple[Run, dict[str, Probe]]]
) -> dict[tuple[str, str], list[float]]:
    """(side, probe) -> values, a value a round."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    probes = list(next(iter(sides.values()))[1])
    for number in range(rounds):
        order = list(sides) if number % 2 else list(reversed(sides))
        for name in probes:
            for side in order:
                run, made = sides[side]
                values[side, name].append(made[name](run))
    return values


def in_pod(live: LiveMesh, pod: str) -> Run:
    return lambda *argv: live.run(pod, *argv)


def prepare(folder: Path) -> None:
    """A server behind two services, a client for each way; policy on both ends."""
    put(
        folder / "paths.yaml",
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in ("bench", "caller")
        ),
        running("server", (*LOAD, "serve")),
        running("client", ("sleep", "infinity"), "caller"),
        running("redirected", ("sleep", "infinity"), "caller"),
        service("server", "server"),
        service("routed", "server"),
        service("target", None, "caller"),
        policy("server", "server", "client", "redirected"),
        egress(),
    )


def egress() -> dict[str, object]:
    """The clients may reach the server, the resolver and nothing else."""
    server, resolver = (
        {"namespaceSelector": {}, "podSelector": {"matchLabels": labels}}
        for labels in ({"app": "server"}, {"k8s-app": "kube-dns"})
    )
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("clients", "caller"),
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [server, resolver]}]},
    }


def kernel_path(folder: Path, rounds: int) -> list[Figure]:
    """Pod to service with every hook, policy and event on, against pod to pod address without any."""
    prepare(folder)
    with mesh(folder) as live, direct() as bare:
        service_address = address_of(live, CLIENT, "server.bench", ECHO_PORT)
        values = interleave(
            rounds,
            {
                "direct": (bare.run, kernel_probes(bare.server_address, HTTP_PORT)),
                "kernel": (in_pod(live, CLIENT), kernel_probes(service_address, 80)),
            },
        )
    pairs = {name: (values["kernel", name], values["direct", name]) for name in ("rtt", "conn", "rps")}
    return [
        ratio("kernel path / direct: round trip", *pairs["rtt"], "µs", at_most=1.0),
        ratio("kernel path / direct: connections", *pairs["conn"], "/s", at_least=1.0),
        ratio("kernel path / direct: HTTP requests", *pairs["rps"], "/s", at_least=1.0),
    ]


def kernel_probes(address: str, http_port: int) -> dict[str, Probe]:
    return {
        "rtt": load("pingpong", address, ECHO_PORT, ROUND_TRIPS, "rtt_us"),
        "conn": load("connects", address, ECHO_PORT, CONNECTIONS, "per_second"),
        "rps": wrk(address, http_port),
    }


def steered_path(folder: Path, rounds: int) -> list[Figure]:
    """Steering at connect() against iptables REDIRECT, each into an Envoy with the same configuration.

    The redirected client has a pod of its own, so that the steered one carries no conntrack, and runs outside
    the mesh's cgroup, so that no hook of ours sees it.
    """
    prepare(folder)
    put(folder / "route.yaml", route("routed", "routed", "target", "caller"))
    with mesh(folder) as live:
        point_target_at_server(live, folder)
        address = address_of(live, CLIENT, "routed.bench", 80)
        netns = f"--net={live.sandboxes()[REDIRECTED]['netns']}"
        rule = ("-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", address, "--dport", "80")
        outside(netns, "iptables", *rule, "-j", "REDIRECT", "--to-ports", str(PROXY_PORT))
        outside(netns, *LOAD, "address", address, "80")
        probes = {"rtt": load("http", address, 80, ROUND_TRIPS, "rtt_us"), "rps": wrk(address, 80)}
        values = interleave(
            rounds,
            {
                "iptables": (lambda *argv: outside(netns, *argv), probes),
                "steered": (in_pod(live, CLIENT), probes),
            },
        )
    pairs = {name: (values["steered", name], values["iptables", name]) for name in probes}
    return [
        ratio("steered / iptables REDIRECT: round trip", *pairs["rtt"], "µs", at_most=0.95),
        ratio("steered / iptables REDIRECT: requests", *pairs["rps"], "/s", at_least=1.1),
    ]


def point_target_at_server(live: LiveMesh, folder: Path) -> None:
    """The route's backend is a Service in the callers' namespace, whose endpoint is the server."""
    put(
        folder / "target.yaml",
        endpoints("target", live.sandboxes()["bench/server"]["addresses"][0], "caller"),
    )


def outside(netns: str, *argv: str) -> str:
    """Runs a command in a pod's network namespace and outside of its cgroup."""
    return subprocess.run(
        ["nsenter", netns, "--", *argv], capture_output=True, text=True, check=True, timeout=60
    ).stdout
