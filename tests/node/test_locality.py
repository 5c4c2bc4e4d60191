"""Who is near, in the product: connections that the kernel shares out by place and that fail over when a pod
is no longer ready; the same through an Envoy. Traffic, path and `sluice explain` tell the same.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.manifests import SERVER
from tests.node.mesh import RunningMesh, until
from tests.node.test_traffic import ASKING

PLACES = {"near-1": "east.a", "near-2": "east.a", "far-1": "west.b"}


def pods(folder: Path) -> str:
    """Three that serve; each is ready as long as its file is there. And who calls, in the east."""
    found = [
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: db, istio-locality: {place}}}}}
spec:
  containers:
  - name: main
    command: [{sys.executable}, {SERVER}, {name}, "8080"]
    readinessProbe:
      exec: {{command: [test, -e, {folder / name}]}}
      periodSeconds: 0.2
      failureThreshold: 1
    ports: [{{name: http, containerPort: 8080}}]
"""
        for name, place in PLACES.items()
    ]
    caller = """
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop, labels: {app: caller, istio-locality: east.a}}
spec: {containers: [{name: main, command: [sleep, infinity]}]}
"""
    return "---".join([*found, caller])


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  selector: {app: db}
  ports: [{name: http, port: 80, targetPort: http}]
  trafficDistribution: PreferClose
"""

SHARES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db, namespace: shop}
spec:
  host: db
  trafficPolicy:
    loadBalancer: {localityLbSetting: {distribute: [{from: east, to: {east: 60, west: 40}}]}}
"""

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec: {hosts: [db], http: [{timeout: 10s, route: [{destination: {host: db}}]}]}
"""


@pytest.fixture
def places(mesh: RunningMesh, tmp_path: Path) -> Iterator[Path]:
    for name in PLACES:
        (tmp_path / name).touch()
    mesh.apply(pods(tmp_path), SERVICE)
    for name in PLACES:
        until(lambda name=name: mesh.pod(f"shop/{name}")["ready"], f"{name} is ready")  # type: ignore[misc]
    yield tmp_path
    mesh.delete(pods(tmp_path), SERVICE)


def answering(mesh: RunningMesh, times: int = 12) -> Counter[str]:
    code = ASKING.format(url="http://db/", times=times, headers={})
    return Counter(json.loads(mesh.python("shop/caller", code)))


def flow(mesh: RunningMesh, path: str) -> dict[str, Any]:
    """One of the caller's to the Service, on that path."""

    def flows() -> list[dict[str, Any]]:
        found = mesh.observe("--from", "shop/caller", "--last", "200")
        return [f for f in found if f["destination"].get("service") == "shop/db" and f["path"] == path]

    return until(flows, f"a flow on the path {path} is seen")[-1]


def test_connections_stay_near_in_the_kernel_and_go_far_when_nobody_near_is_ready(
    mesh: RunningMesh, places: Path
) -> None:
    assert answering(mesh, 40).keys() == {"near-1", "near-2"}
    assert flow(mesh, "kernel")["verdict"] == "FORWARDED"
    said = mesh.explain("shop/caller", "shop/db:80")
    assert said["path"] == "kernel" and said["reasons"][0]["effect"] == "by the caller's place"
    assert {b["pod"]: b["share"] for b in said["backends"]} == {"shop/near-1": 0.5, "shop/near-2": 0.5}

    (places / "near-1").unlink()
    until(lambda: answering(mesh).keys() == {"near-2"}, "the other near one takes all")
    (places / "near-2").unlink()
    until(lambda: answering(mesh).keys() == {"far-1"}, "the far one takes all")
    (places / "near-1").touch()
    until(lambda: answering(mesh).keys() == {"near-1"}, "the near one takes all again")


def test_shares_of_places_hold_in_the_kernel_and_in_an_envoy(mesh: RunningMesh, places: Path) -> None:
    mesh.apply(SHARES)
    try:
        found = answering(mesh, 300)
        assert found.keys() == {*PLACES} and 70 < found["far-1"] < 170
        assert mesh.explain("shop/caller", "shop/db:80")["path"] == "kernel"
        mesh.apply(ROUTE)
        found = answering(mesh, 300)
        assert found.keys() == {*PLACES} and 70 < found["far-1"] < 170
        said = mesh.explain("shop/caller", "shop/db:80")
        assert said["path"] == "envoy"
        assert {b["pod"]: b["share"] for b in said["backends"]} == {
            "shop/near-1": 0.3,
            "shop/near-2": 0.3,
            "shop/far-1": 0.4,
        }
        assert flow(mesh, "envoy")
    finally:
        mesh.delete(SHARES, ROUTE)


def test_who_is_nowhere_takes_them_all(mesh: RunningMesh, places: Path) -> None:
    answers = [mesh.get("shop/client", "http://db/")[1] for _ in range(40)]
    assert {answer["name"] for answer in answers if isinstance(answer, dict)} == {*PLACES}
