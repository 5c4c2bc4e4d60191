"""N49: an object of one namespace takes an address or a name over that is another's, the resolver's, a pod's
or a node's, and with it what others send there."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.dialects import read
from mesh.dns_records import zone
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef, ServiceName, WorkloadName
from mesh.policies.references import API_SERVER, Directory, resolved
from tests.mesh.shop import SHOP, documents

HERE, THERE = "10.64.0.1", "192.0.2.77"
RESOLVER = "10.128.0.10"
VICTIMS = (
    SHOP
    + f"""
---
apiVersion: v1
kind: Node
metadata: {{name: there}}
status: {{addresses: [{{type: InternalIP, address: {THERE}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: sluice-dns, namespace: kube-system, labels: {{k8s-app: kube-dns}}}}
spec: {{nodeName: here, serviceAccountName: sluice-dns, containers: [{{name: c, command: ["true"]}}]}}
status: {{podIPs: [{{ip: 10.64.0.99}}], conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec: {{clusterIP: {RESOLVER}, selector: {{k8s-app: kube-dns}}, ports: [{{port: 53, protocol: UDP}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: kubernetes, namespace: default}}
spec: {{clusterIP: 10.128.0.11, ports: [{{port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: kubernetes, namespace: default, labels: {{kubernetes.io/service-name: kubernetes}}}}
addressType: IPv4
ports: [{{port: 443}}]
endpoints: [{{addresses: [{THERE}]}}]
"""
)
REVIEWS, DNS = ServiceName("shop", "reviews"), ServiceName("kube-system", "kube-dns")
#: What a Service without an address of its own was given, as the first of its mesh.
GIVEN = "10.128.0.2"
ADDRESSES = {
    "a Service's": "10.128.0.80",
    "one that was given": GIVEN,
    "the resolver's": RESOLVER,
    "the API server's": "10.128.0.11",
    "a pod's": "10.64.0.11",
    "a pod's of IPv6": "fd51:ce00:0:1::b",
    "this node's": HERE,
    "another node's": THERE,
}


def service(name: str, **spec: Any) -> Any:
    """Of the namespace that is the first by name, with a backend of its own."""
    spec = {"selector": {"app": "thief"}, "ports": [{"port": 80}]} | spec
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "aaa"},
        "spec": spec,
    }


def pod(name: str, labels: dict[str, str], **spec: Any) -> Any:
    spec = {"nodeName": "here", "containers": [{"name": "c", "command": ["true"]}]} | spec
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "aaa", "labels": labels},
        "spec": spec,
        "status": {"podIPs": [{"ip": "10.64.0.66"}], "conditions": [{"type": "Ready", "status": "True"}]},
    }


def endpoints(of: str, *addresses: str, **more: Any) -> Any:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": of, "namespace": "aaa", "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [address]} | more for address in addresses],
    }


def route(backend: str) -> Any:
    parent = {"group": "", "kind": "Service", "name": "reviews", "namespace": "shop"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route", "namespace": "aaa"},
        "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]},
    }


def diversion(host: str) -> Any:
    """What is sent to one's own host goes to oneself."""
    route = {"route": [{"destination": {"host": "thief.aaa.svc.cluster.local"}}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "diversion", "namespace": "aaa"},
        "spec": {"hosts": [host], "http": [route]},
    }


THIEF = pod("thief", {"app": "thief"})
TARGETED = {"kind": "Pod", "name": "reviews-v1", "namespace": "shop"}
ATTACKS: dict[str, list[Any]] = {
    **{f"asks for {whose}": [service("a", clusterIP=address)] for whose, address in ADDRESSES.items()},
    "asks for two": [service("a", clusterIPs=["10.128.0.80", "fd51:ce00:0:1::b"])],
    "has another outside": [service("a", externalIPs=list(ADDRESSES.values()))],
    "has a balancer": [
        service("a", type="LoadBalancer", loadBalancerIP=RESOLVER)
        | {"status": {"loadBalancer": {"ingress": [{"ip": RESOLVER}]}}}
    ],
    "has the name of another": [service("reviews"), service("kube-dns"), service("kubernetes")],
    "is behind another": [endpoints("reviews", "10.64.0.66"), endpoints("kubernetes", "10.64.0.66")],
    "has labels of another": [pod("b", {"app": "reviews", "k8s-app": "kube-dns"})],
    "has a host name of another": [pod("b", {"app": "thief"}, hostname="v1", subdomain="reviews")],
    "is named by another's address": [
        service("a", clusterIP="None", selector=None),
        endpoints("a", "10.64.0.11", "10.128.0.80", RESOLVER, targetRef=TARGETED),
    ],
    "has a route at another's address": [
        service("a", clusterIP="None", selector=None),
        endpoints("a", "10.64.0.11", "10.128.0.80", RESOLVER, HERE, THERE, targetRef=TARGETED),
        diversion("a"),
    ],
}


def mesh_with(fragments: dict[ObjectRef, Fragment], allocations: Allocations | None = None) -> Mesh:
    if allocations is None:
        allocations = Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112"))
    mesh = Mesh(allocations, hosts=(HERE,))
    mesh.apply(fragments)
    return mesh


def fragments_of(objects: list[Any]) -> dict[ObjectRef, Fragment]:
    return {fragment.ref: fragment for fragment in map(read, objects)}


def seen(mesh: Mesh) -> dict[str, Any]:
    """What leads to anything that is not of namespace `aaa`."""
    node = Node(mesh, "here")
    own = ".aaa.svc.cluster.local"
    names = zone(mesh)
    return {
        "translation": {n: r for n, r in node.state.services.items() if r.name.namespace != "aaa"},
        "stolen": sorted(
            vip
            for record in node.state.services.values()
            if record.name.namespace == "aaa"
            for vip in record.vips
            if vip in ADDRESSES.values()
        ),
        "owners": {
            whose: mesh.owners.get(address) or node.shared.peer_of(address)[0]
            for whose, address in ADDRESSES.items()
        },
        "addresses": {n: a for n, a in names.addresses.items() if not n.endswith(own)},
        "servers": {n: s for n, s in names.servers.items() if not n.endswith(own)},
        "pointers": {whose: names.pointers.get(address) for whose, address in ADDRESSES.items()},
        "API server": resolved(
            API_SERVER, Directory(services=mesh.services, slices=mesh.service_table.slices)
        ),
    }


@pytest.mark.parametrize("attack", ATTACKS)
def test_nobody_takes_over_what_is_anothers(attack: str) -> None:
    """Not when it comes later, and not in a control plane that starts with both."""
    victims = fragments_of(documents(VICTIMS))
    mesh = mesh_with(victims)
    assert mesh.vips[ServiceName("shop", "reviews-v2")][0] == GIVEN
    before = seen(mesh)
    attacker = fragments_of([THIEF, *ATTACKS[attack]])
    mesh.apply(attacker)
    assert seen(mesh) == before
    allocations = Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112"))
    allocations.restore(mesh.allocations.to_json())
    assert seen(mesh_with(attacker | victims, allocations)) == before
    mesh.apply(dict.fromkeys(attacker))
    assert seen(mesh) == before


@pytest.mark.parametrize(
    "whose", ["the resolver's", "a pod's", "a pod's of IPv6", "this node's", "another node's"]
)
def test_what_the_mesh_itself_needs_is_never_free(whose: str) -> None:
    """The resolver, and who is reached without any Service, need not come first."""
    attacker = fragments_of([THIEF, *ATTACKS[f"asks for {whose}"]])
    victims = fragments_of(documents(VICTIMS))
    mesh = mesh_with(attacker | victims)
    assert seen(mesh) == seen(mesh_with(victims))
    first = mesh_with(attacker)
    first.apply(victims)
    assert seen(first)["stolen"] == []
    assert first.vips[DNS] == (RESOLVER,)


def test_what_is_let_go_is_free_again() -> None:
    """Whoever waits for it has it then, and keeps it from those who come back."""
    victims = fragments_of(documents(VICTIMS))
    mesh = mesh_with(victims)
    waiting = ServiceName("aaa", "a")
    for address, name in (("10.128.0.80", REVIEWS), (GIVEN, ServiceName("shop", "reviews-v2"))):
        attacker = fragments_of([service("a", clusterIP=address)])
        mesh.apply(attacker)
        assert mesh.vips[waiting] == ()
        assert [str(p.object) for p in mesh.problems if p.field == "spec.clusterIP"] == ["Service aaa/a"]
        ref = ObjectRef("Service", *name)
        mesh.apply({ref: None})
        assert mesh.vips[waiting] == (address,)
        mesh.apply({ref: victims[ref]})
        assert mesh.vips[waiting] == (address,)
        assert address not in mesh.vips[name]
        mesh.apply(dict.fromkeys(attacker))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1"])
def test_no_service_leads_to_the_machine_itself(address: str) -> None:
    """Nor to what answers each machine otherwise, such as the metadata of a cloud."""
    for document in (endpoints("a", address), service("a", clusterIP=address)):
        assert not read(document).nouns
        assert not read(document).valid


def test_a_route_for_anothers_service_binds_callers_of_its_own_namespace_only() -> None:
    fragments = fragments_of([*documents(VICTIMS), THIEF, service("a"), route("a")])
    node = Node(mesh_with(fragments), "here")
    assert set(node.proxies) == {"aaa/thief"}
    (port,) = node.state.services["shop/reviews"].ports
    assert port.views == ("aaa",)
    routed = [str(WorkloadName(*pod.name)) for pod in node.state.pods.values() if pod.routes]
    assert routed == ["aaa/thief"]
