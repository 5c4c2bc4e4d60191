"""Which pods are made for Gateways, from what is stored."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mesh.model import WorkloadName
from sluice.gateway_pods import MANAGED, GatewayPods, Serving, manifest, serving
from sluice.mesh_directory import MeshDirectory
from xds import atomic

ISTIO = {
    "metadata": {"name": "edge", "namespace": "shop"},
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "servers": [
            {"port": {"number": 80, "protocol": "HTTP"}},
            {"port": {"number": 443, "protocol": "HTTPS"}},
        ],
    },
}
OURS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "public", "namespace": "shop"},
    "spec": {
        "gatewayClassName": "sluice",
        "listeners": [
            {"name": "http", "port": 8081, "protocol": "HTTP"},
            {"name": "udp", "port": 8081, "protocol": "UDP"},
        ],
    },
}
LABEL = "gateway.networking.k8s.io/gateway-name"


def stored(**kinds: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    names = {
        "istio": "Gateway.networking.istio.io",
        "api": "Gateway",
        "classes": "GatewayClass",
        "pods": "Pod",
    }
    return {kind: kinds.get(key, []) for key, kind in names.items()}


def pod(namespace: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "own", "namespace": namespace, "labels": labels}}


def test_a_gateway_that_nobody_serves_gets_a_pod() -> None:
    gate = WorkloadName("istio-system", "istio-ingressgateway")
    ports = {(8081, "TCP"): "http", (8081, "UDP"): "udp"}
    assert serving(stored(istio=[ISTIO], api=[OURS])) == [
        Serving(gate, {"istio": "ingressgateway"}, {(80, "TCP"): "http", (443, "TCP"): "https"}, True),
        Serving(WorkloadName("shop", "public-sluice"), {LABEL: "public"}, ports, True),
    ]


def test_what_a_gateway_wants_on_its_pod_is_there_and_hides_none_of_ours() -> None:
    labels = {"team": "edge", "version": "v2", LABEL: "forged", MANAGED: "forged"}
    wishing = {"infrastructure": {"labels": labels, "annotations": {"example.com/contact": "edge"}}}
    (found,) = serving(stored(api=[OURS | {"spec": OURS["spec"] | wishing}]))
    pod, service = (made["metadata"] for made in manifest(found))
    own = {"team": "edge", "version": "v2", MANAGED: "public-sluice"}
    assert pod["labels"] == own | {"app": "public-sluice", LABEL: "public"}
    assert own.items() <= service["labels"].items()
    assert pod["annotations"] == service["annotations"] == {"example.com/contact": "edge"}


def test_a_users_pod_comes_first_and_ours_is_not_taken_for_one() -> None:
    (own,) = serving(stored(istio=[ISTIO], pods=[pod("edge", istio="ingressgateway")]))
    assert (own.pod, own.ours) == (WorkloadName("edge", "own"), False)
    managed = pod("istio-system", istio="ingressgateway", **{MANAGED: "x"})
    assert serving(stored(istio=[ISTIO], pods=[managed]))[0].ours


def test_a_pod_of_another_namespace_does_not_serve_a_gateway_of_the_gateway_api() -> None:
    (found,) = serving(stored(api=[OURS], pods=[pod("street", **{LABEL: "public"})]))
    assert found.ours
    (found,) = serving(stored(api=[OURS], pods=[pod("shop", **{LABEL: "public"})]))
    assert not found.ours


def test_a_class_of_somebody_else_is_left_to_them() -> None:
    theirs = {"metadata": {"name": "sluice"}, "spec": {"controllerName": "acme.io/gateway"}}
    assert serving(stored(api=[OURS], classes=[theirs])) == []


def test_gateways_of_one_pod_share_it() -> None:
    more = {
        "metadata": {"name": "more", "namespace": "street"},
        "spec": ISTIO["spec"] | {"servers": [{"port": {"number": 9000, "protocol": "TCP"}}]},
    }
    (found,) = serving(stored(istio=[ISTIO, more]))
    assert found.ports == {(80, "TCP"): "http", (443, "TCP"): "https", (9000, "TCP"): "tcp"}


async def test_of_a_gateway_that_cannot_be_read_the_last_valid_version_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 18. One that never could be read has no pod, and the others have theirs."""
    monkeypatch.setattr("sluice.mesh_directory.STATE_ROOT", tmp_path)
    mesh = MeshDirectory("m")
    broken = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": {"listeners": 7}}
    for name in ("public", "never"):
        content = broken | {"metadata": {"name": name, "namespace": "shop"}}
        atomic.write(mesh.objects / "Gateway" / f"shop_{name}.yaml", json.dumps(content))
    atomic.write(mesh.state / "last-valid" / "Gateway" / "shop_public.yaml", json.dumps(OURS))
    for kind in ("GatewayClass", "Gateway.networking.istio.io", "Pod"):
        atomic.write(mesh.objects / kind / "odd.yaml", '{"metadata": {"name": "odd", "labels": "odd"}}')
        atomic.write(mesh.objects / kind / "text.yaml", "spec: [")
    told = asyncio.Event()
    pods = GatewayPods(mesh, told.set)
    keeping = asyncio.create_task(pods.keep())
    try:
        async with asyncio.timeout(20):
            await told.wait()
        assert list(pods.ports) == [WorkloadName("shop", "public-sluice")]
        assert not keeping.done()
    finally:
        keeping.cancel()


async def test_the_manifest_follows_the_store_and_many_changes_at_once_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.mesh_directory.STATE_ROOT", tmp_path)
    mesh = MeshDirectory("m")
    told: list[tuple[WorkloadName, ...]] = []
    pods = GatewayPods(mesh, lambda: told.append(tuple(pods.ports)))

    async def until(*wanted: WorkloadName) -> None:
        async with asyncio.timeout(20):
            while not told or told[-1] != wanted:
                await asyncio.sleep(0.01)

    def manifest() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((mesh.state / "gateways.json").read_text())["items"]
        return found

    def items() -> list[str]:
        return [item["kind"] for item in manifest()]

    keeping = asyncio.create_task(pods.keep())
    try:
        await until()
        for number in range(500):
            content = pod("shop", app="web") | {"kind": "Pod"}
            atomic.write(mesh.objects / "Pod" / f"shop.{number}.yaml", json.dumps(content))
        gateway = mesh.objects / "Gateway" / "shop.public.yaml"
        atomic.write(gateway, json.dumps(OURS))
        await until(WorkloadName("shop", "public-sluice"))
        made, service = manifest()
        assert [made["kind"], service["kind"]] == ["Pod", "Service"]
        (container,) = made["spec"]["containers"]
        assert container["ports"] == [
            {"name": "p-8081", "containerPort": 8081},
            {"name": "p-8081-udp", "containerPort": 8081, "protocol": "UDP"},
        ]
        assert container["readinessProbe"]["tcpSocket"] == {"port": 8081}
        assert service["spec"]["ports"] == [
            {"name": "http-8081", "port": 8081, "protocol": "TCP"},
            {"name": "udp-8081", "port": 8081, "protocol": "UDP"},
        ]
        assert len(told) < 10
        gateway.unlink()
        await until()
        assert items() == []
    finally:
        keeping.cancel()
