"""A mesh that followed what came and went, held against one that is made of what is there now; and some of
what comes and goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef
from mesh.routes.balance import balanced_ports
from mesh.routes.bindings import Bindings
from mesh.routes.steer import routed_ports
from tests.traffic.shop import base, object_of, pod
from xds.dialects import read

RANGES = ("10.128.0.0/16", "fd51:ce00:0:2::/112")
#: A server of a Gateway.
HTTP = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}}


def node_object(**labels: str) -> dict[str, Any]:
    named = {f"topology.kubernetes.io/{key}": value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "far", "labels": named}}


def service(**spec: Any) -> dict[str, Any]:
    found = next(item for item in base() if item["metadata"]["name"] == "web" and "ports" in item["spec"])
    return found | {"spec": found["spec"] | spec}


def entry(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    content = {"hosts": ["api.example.com"], "ports": ports, "resolution": "STATIC"} | spec
    return object_of("networking.istio.io/v1", "ServiceEntry", name, namespace, content)


def alias(name: str, target: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    content = {"type": "ExternalName", "externalName": target} | spec
    return object_of("v1", "Service", name, namespace, content)


def dynamic(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return entry(name, namespace, **{"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS"} | spec)


def may_call(*peers: dict[str, Any]) -> dict[str, Any]:
    """The only ones to whom the client of the shop may."""
    spec = {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]}
    content = spec | {"egress": [{"to": list(peers)}]}
    return object_of("networking.k8s.io/v1", "NetworkPolicy", "calls", "shop", content)


def far_away() -> dict[str, Any]:
    """A pod behind `web` on another node."""
    found = pod("late", "10.64.2.1", {"app": "web", "version": "v1"})
    found["spec"]["nodeName"] = "far"
    return found


def assert_each_is_followed(*batches: Iterable[dict[str, Any]]) -> None:
    followed = Mesh(Allocations(RANGES))
    node = Node(followed, "local", default=True)
    present: dict[ObjectRef, Fragment] = {}
    for batch in batches:
        fragments = {fragment.ref: fragment for fragment in map(read, batch)}
        assert all(fragment.valid for fragment in fragments.values())
        present |= fragments
        node.update(followed.apply(fragments))
        assert_made_anew_it_is_the_same(followed, node, present)


def assert_made_anew_it_is_the_same(
    followed: Mesh, node: Node, present: Mapping[ObjectRef, Fragment]
) -> None:
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
    """What is kept for many (`mesh.routes.bindings`) is what each of them gets alone."""
    kept = Bindings(mesh)
    for name, service in mesh.services.items():
        for port in service.ports:
            key = (port.port, port.protocol)
            own = {(who, *what) for who, *what in kept.balanced(name, *key)}
            for caller in mesh.callers.all:
                routed = routed_ports(mesh, caller, name)
                for one in balanced_ports(mesh, caller, name, routed):
                    if (one.port.port, one.port.protocol) == key:
                        assert {
                            (str(caller), one.by_client, one.plain),
                            ("*", one.by_client, one.plain),
                        } & own
    for caller in mesh.callers.all:
        alone = [port for name in sorted(mesh.services) for port in routed_ports(mesh, caller, name)]
        assert list(kept.routing(caller).ports) == alone, caller
