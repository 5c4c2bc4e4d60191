"""N46: a list of peers that comes to nothing is left out, and what is left of the rule is for everyone."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.answers.called import party
from mesh.assemble import Mesh
from mesh.datapath import DIRECTIONS, Node
from mesh.identity import Allocations
from mesh.model import Direction, Fragment, LearnedNames, ObjectRef, WorkloadName
from mesh.policies.policy import judge
from tests.agreement.test_tables import tables, words
from tests.mesh.shop import SHOP, documents
from xds.dialects import read

Object = dict[str, Any]

NODE, REMOTE, KNOWN, UNKNOWN = "10.64.0.1", "192.0.2.77", "198.51.100.7", "203.0.113.9"
SUBJECT = WorkloadName("shop", "reviews-v1")
APP = {"matchLabels": {"app": "reviews", "version": "v1"}}
#: What there is besides pods; nobody has label `app: nobody`, and namespace `empty` has no pods.
THINGS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: empty, labels: {{team: ghosts}}}}
---
apiVersion: v1
kind: Node
metadata: {{name: there, labels: {{zone: b}}}}
status: {{addresses: [{{type: InternalIP, address: {REMOTE}}}]}}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {{name: known, labels: {{zone: far}}}}
spec: {{externalCIDRs: [198.51.100.0/24]}}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {{name: hollow, labels: {{zone: nowhere}}}}
spec: {{externalCIDRs: []}}
---
apiVersion: v1
kind: Service
metadata: {{name: far, namespace: shop, labels: {{tier: back}}}}
spec: {{ports: [{{port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: far, namespace: shop, labels: {{kubernetes.io/service-name: far}}}}
addressType: IPv4
ports: [{{port: 443}}]
endpoints: [{{addresses: [{KNOWN}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: hollow, namespace: shop, labels: {{tier: hollow}}}}
spec: {{ports: [{{port: 443}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: deserted, namespace: shop, labels: {{tier: deserted}}}}
spec: {{selector: {{app: nobody}}, ports: [{{port: 443}}]}}
"""
LEARNED = ObjectRef("LearnedNames", "", "dns")
NAMES = LearnedNames(1, (("api.example.com", (KNOWN,)),))


BASE = [read(document) for document in documents(SHOP, THINGS)]


def mesh_of(*policies: Object) -> Mesh:
    fragments = [*BASE, *map(read, policies)]
    assert all(fragment.valid for fragment in fragments), [f.problems for f in fragments if not f.valid]
    mesh = Mesh(Allocations(("10.128.0.0/16",)), hosts=(NODE,))
    mesh.apply({f.ref: f for f in fragments} | {LEARNED: Fragment(LEARNED, (NAMES,))})
    return mesh


def answers(mesh: Mesh, direction: Direction, protocol: str = "TCP") -> dict[str, str]:
    """Peer -> verdict. The reference and the tables must be of one mind, by the same rules."""
    policies, node = list(mesh.all_policies()), Node(mesh, "here")
    subject = party(mesh, mesh.workloads[SUBJECT].addresses[0])
    found = {}
    for address in (*sorted(mesh.owners), NODE, REMOTE, KNOWN, UNKNOWN, "2001:db8::1"):
        peer = party(mesh, address)
        # Rules 10 and 11 never ask a policy.
        if peer.workload == SUBJECT or (direction == "ingress" and peer.host):
            continue
        said = words(judge(policies, direction, subject, peer, protocol, 8080, mesh.config))  # type: ignore[arg-type]
        record = node.state.pods[str(SUBJECT)]
        assert tables(node, record, direction, peer, protocol, 8080) == said, (address, said)
        found[address] = said[0]
    return found


def policy(kind: str, spec: Object) -> Object:
    version = {
        "NetworkPolicy": "networking.k8s.io/v1",
        "CiliumNetworkPolicy": "cilium.io/v2",
        "CiliumClusterwideNetworkPolicy": "cilium.io/v2",
        "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
        "AdminNetworkPolicy": "policy.networking.k8s.io/v1alpha1",
        "BaselineAdminNetworkPolicy": "policy.networking.k8s.io/v1alpha1",
        "AuthorizationPolicy": "security.istio.io/v1",
    }[kind]
    namespaced = kind in ("NetworkPolicy", "CiliumNetworkPolicy", "AuthorizationPolicy")
    metadata = {"name": "default"} | ({"namespace": "shop"} if namespaced else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


NOBODY = {"matchLabels": {"app": "nobody"}}
NOWHERE = {"matchLabels": {"zone": "nowhere"}}
ELSEWHERE = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "empty"}}
GHOSTS = {"matchLabels": {"team": "ghosts"}}
HALVES = ["198.51.100.0/25", "198.51.100.128/25"]

