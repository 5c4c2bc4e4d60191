"""Decision 8 for traffic: whatever comes and goes, in whatever order, a mesh that followed equals one that is
made of what is there now."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.bindings import Bindings
from mesh.datapath import Node
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef
from mesh.steer import routed_ports
from tests.traffic.edge import gate, gateway, http_route, istio_gateway
from tests.traffic.shop import (
    base,
    destination_rule,
    object_of,
    pod,
    to,
    versions,
    virtual_service,
)
from xds.dialects import read

RANGES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")
HTTP = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}
LISTENER = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}
WEB, SHADOW = {"name": "web", "port": 80}, {"name": "shadow", "port": 80}


def everything() -> list[dict[str, Any]]:
    """Several versions of most objects; of one name the last that was applied counts."""
    far = "web.shop.svc.cluster.local"
    split = [{"backendRefs": [WEB | {"port": 90}, SHADOW | {"port": 90, "weight": 3}]}]
    abroad = {"backendRefs": [WEB | {"namespace": "shop"}]}
    on_service = {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "namespace": "shop"}]}
    tcp = [{"match": [{"port": 90}], "route": [to("web", weight=75), to("shadow", weight=25)]}]
    by_team = {"match": [{"sourceLabels": {"team": "b"}}], "route": [to(subset="v2")]}
    policy = {"outlierDetection": {"consecutive5xxErrors": 3}}
    grant = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "street"}],
        "to": [{"group": "", "kind": "Service"}],
    }
    route_api = "gateway.networking.k8s.io"
    istio = "networking.istio.io/v1"

    def entry(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
        ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
        content = {"hosts": ["api.example.com"], "ports": ports, "resolution": "STATIC"} | spec
        return object_of(istio, "ServiceEntry", name, namespace, content)

    def envoy_filter(name: str, namespace: str, *matches: dict[str, Any], **spec: Any) -> dict[str, Any]:
        patch = {"operation": "ADD", "value": {"name": "x"}}
        patches = [{"applyTo": "HTTP_FILTER", "match": match, "patch": patch} for match in matches]
        alpha = "networking.istio.io/v1alpha3"
        return object_of(alpha, "EnvoyFilter", name, namespace, {"configPatches": patches} | spec)

    def sidecar(name: str, namespace: str, *hosts: str, **spec: Any) -> dict[str, Any]:
        content = {"egress": [{"hosts": list(hosts)}]} | spec
        return object_of(istio, "Sidecar", name, namespace, content)

    one, two = {"address": "192.0.2.1", "weight": 3}, {"address": "192.0.2.2", "labels": {"version": "v1"}}
    return [
        entry("api", "shop", endpoints=[one, two]),
        entry("api", "shop", endpoints=[two], exportTo=["."]),
        entry("api", "street", workloadSelector={"labels": {"app": "vm"}}),
        entry("other", "street", endpoints=[one], exportTo=["."]),
        object_of(istio, "WorkloadEntry", "vm", "street", {"address": "192.0.2.9", "labels": {"app": "vm"}}),
        object_of(
            istio,
            "WorkloadEntry",
            "vm",
            "street",
            {"address": "192.0.2.9", "labels": {"app": "vm"}, "weight": 2},
        ),
        virtual_service({"route": [to("api.example.com")]}, name="api", hosts=["api.example.com"]),
        virtual_service(
            hosts=["api.example.com"],
            tcp=[{"route": [to("api.example.com")]}],
            name="api",
            namespace="street",
        ),
        virtual_service({"route": [to("api.example.com")]}, name="out"),
        destination_rule(name="api", namespace="street", host="api.example.com", trafficPolicy=policy),
        destination_rule(name="root", namespace="istio-system", host=far, trafficPolicy=policy),
        envoy_filter("own", "shop", {}, {"listener": {"portNumber": 70}}),
        envoy_filter("own", "shop", {}, workloadSelector={"labels": {"app": "web"}}, priority=-1),
        envoy_filter(
            "team",
            "street",
            {"context": "SIDECAR_OUTBOUND", "listener": {"portNumber": 70}},
            workloadSelector={"labels": {"team": "b"}},
        ),
        envoy_filter(
            "root",
            "istio-system",
            {"context": "SIDECAR_OUTBOUND", "listener": {"portNumber": 80}},
            {"context": "SIDECAR_INBOUND", "listener": {"portNumber": 8080}},
            {"context": "GATEWAY"},
            workloadSelector={"labels": {"app": "other"}},
        ),
        sidecar("own", "street", "./*"),
        sidecar("own", "street", "shop/*", "*/api.example.com"),
        sidecar("team", "street", "~/*", workloadSelector={"labels": {"team": "b"}}),
        sidecar("all", "istio-system", "./*"),
        virtual_service({"route": [to(subset="v1")]}),
        virtual_service(by_team, {"route": [to(subset="v1")]}),
        virtual_service(by_team),
        virtual_service({"match": [{"uri": {"prefix": "/a"}}], "delegate": {"name": "part"}}),
        virtual_service(
            {"match": [{"sourceLabels": {"app": "other"}}], "route": [to("shadow")]}, name="part", hosts=[]
        ),
        virtual_service({"route": [to("shadow")]}, name="part", hosts=[]),
        virtual_service(hosts=["web"], tcp=tcp, name="tcp"),
        virtual_service(
            {"route": [to(far)]},
            namespace="street",
            hosts=[far],
        ),
        virtual_service({"route": [to()]}, name="wide", hosts=["*.shop.svc.cluster.local"]),
        virtual_service({"route": [to()]}, name="edge", hosts=["*"], gateways=["edge/public"]),
        versions(),
        versions(**policy),
        destination_rule(trafficPolicy={"loadBalancer": {"consistentHash": {"useSourceIp": True}}}),
        destination_rule(name="shadow", host="shadow", trafficPolicy=policy, exportTo=["street"]),
        destination_rule(
            name="own", namespace="street", host="*.shop.svc.cluster.local", trafficPolicy=policy
        ),
        gate(),
        istio_gateway(HTTP | {"hosts": ["*"]}),
        gateway(LISTENER),
        http_route({"backendRefs": [WEB]}),
        http_route({"backendRefs": [WEB, SHADOW]}, name="mesh", **on_service),
        http_route(abroad, name="own", namespace="street", **on_service),
        object_of(f"{route_api}/v1beta1", "ReferenceGrant", "leave", "shop", grant),
        object_of(
            f"{route_api}/v1alpha2",
            "TCPRoute",
            "db",
            "shop",
            on_service | {"rules": split},
        ),
        pod("late", "10.64.2.1", {"app": "web", "version": "v1"}),
        pod("late", "10.64.2.1", {"app": "web", "version": "v2"}),
        pod("walker", "10.64.2.2", {"team": "b", "app": "other"}, "street"),
        pod("walker", "10.64.2.2", {"team": "a"}, "street"),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_a_mesh_that_followed_equals_one_that_is_made_anew(seed: int) -> None:
    rng = random.Random(seed)
    pool = [read(content) for content in [*base(), *everything()]]
    assert all(fragment.valid for fragment in pool), [p for f in pool for p in f.problems]
    followed = Mesh(Allocations(RANGES))
    node = Node(followed, "local", default=True)
    present: dict[ObjectRef, Fragment] = {}
    for step in range(120):
        batch: dict[ObjectRef, Fragment | None] = {}
        for fragment in rng.sample(pool, rng.choice((1, 1, 1, 3))):
            batch[fragment.ref] = fragment if rng.random() < 0.65 else None
        for ref, fragment_or_none in batch.items():
            if fragment_or_none is None:
                present.pop(ref, None)
            else:
                present[ref] = fragment_or_none
        node.update(followed.apply(batch))
        if step % 6 == 5:
            allocations = Allocations(RANGES)
            allocations.restore(followed.allocations.to_json())
            mesh = Mesh(allocations)
            mesh.apply(present)
            fresh = Node(mesh, "local", default=True)
            assert followed.problems == mesh.problems
            assert node.state.services == fresh.state.services
            assert node.state == fresh.state
            assert node.proxies == fresh.proxies
            assert_kinds_of_callers_get_one_answer(mesh)


def assert_kinds_of_callers_get_one_answer(mesh: Mesh) -> None:
    """What is kept for many (`mesh.bindings`) is what each of them gets alone."""
    kept = Bindings(mesh)
    for caller in mesh.callers.all:
        alone = [port for name in sorted(mesh.services) for port in routed_ports(mesh, caller, name)]
        assert list(kept.routing(caller).ports) == alone, caller
