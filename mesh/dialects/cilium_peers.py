"""Who a Cilium rule is about: endpoint selectors, CIDRs, entities, nodes, Services and DNS names.

A peer selector of a namespaced policy that names no namespace is confined to the policy's own, as
Cilium confines it. Labels of sources other than Kubernetes match nothing here and are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.dialects.cilium_names import name_pattern
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.selection import in_namespace, pod_key, requirements, selector
from mesh.dialects.syntax import exceptions, name, network
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    ApiServerPeer,
    CidrGroupPeer,
    CidrPeer,
    EntityPeer,
    NamePeer,
    NodePeer,
    Peer,
    ServicePeer,
    WorkloadPeer,
)

INGRESS_PEERS = Fields(
    ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes"),
    refused=("fromGroups", "fromRequires"),
)
#: A deny rule cannot speak of names: who knows all addresses that a name may ever have?
EGRESS_DENY_PEERS = Fields(
    ("toEndpoints", "toCIDR", "toCIDRSet", "toEntities", "toNodes", "toServices"),
    refused=("toGroups", "toRequires"),
)
EGRESS_PEERS = Fields((*EGRESS_DENY_PEERS.read, "toFQDNs"), EGRESS_DENY_PEERS.refused)
CIDR_RULE = Fields(("cidr", "cidrGroupRef", "cidrGroupSelector", "except"))
SERVICE = Fields(("k8sService", "k8sServiceSelector"))
SERVICE_NAME = Fields(("serviceName", "namespace"))
SERVICE_SELECTOR = Fields(("selector", "namespace"))

#: Entities that are a peer each.
_ENTITIES: dict[str, Peer] = {
    "all": EntityPeer("all"),
    "world": EntityPeer("world"),
    "cluster": EntityPeer("cluster"),
    "host": EntityPeer("host"),
    "remote-node": EntityPeer("remote-node"),
    "world-ipv4": CidrPeer("0.0.0.0/0", (), "world"),
    "world-ipv6": CidrPeer("::/0", (), "world"),
    "kube-apiserver": ApiServerPeer(),
}
#: Entities of which there is none in Sluice: every pod is known before it runs, health is probed by the
#: node itself, gateways are pods, and there is one cluster.
_NOBODY = ("cluster-mesh", "init", "ingress", "unmanaged", "health", "none")

_CILIUM_LABELS = "io.cilium.k8s."
_KUBERNETES_SOURCES = ("k8s", "any")


def split_source(key: str) -> tuple[str, str]:
    """`k8s:app` is label `app` of source `k8s`; without a source it is of any."""
    if key.startswith("reserved."):
        return "reserved", key.removeprefix("reserved.")
    source, colon, rest = key.partition(":")
    return (source, rest) if colon else ("any", key)


def cilium_key(reader: Reader, key: str) -> str:
    """The identity label that a key of a Cilium selector means."""
    source, label = split_source(key)
    if source not in _KUBERNETES_SOURCES:
        reader.refuse(f"{shown(key)}: labels of source {shown(source)} are not supported here")
    elif label.startswith(NAMESPACE_LABEL_PREFIX):
        pod_key(reader, label.removeprefix(NAMESPACE_LABEL_PREFIX))
    elif label.startswith(_CILIUM_LABELS) and label != SERVICE_ACCOUNT_KEY:
        reader.refuse(f"label {shown(label)} is not supported yet")
    else:
        pod_key(reader, label)
    return label


def read_peers(rule: Reader, kind: Fields) -> tuple[Peer, ...] | None:
    """The peers of a rule: None, which is anyone, if it names none of them at all."""
    members = [m for name in (*kind.read, *kind.refused) if (m := rule.at(name)).present and m.value != []]
    for member in members[1:]:
        member.refuse(f"cannot stand beside {members[0].path}: write two rules")
    peers: list[Peer] = []
    for field in kind.read:
        read = _READERS[field.removeprefix("from").removeprefix("to")]
        for item in rule.at(field).items():
            peer = read(item)
            if peer is not None:
                peers.append(peer)
    # An empty list is not an absent one: it names nobody (threat N46).
    return tuple(peers) if any(rule.at(field).present for field in kind.read) else None


def _endpoint(reader: Reader) -> Peer | None:
    entity = _reserved(reader)
    if entity:
        return _named(reader, entity)
    wanted = requirements(reader, cilium_key)
    located = any(r.key == NAMESPACE_KEY or r.key.startswith(NAMESPACE_LABEL_PREFIX) for r in wanted)
    if reader.ref.namespace and not located:
        wanted.append(in_namespace(reader.ref.namespace))
    return WorkloadPeer(selector(wanted))


def _reserved(reader: Reader) -> str:
    """`matchLabels: {"reserved:host": ""}` and nothing else is the entity of that name."""
    match reader.value:
        case {"matchLabels": {**labels}, **rest} if not rest and len(labels) == 1:
            key, value = next(iter(labels.items()))
            source, name = split_source(key) if isinstance(key, str) else ("", "")
            if source == "reserved" and name in (*_ENTITIES, *_NOBODY) and value == "":
                return name
    return ""


def _cidr(reader: Reader) -> Peer:
    """Rule 17: Cilium's CIDRs never match pods."""
    return CidrPeer(str(network(reader, bare=True)), (), "world")


