"""Who a rule of a tier is about: the peers that the kinds of policy.networking.k8s.io share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.selection import namespace_key, pod_key, requirements, selector
from mesh.dialects.syntax import network
from mesh.dns_name import canonical
from mesh.model import CidrPeer, NamePattern, NamePeer, NodePeer, Peer, WorkloadPeer

PODS = Fields(("namespaceSelector", "podSelector"))

MAX_MEMBERS = 25

_LABEL = r"[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(\*\.)?({_LABEL}\.)+{_LABEL}\.?")


@dataclass(frozen=True, slots=True)
class Peers:
    """The kinds of peer that may stand in a rule, and how many."""

    kinds: tuple[str, ...]
    at_most: int


def read_peers(reader: Reader, allowed: Peers, action: str | None) -> tuple[Peer, ...]:
    """They mean nothing unless `reader` is still sound afterwards."""
    reader.require()
    if reader.value == []:
        reader.refuse("needs at least one peer")
    found: list[Peer] = []
    for item in reader.items(at_most=allowed.at_most):
        found += _peer(item, allowed, action)
    return tuple(dict.fromkeys(found))


def _peer(item: Reader, allowed: Peers, action: str | None) -> list[Peer]:
    item.fields(Fields(allowed.kinds))
    named = [kind for kind in allowed.kinds if item.at(kind).present]
    if len(named) != 1:
        if item.sound:
            item.refuse(f"needs exactly one of {', '.join(allowed.kinds)}")
        return []
    kind, reader = named[0], item.at(named[0])
    if kind == "namespaces":
        return [WorkloadPeer(selector(requirements(reader, namespace_key)))]
    if kind == "pods":
        reader.fields(PODS)
        namespaces, pods = reader.at("namespaceSelector"), reader.at("podSelector")
        wanted = [*requirements(namespaces, namespace_key), *requirements(pods, pod_key)]
        return [WorkloadPeer(selector(wanted))]
    if kind == "nodes":
        return [NodePeer(selector(requirements(reader, pod_key)))]
    if reader.value == []:
        reader.refuse("needs at least one entry")
    entries = reader.items(at_most=MAX_MEMBERS)
    if kind == "networks":
        # "Cluster-internal traffic will be checked against the rule as well."
        return [CidrPeer(str(network(entry)), (), "anyone") for entry in entries]
    if action != "accept":
        reader.refuse("domain names are for accepting rules only")
    return [NamePeer(_domain(entry)) for entry in entries]


def _domain(reader: Reader) -> NamePattern:
    """A leading `*.` is one or more labels here, which Cilium's patterns write `**.`."""
    text = reader.text()
    if reader.sound and not _DOMAIN.fullmatch(text):
        reader.refuse(f"{shown(text)} is not a domain name such as example.com or *.example.com")
    name = canonical(text)
    return NamePattern(f"*{name}" if name.startswith("*.") else name)