#: Peers of a Cilium rule, without their `from` or `to`, that are nobody.
CILIUM: dict[str, tuple[str, list[Any]]] = {
    "no endpoints": ("Endpoints", []),
    "endpoints that are not": ("Endpoints", [NOBODY]),
    "endpoints of an empty namespace": ("Endpoints", [ELSEWHERE]),
    "endpoints of a namespace that is not": (
        "Endpoints",
        [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "nowhere"}}],
    ),
    "endpoints of namespaces by label": (
        "Endpoints",
        [{"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "ghosts"}}],
    ),
    "endpoints that contradict themselves": (
        "Endpoints",
        [{"matchExpressions": [{"key": "app", "operator": o} for o in ("Exists", "DoesNotExist")]}],
    ),
    "endpoints that are being made": ("Endpoints", [{"matchLabels": {"reserved:init": ""}}]),
    "no blocks": ("CIDR", []),
    "no rules of blocks": ("CIDRSet", []),
    "a block without itself": ("CIDRSet", [{"cidr": "0.0.0.0/0", "except": ["0.0.0.0/0"]}]),
    "a block without its halves": ("CIDRSet", [{"cidr": "198.51.100.0/24", "except": HALVES}]),
    "a group that is not": ("CIDRSet", [{"cidrGroupRef": "missing"}]),
    "groups that are not": ("CIDRSet", [{"cidrGroupSelector": {"matchLabels": {"zone": "missing"}}}]),
    "a group of nothing": ("CIDRSet", [{"cidrGroupRef": "hollow"}]),
    "groups of nothing": ("CIDRSet", [{"cidrGroupSelector": NOWHERE}]),
    "a group without itself": ("CIDRSet", [{"cidrGroupRef": "known", "except": ["198.51.100.0/24"]}]),
    "a group without more": ("CIDRSet", [{"cidrGroupRef": "known", "except": ["198.0.0.0/8"]}]),
    "no entities": ("Entities", []),
    "nobody by name": ("Entities", ["none"]),
    "entities that are not here": ("Entities", ["init", "health", "ingress", "unmanaged", "cluster-mesh"]),
    "an API server that is not known": ("Entities", ["kube-apiserver"]),
    "no nodes": ("Nodes", []),
    "nodes that are not": ("Nodes", [NOWHERE]),
    "nodes by labels of pods": ("Nodes", [{"matchLabels": {"app": "storefront"}}]),
}
#: The same, for rules of egress only.
CILIUM_EGRESS: dict[str, tuple[str, list[Any]]] = {
    "no services": ("Services", []),
    "a service that is not": ("Services", [{"k8sService": {"serviceName": "missing", "namespace": "shop"}}]),
    "a service of another namespace": (
        "Services",
        [{"k8sService": {"serviceName": "far", "namespace": "street"}}],
    ),
    "a service without endpoints": (
        "Services",
        [{"k8sService": {"serviceName": "hollow", "namespace": "shop"}}],
    ),
    "a service without pods": (
        "Services",
        [{"k8sService": {"serviceName": "deserted", "namespace": "shop"}}],
    ),
    "services that are not": ("Services", [{"k8sServiceSelector": {"selector": NOWHERE}}]),
    "services that are empty": (
        "Services",
        [{"k8sServiceSelector": {"selector": {"matchLabels": {"tier": "hollow"}}}}],
    ),
    "no names": ("FQDNs", []),
    "a name that nobody asked for": ("FQDNs", [{"matchName": "missing.example.com"}]),
    "names that nobody asked for": ("FQDNs", [{"matchPattern": "*.example.net"}]),
}
NETWORK_POLICY: dict[str, list[Any]] = {
    "pods that are not": [{"podSelector": NOBODY}],
    "namespaces that are not": [{"namespaceSelector": NOWHERE}],
    "an empty namespace": [{"namespaceSelector": GHOSTS}],
    "pods of no namespace": [{"podSelector": {}, "namespaceSelector": NOWHERE}],
    "a block without its halves": [{"ipBlock": {"cidr": "198.51.100.0/24", "except": HALVES}}],
}
TIERS: dict[str, Object] = {
    "namespaces that are not": {"namespaces": NOWHERE},
    "an empty namespace": {"namespaces": GHOSTS},
    "pods that are not": {"pods": {"namespaceSelector": {}, "podSelector": NOBODY}},
}
TIERS_EGRESS: dict[str, Object] = {"nodes that are not": {"nodes": NOWHERE}}
AUTHORIZATION: dict[str, Object] = {
    "namespaces": {"namespaces": ["nowhere"]},
    "accounts": {"serviceAccounts": ["shop/nobody"]},
    "principals": {"principals": ["cluster.local/ns/empty/sa/nobody"]},
    "blocks": {"ipBlocks": ["233.252.0.0/24"]},
    "what it excludes": {"namespaces": ["shop", "street"], "notNamespaces": ["*"]},
}


def side(direction: Direction, what: str = "") -> str:
    return ("from" if direction == "ingress" else "to") + what


def _closed() -> dict[str, tuple[Direction, Object]]:
    """Policies whose rules are for nobody, in a language where whoever is selected is denied by default."""
    found: dict[str, tuple[Direction, Object]] = {}
    for direction in DIRECTIONS:
        peers = CILIUM if direction == "ingress" else CILIUM | CILIUM_EGRESS
        sections = {"no rule": {direction: []}, "no rule that denies": {f"{direction}Deny": []}}
        for name, (field, listed) in peers.items():
            rule = {side(direction, field): listed}
            sections[name] = {direction: [rule]}
            sections[f"{name}, on a port"] = {
                direction: [rule | {"toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]}]
            }
            if field != "FQDNs":
                sections[f"{name}, denied"] = {f"{direction}Deny": [rule]}
        for name, section in sections.items():
            spec = {"endpointSelector": APP} | section
            found[f"Cilium {direction}: {name}"] = direction, policy("CiliumNetworkPolicy", spec)
            wide = policy("CiliumClusterwideNetworkPolicy", spec)
            found[f"Cilium of all namespaces {direction}: {name}"] = direction, wide
        types = {"podSelector": APP, "policyTypes": [direction.capitalize()]}
        found[f"NetworkPolicy {direction}: no section"] = direction, policy("NetworkPolicy", types)
        found[f"NetworkPolicy {direction}: no rule"] = (
            direction,
            policy("NetworkPolicy", types | {direction: []}),
        )
        for name, listed in NETWORK_POLICY.items():
            spec = types | {direction: [{side(direction): listed}]}
            found[f"NetworkPolicy {direction}: {name}"] = direction, policy("NetworkPolicy", spec)
    found["AuthorizationPolicy: no rules"] = "ingress", policy("AuthorizationPolicy", {"selector": APP})
    for name, source in AUTHORIZATION.items():
        spec = {"selector": APP, "action": "ALLOW", "rules": [{"from": [{"source": source}]}]}
        found[f"AuthorizationPolicy: {name}"] = "ingress", policy("AuthorizationPolicy", spec)
    return found


CLOSED = _closed()


@pytest.mark.parametrize("name", CLOSED)
def test_a_rule_for_nobody_lets_nobody_in_and_its_section_still_denies(name: str) -> None:
    direction, document = CLOSED[name]
    mesh = mesh_of(document)
    assert set(answers(mesh, direction).values()) == {"deny"}
    (other,) = {*DIRECTIONS} - {direction}
    assert set(answers(mesh, other).values()) == {"allow"}


def _tiered() -> dict[str, tuple[Direction, str, Object]]:
    """Direction, kind, peer: tiers deny nobody by default, so what a rule does shows in the next one."""
    kinds = ("ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy")
    return {
        f"{kind} {direction}: {name}": (direction, kind, peer)
        for kind in kinds
        for direction in DIRECTIONS
        for name, peer in (TIERS if direction == "ingress" else TIERS | TIERS_EGRESS).items()
    }


TIERED = _tiered()


@pytest.mark.parametrize("name", TIERED)
@pytest.mark.parametrize("denies", [False, True], ids=["accepts", "denies"])
def test_a_rule_of_a_tier_for_nobody_decides_nothing(name: str, denies: bool) -> None:
    """A rule for every pod comes after it, and does the reverse."""
    direction, kind, peer = TIERED[name]
    accept, deny = ("Accept" if kind == "ClusterNetworkPolicy" else "Allow"), "Deny"
    rules: list[Object] = [
        {"action": deny if denies else accept, side(direction): [peer]},
        {"action": accept if denies else deny, side(direction): [{"namespaces": {}}]},
    ]
    spec: Object = {"subject": {"namespaces": {}}, direction: rules}
    if kind != "BaselineAdminNetworkPolicy":
        spec["priority"] = 1
    if kind == "ClusterNetworkPolicy":
        spec["tier"] = "Admin"
    mesh = mesh_of(policy(kind, spec))
    for address, said in answers(mesh, direction).items():
        assert said == ("deny" if address in mesh.owners and not denies else "allow"), address


def _open() -> dict[str, tuple[Direction, Object]]:
    """What is absent, by itself or as that API has it, is no restriction: the other side of the coin."""
    found: dict[str, tuple[Direction, Object]] = {}
    for direction in DIRECTIONS:
        endpoints = side(direction, "Endpoints")
        for name, section in {
            "a rule without peers": {direction: [{}]},
            "peers that are null": {direction: [{endpoints: None}]},
            "nobody denied without a default": {
                f"{direction}Deny": [{endpoints: [NOBODY]}],
                "enableDefaultDeny": {direction: False},
            },
        }.items():
            spec = {"endpointSelector": APP} | section
            found[f"Cilium {direction}: {name}"] = direction, policy("CiliumNetworkPolicy", spec)
        for name, rule in {"a rule without peers": {}, "an empty list": {side(direction): []}}.items():
            spec = {"podSelector": APP, "policyTypes": [direction.capitalize()], direction: [rule]}
            found[f"NetworkPolicy {direction}: {name}"] = direction, policy("NetworkPolicy", spec)
    rules: Object = {"selector": APP, "action": "ALLOW", "rules": [{}]}
    found["AuthorizationPolicy: a rule without callers"] = "ingress", policy("AuthorizationPolicy", rules)
    return found


OPEN = _open()


@pytest.mark.parametrize("name", OPEN)
def test_what_is_absent_is_everyone(name: str) -> None:
    direction, document = OPEN[name]
    assert set(answers(mesh_of(document), direction).values()) == {"allow"}


#: What somebody is known by, the peer that names it, and whom that lets out.
REFERENCES: dict[str, tuple[ObjectRef, Object, str]] = {
    "a group": (
        ObjectRef("CiliumCIDRGroup", "", "known"),
        {"toCIDRSet": [{"cidrGroupRef": "known"}]},
        KNOWN,
    ),
    "groups": (
        ObjectRef("CiliumCIDRGroup", "", "known"),
        {"toCIDRSet": [{"cidrGroupSelector": {"matchLabels": {"zone": "far"}}}]},
        KNOWN,
    ),
    "a node": (ObjectRef("Node", "", "there"), {"toNodes": [{"matchLabels": {"zone": "b"}}]}, REMOTE),
    "a service": (
        ObjectRef("Service", "shop", "far"),
        {"toServices": [{"k8sService": {"serviceName": "far", "namespace": "shop"}}]},
        KNOWN,
    ),
    "endpoints of a service": (
        ObjectRef("EndpointSlice", "shop", "far"),
        {"toServices": [{"k8sServiceSelector": {"selector": {"matchLabels": {"tier": "back"}}}}]},
        KNOWN,
    ),
    "a name": (LEARNED, {"toFQDNs": [{"matchName": "api.example.com"}]}, KNOWN),
    "a pod": (
        ObjectRef("Pod", "shop", "storefront"),
        {"toEndpoints": [{"matchLabels": {"app": "storefront"}}]},
        "10.64.0.10",
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_what_becomes_nobody_later_lets_nobody_in_either(name: str) -> None:
    ref, rule, address = REFERENCES[name]
    mesh = mesh_of(policy("CiliumNetworkPolicy", {"endpointSelector": APP, "egress": [rule]}))
    assert answers(mesh, "egress")[address] == "allow"
    mesh.apply({ref: None})
    assert set(answers(mesh, "egress").values()) == {"deny"}
