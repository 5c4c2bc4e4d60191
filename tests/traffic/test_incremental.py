"""Decision 8 for traffic: whatever comes and goes, in whatever order, a mesh that followed equals one that is
made of what is there now."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef
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
    return [
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


@pytest.mark.parametrize("seed", range(8))
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
