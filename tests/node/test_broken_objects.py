"""Broken objects of every kind arrive under load, a fifth of them such that only Envoy can tell: no proxy
that serves is shown one, no request fails, and changes in between come into force."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.manifests import MESH
from tests.node.mesh import RUN, RunningMesh, sluice, until
from tests.node.test_swaps import LOAD, RATE, swapped

pytestmark = [pytest.mark.root, pytest.mark.slow]

NOBODY = {"matchLabels": {"app": "nobody"}}
#: What no dialect takes. Policies among them would refuse all to those they select.
UNREADABLE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("networking.istio.io/v1", "VirtualService", {"hosts": 5}),
    (
        "networking.istio.io/v1",
        "DestinationRule",
        {"host": "web", "trafficPolicy": {"loadBalancer": {"simple": "NEAREST"}}},
    ),
    ("networking.istio.io/v1", "Gateway", {"servers": "all"}),
    ("networking.istio.io/v1", "ServiceEntry", {"hosts": [1]}),
    ("networking.istio.io/v1", "Sidecar", {"egress": [{"hosts": ["web"]}]}),
    ("networking.istio.io/v1alpha3", "EnvoyFilter", {"configPatches": [{"applyTo": "MOON"}]}),
    (
        "security.istio.io/v1",
        "AuthorizationPolicy",
        {"selector": NOBODY, "rules": [{"to": [{"operation": {"methodz": ["GET"]}}]}]},
    ),
    ("security.istio.io/v1", "RequestAuthentication", {"selector": NOBODY, "jwtRules": [{"jwks": "{"}]}),
    ("telemetry.istio.io/v1", "Telemetry", {"tracing": 1}),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        {"podSelector": NOBODY, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}]},
    ),
    ("cilium.io/v2", "CiliumNetworkPolicy", {"endpointSelector": NOBODY, "ingress": [{"fromPlanets": []}]}),
    ("gateway.networking.k8s.io/v1", "HTTPRoute", {"rules": 1}),
    ("gateway.networking.k8s.io/v1", "GRPCRoute", {"rules": 1}),
    ("gateway.networking.k8s.io/v1", "TCPRoute", {"rules": 1}),
    ("sluice.io/v1alpha1", "RateLimit", {"selector": NOBODY, "limits": 1}),
)


def unreadable(number: int) -> dict[str, Any]:
    version, kind, spec = UNREADABLE[number % len(UNREADABLE)]
    meta = {"name": f"broken-{number}", "namespace": "broken"}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


def refused_by_envoy(number: int) -> dict[str, Any]:
    """Each another one, so that none is known from before."""
    ring = {"minimum_ring_size": 1000 + number, "maximum_ring_size": 10}
    patch = {"operation": "MERGE", "value": {"lb_policy": "RING_HASH", "ring_hash_lb_config": ring}}
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": f"broken-{number}", "namespace": "shop"},
        "spec": {
            "workloadSelector": {"labels": {"app": "client"}},
            "configPatches": [
                {"applyTo": "CLUSTER", "match": {"context": "SIDECAR_OUTBOUND"}, "patch": patch}
            ],
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mesh"


@pytest.fixture
def watched(folder: Path) -> Iterator[RunningMesh]:
    """A mesh that takes whatever is put into `folder`; `sluice apply` would refuse what is broken."""
    running = RunningMesh()
    try:
        running.up(MESH, swapped(0), folder=folder)
        yield running
    finally:
        sluice("down", "--name", running.name, "--purge", timeout=60)
    assert running.residue() == []


@pytest.mark.timeout(900)
def test_broken_objects_reach_no_proxy_and_fail_no_request(
    watched: RunningMesh, folder: Path, long: bool
) -> None:
    count, seconds = (500, 300) if long else (50, 25)
    command = (sys.executable, str(LOAD), "http://web/", str(RATE), str(seconds))
    load = subprocess.Popen(
        [*RUN, "exec", "--name", watched.name, "shop/client", "--", *command],
        stdout=subprocess.PIPE,
        text=True,
    )
    changes = 0
    try:
        assert load.stdout is not None
        assert load.stdout.readline().strip() == "ready"
        for number in range(count):
            made = refused_by_envoy(number) if number % 5 == 0 else unreadable(number)
            (folder / f"broken-{number}.yaml").write_text(json.dumps(made))
            if number % 10 == 9:
                changes += 1
                watched.apply(swapped(changes))
        told = json.loads(load.communicate(timeout=seconds + 60)[0])
    finally:
        load.kill()
        load.wait()

    def blamed() -> set[str]:
        return {found["object"] for found in watched.status()["problems"] if "broken-" in found["object"]}

    until(lambda: len(blamed()) == count, "every broken object is told of", seconds=120)
    print(f"{count} broken objects, {changes} changes between, {told['sent']} requests")
    assert told["failed"] == [] and told["sent"] > 100
    log = Path("/var/lib/sluice", watched.name, "logs/agent.log").read_text()
    assert " refuses " not in log, "a proxy was shown what Envoy refuses"
    subsets = watched.run("proxy-config", "routes", "shop/client", "-o", "json")
    assert f"|s{changes}|" in subsets, "the last change between them is in force"