def _cidr_rule(reader: Reader) -> Peer:
    reader.fields(CIDR_RULE)
    cidr, group, chosen = (reader.at(key) for key in CIDR_RULE.read[:3])
    if sum(r.present for r in (cidr, group, chosen)) != 1 and reader.sound:
        reader.refuse("needs exactly one of cidr, cidrGroupRef and cidrGroupSelector")
    if cidr.present or not (group.present or chosen.present):
        block = network(cidr) if cidr.present else None
        return CidrPeer(str(block), exceptions(reader.at("except"), block), "world")
    # What lies outside every block of the group is no exception to it.
    without = tuple(str(n) for item in reader.at("except").items() if (n := network(item)) is not None)
    if group.present:
        return CidrGroupPeer(name(group), None, without)
    return CidrGroupPeer(None, selector(requirements(chosen, pod_key)), without)


def _entity(reader: Reader) -> Peer | None:
    return _named(reader, reader.choice((*_ENTITIES, *_NOBODY)))


def _named(reader: Reader, entity: str) -> Peer | None:
    if entity in _NOBODY and entity != "none":
        reader.note(f"{entity} matches nobody: there are no such peers in Sluice")
    return _ENTITIES.get(entity)


def _node(reader: Reader) -> Peer:
    """Threat N48: labels of nodes, never of pods."""
    return NodePeer(selector(requirements(reader, pod_key)))


def _service(reader: Reader) -> Peer:
    """Without a namespace Cilium means every one (pkg/policy/k8s/service.go)."""
    reader.fields(SERVICE)
    by_name, by_labels = reader.at("k8sService"), reader.at("k8sServiceSelector")
    if by_name.present == by_labels.present and reader.sound:
        reader.refuse("needs exactly one of k8sService and k8sServiceSelector")
    if by_name.present:
        by_name.fields(SERVICE_NAME).at("serviceName").require()
        found = name(by_name.at("serviceName"), label=True)
        return ServicePeer(_namespace(by_name), found, None)
    by_labels.fields(SERVICE_SELECTOR).at("selector").require()
    return ServicePeer(_namespace(by_labels), None, selector(requirements(by_labels.at("selector"), pod_key)))


def _namespace(reader: Reader) -> str | None:
    return name(reader.at("namespace"), label=True) or None


def _fqdn(reader: Reader) -> Peer:
    return NamePeer(name_pattern(reader))


_READERS: dict[str, Callable[[Reader], Peer | None]] = {
    "Endpoints": _endpoint,
    "CIDR": _cidr,
    "CIDRSet": _cidr_rule,
    "Entities": _entity,
    "Nodes": _node,
    "Services": _service,
    "FQDNs": _fqdn,
}
