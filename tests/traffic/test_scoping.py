"""An Envoy's configuration holds what rules make of its pod's connections, not the mesh (rule 23)."""

from __future__ import annotations

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import Allocations
from mesh.model import Fragment, LearnedNames
from tests.traffic.shop import Object, object_of, pod, to, virtual_service
from xds.dialects import read
from xds.render import render
from xds.resolver import LEARNED_REF

USED, ALL = 20, 300


def size(services: int, routed: int, *more: Object, looked_up: int = 0) -> int:
    """Bytes of what the client's Envoy is sent in a mesh of so many services, with a route for the first; of
    them some were looked up by the client."""
    objects = [pod("client", "10.64.0.10", {"app": "client"}), *more]
    for at in range(services):
        spec = {"selector": {"app": f"s{at}"}, "ports": [{"port": 80, "name": "http"}]}
        objects.append(object_of("v1", "Service", f"s{at}", "shop", spec))
        objects.append(pod(f"s{at}", f"10.64.{1 + at // 250}.{at % 250 + 1}", {"app": f"s{at}"}))
    objects += [
        virtual_service({"route": [to(f"s{at}")]}, name=f"s{at}", hosts=[f"s{at}"]) for at in range(routed)
    ]
    mesh = Mesh(Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112")))
    node = Node(mesh, "local", default=True)
    found = [read(content) for content in objects]
    assert all(fragment.valid for fragment in found)
    node.update(mesh.apply({fragment.ref: fragment for fragment in found}))
    names = [("shop", f"s{at}.shop.svc.cluster.local") for at in range(looked_up)]
    learned = LearnedNames(1, looked_up=tuple(sorted(names)))
    node.update(mesh.apply({LEARNED_REF: Fragment(LEARNED_REF, (learned,))}))
    (view,) = (view for name, view in node.proxies.items() if str(name) == "shop/client")
    return sum(len(resource.any) for resource in render(view))


@pytest.fixture(scope="module")
def small() -> int:
    return size(USED, USED)


def test_services_without_a_rule_cost_nothing(small: int) -> None:
    assert size(ALL, USED) <= 1.3 * small


def test_a_sidecar_leaves_out_the_rules_of_services_that_are_not_used(small: int) -> None:
    hosts = [f"./s{at}.shop.svc.cluster.local" for at in range(USED)]
    sidecar = object_of("networking.istio.io/v1", "Sidecar", "own", "shop", {"egress": [{"hosts": hosts}]})
    assert size(ALL, ALL, sidecar) <= 1.3 * small < size(ALL, ALL)


def test_look_ups_widen_what_a_sidecar_leaves_out(small: int) -> None:
    spec = {"egress": [{"hosts": ["~/*"]}]}
    sidecar = object_of("networking.istio.io/v1", "Sidecar", "own", "shop", spec)
    sidecar["metadata"]["annotations"] = {"sluice.io/widen-by-lookup": "true"}
    assert size(ALL, ALL, sidecar, looked_up=USED) <= 1.3 * small
