"""N48: a peer that means nodes also means pods with the same labels, or the world means a host or a pod."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from mesh.answers.called import party
from mesh.assemble import Mesh
from mesh.datapath import DIRECTIONS, Node
from mesh.identity import Allocations
from mesh.model import Direction, Fragment, LearnedNames, ObjectRef, WorkloadName
from mesh.policies.policy import judge
from tests.agreement.test_tables import words
from tests.threats.told import Told
from xds.dialects import read

Object = dict[str, Any]

HERE, THERE, WORLD, ELSEWHERE, POD, TWIN = (
    "10.64.0.1",
    "192.0.2.77",
    "198.51.100.7",
    "2001:db8::7",
    "10.64.0.11",
    "fd51:ce00:0:1::b",
)
EVERYONE = frozenset((HERE, THERE, WORLD, ELSEWHERE, POD, TWIN))
NODES, PODS = frozenset((HERE, THERE)), frozenset((POD, TWIN))
SUBJECT = WorkloadName("shop", "subject")
#: The pod bears the labels of the node "there", and of whatever else has a name.
LABELS = {"zone": "b", "app": "web", "reserved.host": "", "world": "", "entity": "host"}


def thing(kind: str, name: str, *addresses: str, labels: Object | None = None) -> Object:
    metadata: Object = {"name": name, "labels": LABELS if labels is None else labels}
    found: Object = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
    if kind == "Node":
        return found | {"status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]}}
    metadata["namespace"] = "shop"
    spec = {"nodeName": "here", "containers": [{"name": "c", "command": ["true"]}]}
    return found | {"spec": spec, "status": {"podIPs": [{"ip": address} for address in addresses]}}


def references() -> list[Object]:
    """A group and an API server at the addresses of everyone."""
    return [
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumCIDRGroup",
            "metadata": {"name": "all"},
            "spec": {"externalCIDRs": sorted(f"{a}/{128 if ':' in a else 32}" for a in EVERYONE)},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"ports": [{"port": 443}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "ports": [{"port": 443}],
            "endpoints": [{"addresses": [THERE]}],
        },
    ]


THINGS = [
    thing("Node", "here", HERE, labels={"zone": "a"}),
    thing("Node", "there", THERE, labels=LABELS),
    thing("Pod", "web", POD, TWIN),
    thing("Pod", "subject", "10.64.0.10", "fd51:ce00:0:1::a", labels={"app": "subject"}),
    *references(),
]
LEARNED = ObjectRef("LearnedNames", "", "dns")
NAMES = LearnedNames(1, (("all.example.com", tuple(sorted(EVERYONE))),))


def mesh_of(*objects: Object) -> Mesh:
    fragments = [read(document) for document in (*THINGS, *objects)]
    assert all(fragment.valid for fragment in fragments), [f.problems for f in fragments if not f.valid]
    mesh = Mesh(Allocations(("10.128.0.0/16",)), hosts=(HERE,))
    mesh.apply({f.ref: f for f in fragments} | {LEARNED: Fragment(LEARNED, (NAMES,))})
    return mesh


def allowed(mesh: Mesh, direction: Direction) -> frozenset[str]:
    """Whom policy lets the subject talk with; the reference and what the node is told are of one mind."""
    policies, node = list(mesh.all_policies()), Node(mesh, "here")
    told, record = Told(node.state), node.state.pods[str(SUBJECT)]
    number = record.ingress_set if direction == "ingress" else record.egress_set
    found = set()
    for address in EVERYONE:
        question = (direction, party(mesh, record.addresses[0]), party(mesh, address), "TCP", 80, mesh.config)
        said, rules = words(judge(policies, *question))  # type: ignore[arg-type]
        compiled = told.verdict(number, address, "TCP", 80)
        if not (direction == "ingress" and address == HERE):  # rule 11: never asked
            assert (compiled.verdict, compiled.rules) == (said, rules), address
        if compiled.verdict == "allow":
            found.add(address)
    return frozenset(found)


def cilium(rule: Object, direction: Direction) -> Object:
    spec = {"endpointSelector": {"matchLabels": {"app": "subject"}}, direction: [rule]}
    metadata = {"name": "one"}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": metadata,
        "spec": spec,
    }


def reserved(entity: str) -> Object:
    return {"matchLabels": {f"reserved:{entity}": ""}}


#: Peers of a Cilium rule without their `from` or `to`, and whom they mean.
PEERS: dict[str, tuple[str, list[Any], frozenset[str]]] = {
    "all": ("Entities", ["all"], EVERYONE),
    "world": ("Entities", ["world"], frozenset((WORLD, ELSEWHERE))),
    "world of IPv4": ("Entities", ["world-ipv4"], frozenset((WORLD,))),
    "world of IPv6": ("Entities", ["world-ipv6"], frozenset((ELSEWHERE,))),
    "cluster": ("Entities", ["cluster"], NODES | PODS),
    "host": ("Entities", ["host"], frozenset((HERE,))),
    "remote nodes": ("Entities", ["remote-node"], frozenset((THERE,))),
    "the API server": ("Entities", ["kube-apiserver"], frozenset((THERE,))),
    "what is not here": ("Entities", ["init", "health", "ingress", "unmanaged", "cluster-mesh"], frozenset()),
    "host by label": ("Endpoints", [reserved("host")], frozenset((HERE,))),
    "remote nodes by label": ("Endpoints", [reserved("remote-node")], frozenset((THERE,))),
    "world by label": ("Endpoints", [reserved("world")], frozenset((WORLD, ELSEWHERE))),
    "endpoints": ("Endpoints", [{}], PODS),
    "endpoints with a node's label": ("Endpoints", [{"matchLabels": {"zone": "b"}}], PODS),
    "endpoints that are called host": ("Endpoints", [{"matchLabels": {"entity": "host"}}], PODS),
    "nodes": ("Nodes", [{}], NODES),
    "nodes by label": ("Nodes", [{"matchLabels": {"zone": "b"}}], frozenset((THERE,))),
    "nodes by another label": ("Nodes", [{"matchLabels": {"app": "web"}}], frozenset((THERE,))),
    "nodes that are not this one": (
        "Nodes",
        [{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}],
        frozenset((THERE,)),
    ),
    "every block": ("CIDR", ["0.0.0.0/0", "::/0"], frozenset((WORLD, ELSEWHERE))),
    "single addresses": ("CIDR", [f"{HERE}/32", f"{THERE}/32", f"{POD}/32", f"{TWIN}/128"], frozenset()),
    "a group": ("CIDRSet", [{"cidrGroupRef": "all"}], frozenset((WORLD, ELSEWHERE))),
}
EGRESS: dict[str, tuple[str, list[Any], frozenset[str]]] = {
    "a name": ("FQDNs", [{"matchName": "all.example.com"}], frozenset((WORLD, ELSEWHERE))),
}


def side(direction: Direction, field: str) -> str:
    return ("from" if direction == "ingress" else "to") + field


@pytest.mark.parametrize(
    ("direction", "name"),
    [(d, name) for d in DIRECTIONS for name in (PEERS if d == "ingress" else PEERS | EGRESS)],
)
def test_a_peer_means_its_class_and_no_other(direction: Direction, name: str) -> None:
    field, listed, meant = (PEERS | EGRESS)[name]
    mesh = mesh_of(cilium({side(direction, field): listed}, direction))
    never_asked = {HERE} if direction == "ingress" else set()
    assert allowed(mesh, direction) - never_asked == meant - never_asked


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_everyone_is_of_one_class(direction: Direction) -> None:
    """Pods, the host, other nodes and the world: together all, and no two have anyone in common."""
    classes = [
        allowed(mesh_of(cilium({side(direction, field): listed}, direction)), direction)
        for field, listed in (
            ("Endpoints", [{}]),
            ("Entities", ["host"]),
            ("Entities", ["remote-node"]),
            ("Entities", ["world"]),
        )
    ]
    assert frozenset().union(*classes) == EVERYONE
    assert all(not one & other for one, other in combinations(classes, 2))


#: Peers of ClusterNetworkPolicy and of NetworkPolicy, whose blocks do match pods and nodes (rule 17).
TIER_PEERS: dict[str, tuple[Object, frozenset[str]]] = {
    "nodes": ({"nodes": {}}, NODES),
    "nodes by label": ({"nodes": {"matchLabels": {"zone": "b"}}}, frozenset((THERE,))),
    "pods": ({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"zone": "b"}}}}, PODS),
    "namespaces": ({"namespaces": {}}, PODS),
    "networks": ({"networks": ["10.64.0.0/24", "192.0.2.0/24"]}, frozenset((HERE, THERE, POD))),
    "names": ({"domainNames": ["all.example.com"]}, frozenset((WORLD, ELSEWHERE))),
}


@pytest.mark.parametrize("name", TIER_PEERS)
def test_so_does_a_peer_of_a_tier(name: str) -> None:
    peer, meant = TIER_PEERS[name]
    closed = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    }
    policy = {
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "one"},
        "spec": {
            "tier": "Admin",
            "priority": 1,
            "subject": {"namespaces": {}},
            "egress": [{"action": "Accept", "to": [peer]}],
        },
    }
    assert allowed(mesh_of(closed, policy), "egress") == meant


@pytest.mark.parametrize(
    ("peer", "meant"),
    [
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, frozenset((HERE, THERE, WORLD, POD))),
        ({"podSelector": {"matchLabels": {"zone": "b"}}}, PODS),
        ({"namespaceSelector": {}}, PODS),
    ],
    ids=["a block", "pods", "namespaces"],
)
def test_so_does_a_peer_of_a_network_policy(peer: Object, meant: frozenset[str]) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "one", "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [peer]}]},
    }
    assert allowed(mesh_of(policy), "egress") == meant


def test_an_address_that_changes_hands_changes_its_class_whole() -> None:
    """From the world to a pod, to a node and back, whatever blocks name it."""
    rules = {
        "world": {"toEntities": ["world"]},
        "pod": {"toEndpoints": [{"matchLabels": {"zone": "b"}}]},
        "node": {"toNodes": [{"matchLabels": {"zone": "b"}}]},
        "block": {"toCIDR": [f"{WORLD}/32"]},
    }
    meshes = {name: mesh_of(cilium(rule, "egress")) for name, rule in rules.items()}
    pod, node = read(thing("Pod", "new", WORLD)), read(thing("Node", "new", WORLD))
    for change, meant in (
        ({}, {"world", "block"}),
        ({pod.ref: pod}, {"pod"}),
        ({pod.ref: None, node.ref: node}, {"node"}),
        ({pod.ref: pod}, {"pod"}),  # an address that a Node names still may be a pod's by now
        ({pod.ref: None}, {"node"}),
        ({node.ref: None}, {"world", "block"}),
    ):
        for mesh in meshes.values():
            mesh.apply(change)  # type: ignore[arg-type]
        assert {name for name, mesh in meshes.items() if WORLD in allowed(mesh, "egress")} == meant
