"""Who a Cilium rule is about: endpoint selectors, CIDRs and entities.

A peer selector of a namespaced policy that names no namespace is confined to the policy's own, as
Cilium confines it. Labels of sources other than Kubernetes match nothing here and are refused.
"""

from __future__ import annotations

from typing import Literal, cast

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.selection import in_namespace, pod_key, requirements, selector
from mesh.dialects.syntax import exceptions, network
from mesh.model import (
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    CidrPeer,
    EntityPeer,
    Peer,
    WorkloadPeer,
)

INGRESS_PEERS = Fields(
    ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities"),
    refused=("fromGroups", "fromNodes", "fromRequires"),
)
EGRESS_PEERS = Fields(
    ("toEndpoints", "toCIDR", "toCIDRSet", "toEntities"),
    refused=("toGroups", "toNodes", "toRequires", "toServices", "toFQDNs"),
)
CIDR_RULE = Fields(("cidr", "except"), refused=("cidrGroupRef", "cidrGroupSelector"))

ENTITIES = ("all", "world", "cluster", "host")
REFUSED_ENTITIES = (
    "world-ipv4",
    "world-ipv6",
    "cluster-mesh",
    "init",
    "ingress",
    "unmanaged",
    "remote-node",
    "health",
    "none",
    "kube-apiserver",
)

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
    endpoints, cidrs, cidr_rules, entities = (rule.at(name) for name in kind.read)
    members = [m for name in (*kind.read, *kind.refused) if (m := rule.at(name)).present and m.value != []]
    for member in members[1:]:
        member.refuse(f"cannot stand beside {members[0].path}: write two rules")
    peers: list[Peer] = [_endpoint(item) for item in endpoints.items()]
    peers += [_cidr(item) for item in cidrs.items()]
    peers += [_cidr_rule(item) for item in cidr_rules.items()]
    peers += [_entity(item) for item in entities.items()]
    # An empty list is not an absent one: it names nobody (threat N46).
    return tuple(peers) if any(rule.at(name).present for name in kind.read) else None


def _endpoint(reader: Reader) -> Peer:
    entity = _reserved(reader)
    if entity:
        return entity
    wanted = requirements(reader, cilium_key)
    located = any(r.key == NAMESPACE_KEY or r.key.startswith(NAMESPACE_LABEL_PREFIX) for r in wanted)
    if reader.ref.namespace and not located:
        wanted.append(in_namespace(reader.ref.namespace))
    return WorkloadPeer(selector(wanted))


def _reserved(reader: Reader) -> EntityPeer | None:
    """`matchLabels: {"reserved:host": ""}` and nothing else is the entity of that name."""
    match reader.value:
        case {"matchLabels": {**labels}, **rest} if not rest and len(labels) == 1:
            key, value = next(iter(labels.items()))
            source, name = split_source(key) if isinstance(key, str) else ("", "")
            if source == "reserved" and name in ("host", "world") and value == "":
                return EntityPeer(cast(Literal["host", "world"], name))
    return None


def _cidr(reader: Reader) -> Peer:
    """Rule 17: Cilium's CIDRs never match pods."""
    return CidrPeer(str(network(reader, bare=True)), (), reach="world")


def _cidr_rule(reader: Reader) -> Peer:
    reader.fields(CIDR_RULE)
    cidr = reader.at("cidr")
    if not cidr.present and reader.sound:
        cidr.require()
    block = network(cidr) if cidr.present else None
    return CidrPeer(str(block), exceptions(reader.at("except"), block), reach="world")


def _entity(reader: Reader) -> Peer:
    name = reader.choice(ENTITIES, unsupported=REFUSED_ENTITIES)
    return EntityPeer(cast(Literal["all", "world", "cluster", "host"], name))
