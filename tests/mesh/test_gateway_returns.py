"""A route by which a Gateway would send to itself is told, and leads nowhere, whatever changed last."""

from __future__ import annotations

from typing import Any

from mesh.datapath import Node
from mesh.model import ObjectRef
from mesh.routes.gateways import GATEWAY_NAME
from sluice.offline import NODE
from tests.traffic.shop import Object, Shop, object_of, pod
from xds.dialects import read

API = "gateway.networking.k8s.io"
LABEL = {GATEWAY_NAME: "public"}
GATE = "edge/gate"


def gate(labels: dict[str, str]) -> Object:
    return pod("gate", "10.64.1.10", {"app": "gate", **labels}, "edge")


def other(labels: dict[str, str]) -> Object:
    """Another that may serve it."""
    return pod("other", "10.64.1.11", {"app": "gate", **labels}, "edge")


def gateway(port: int = 53, protocol: str = "UDP") -> Object:
    listeners = [{"name": "talk", "port": port, "protocol": protocol}]
    spec = {"gatewayClassName": "sluice", "listeners": listeners}
    return object_of(f"{API}/v1", "Gateway", "public", "edge", spec)


def service(port: int = 53) -> Object:
    ports = [{"port": 53, "targetPort": port, "protocol": "UDP"}]
    return object_of("v1", "Service", "back", "edge", {"selector": {"app": "gate"}, "ports": ports})


def route() -> Object:
    rules = [{"backendRefs": [{"name": "back", "port": 53}]}]
    spec = {"parentRefs": [{"name": "public"}], "rules": rules}
    return object_of(f"{API}/v1alpha2", "UDPRoute", "talk", "edge", spec)


class Told(Shop):
    def change(self, *objects: Object, gone: ObjectRef | None = None) -> bool:
        """Is the route told after this?"""
        changed: dict[ObjectRef, Any] = {found.ref: found for found in map(read, objects)}
        if gone:
            changed[gone] = None
        self.mesh.apply(changed)
        return any("leads back to Gateway edge/public" in p.message for p in self.mesh.problems)

    def reached(self) -> list[str]:
        """By the pod `gate`, now."""
        view = Node(self.mesh, NODE, default=True).proxies[GATE]
        return [b.address for d in view.destinations for p in d.parts for b in p.backends if "." in b.address]


def test_every_change_by_which_it_would_and_by_which_it_would_not() -> None:
    shop = Told(gateway(), service(), gate(LABEL), accept=[""])
    assert shop.change(route())
    assert shop.reached() == []
    assert not shop.change(gateway(54)), "at another port nothing comes back"
    assert shop.reached() == ["10.64.1.10"]
    assert not shop.change(gateway(53, "TCP")), "nor over another protocol"
    assert shop.change(gateway())
    assert not shop.change(service(5300))
    assert shop.change(service())
    assert not shop.change(gate({}))
    assert shop.change(gate(LABEL))
    assert not shop.change(gone=ObjectRef("Gateway", "edge", "public"))


def test_a_virtual_service_may_lead_back_by_an_alias() -> None:
    name = {"type": "ExternalName", "externalName": "back.edge.svc.cluster.local"}
    alias = object_of("v1", "Service", "alias", "edge", name)
    back = object_of("v1", "Service", "back", "edge", {"selector": {"app": "gate"}, "ports": [{"port": 80}]})
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    spec = {"selector": {"app": "gate"}, "servers": [server]}
    public = object_of("networking.istio.io/v1", "Gateway", "public", "edge", spec)
    loop = {"hosts": ["*"], "gateways": ["public"], "http": [{"route": [{"destination": {"host": "alias"}}]}]}
    route = object_of("networking.istio.io/v1", "VirtualService", "loop", "edge", loop)
    shop = Shop(alias, back, public, gate({}), route, accept=["leads back"])
    assert [p.object.name for p in shop.problems] == ["loop"]


def test_two_pods_that_serve_it_do_not_send_to_each_other() -> None:
    shop = Told(gateway(), service(), gate(LABEL), other({}), route(), accept=[""])
    assert shop.reached() == ["10.64.1.11"]
    shop.change(other(LABEL))
    assert shop.reached() == []
