"""Everyone there is, grouped by what policies can tell apart.

Ten thousand pods are a few hundred groups: pods of one identity whose addresses the same blocks
cover, and the world cut along the blocks that policies name. With several meshes (before and after
a change) a group is alike in each of them. Names are for people; they are unique among the groups.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mesh.answers.reach import End, Outside
from mesh.assemble import Mesh
from mesh.label_filter import LabelFilter
from mesh.model import (
    Authorization,
    CidrPeer,
    EnvoyFilter,
    Policy,
    RateLimit,
    RequestAuthentication,
    TierPolicy,
    Workload,
    WorkloadName,
)
from mesh.node import REMOTE_NODE_ID, WORLD_ID
from mesh.policies.references import AnyPolicy
from mesh.policies.registry import Registries

#: Labels that name what a pod is, the most telling first.
_NAMING = ("app.kubernetes.io/name", "app", "k8s-app")

#: One block of each family is the whole world; an address of each that no one owns.
_WORLD = (("0.0.0.0/0", "192.0.2.1"), ("::/0", "2001:db8::1"))

_NOWHERE = Outside(())

#: Blocks that are written out in the name of a group.
_SHOWN_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Group:
    """Workloads, or (without members) what is outside: a node, or addresses of the world."""

    kind: Literal["workloads", "node", "world"]
    name: str
    members: tuple[WorkloadName, ...] = ()
    blocks: tuple[str, ...] = ()
    outside: Outside = _NOWHERE

    @property
    def namespace(self) -> str:
        return self.members[0].namespace if self.members else ""

    @property
    def end(self) -> End:
        """Who stands for the group."""
        return self.members[0] if self.members else self.outside

    def caller_of(self, callee: Group) -> End:
        """Who stands for the group as a caller: another pod than the callee, if there is one."""
        return self.members[-1] if self.members and self.members == callee.members else self.end

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "pods": [str(member) for member in self.members],
            "blocks": list(self.blocks),
        }

    @staticmethod
    def from_plain(value: dict[str, Any]) -> Group:
        members = tuple(WorkloadName(*name.split("/", 1)) for name in value["pods"])
        return Group(value["kind"], value["name"], members, tuple(value["blocks"]))


def workload_groups(*meshes: Mesh) -> tuple[Group, ...]:
    """The workloads that every mesh has, with an address and an identity in each, by name."""
    common = set.intersection(*(set(mesh.identities.of) for mesh in meshes))
    alike: defaultdict[object, list[WorkloadName]] = defaultdict(list)
    seen = [(mesh, Registries(mesh)) for mesh in meshes]
    for name in sorted(common):
        if all(mesh.workloads[name].addresses for mesh in meshes):
            alike[tuple(_kind(*known, name) for known in seen)].append(name)
    mesh = meshes[-1]
    names = _names([[mesh.workloads[name] for name in members] for members in alike.values()])
    found = [Group("workloads", name, tuple(m)) for name, m in zip(names, alike.values(), strict=True)]
    return tuple(sorted(found, key=lambda group: (group.namespace, group.name)))


def outside_groups(*meshes: Mesh) -> tuple[Group, ...]:
    """The node, the other nodes, then the blocks of the world that policies name, then the rest of it."""
    hosts = tuple(min(same) for same in _families(meshes[-1].nodes.hosts) if same)
    node = [Group("node", "node", outside=Outside(hosts))] if hosts else []
    return (*node, *_other_nodes(meshes), *_world(meshes))


def _kind(mesh: Mesh, registries: Registries, name: WorkloadName) -> tuple[object, ...]:
    """Equal for workloads that no policy can tell apart: identity, the blocks over each address, whom it may
    reach at all, where it takes mutual TLS, what its Sidecar takes, and what Services call the ports."""
    number = mesh.identities.of[name]
    covered = [(":" in a, mesh.cidrs.set_for(a, number)) for a in mesh.workloads[name].addresses]
    registry = registries.of(name)
    own = (mesh.peer_authentications.of(name), mesh.sidecar_ingress(name))
    return (number, *covered, registry and registry.caller, *own, *mesh.declared(name).items())


# --- outside ---------------------------------------------------------------------------------------


def _world(meshes: Sequence[Mesh]) -> list[Group]:
    """Blocks that stand in the same rules are one group."""
    taken = {address for mesh in meshes for address in (*mesh.owners, *mesh.nodes.addresses)}
    blocks = {block for mesh in meshes for block in mesh.cidrs.boundaries()}
    blocks |= {block for block, _ in _WORLD}
    found = []
    for key, members in _alike(meshes, _representatives(blocks, taken), WORLD_ID).items():
        shown = [block for block, _ in members]
        name = _listed(shown) if any(key) else "world"
        found.append(Group("world", name, blocks=tuple(shown), outside=_outside(members)))
    return sorted(found, key=lambda group: group.name == "world")


def _other_nodes(meshes: Sequence[Mesh]) -> list[Group]:
    """Nodes of every mesh that stand in the same rules are one group."""
    common = set.intersection(*(set(mesh.nodes.remote) for mesh in meshes))
    names = {a: name for name, node in meshes[-1].nodes.all.items() for a in node.addresses}
    pairs = sorted((names.get(address, address), address) for address in common)
    alike = _alike(meshes, pairs, REMOTE_NODE_ID)
    found = []
    for members in alike.values():
        same = list(dict.fromkeys(name for name, _ in members))
        name = "other nodes" if len(alike) == 1 else f"nodes {_listed(same)}"
        found.append(
            Group("node", name, blocks=tuple(sorted(a for _, a in members)), outside=_outside(members))
        )
    return found


#: For each mesh the rules that an address stands in.
_Rules = tuple[frozenset[str], ...]


def _alike(
    meshes: Sequence[Mesh], named: Iterable[tuple[str, str]], security_id: int
) -> dict[_Rules, list[tuple[str, str]]]:
    """Pairs of a name and an address, by the rules whose blocks match the address of such an owner."""
    rules = [_rules_by_block(mesh) for mesh in meshes]
    found: defaultdict[_Rules, list[tuple[str, str]]] = defaultdict(list)
    for name, address in named:
        key = []
        for mesh, known in zip(meshes, rules, strict=True):
            peers = mesh.cidrs.members(mesh.cidrs.set_for(address, security_id))
            key.append(frozenset(rule for peer in peers for rule in known[peer]))
        found[tuple(key)].append((name, address))
    return found


def _outside(members: Iterable[tuple[str, str]]) -> Outside:
    return Outside(tuple(same[0] for same in _families(address for _, address in members) if same))


def _rules_by_block(mesh: Mesh) -> defaultdict[CidrPeer, set[str]]:
    found: defaultdict[CidrPeer, set[str]] = defaultdict(set)
    for policy in mesh.all_policies():
        for place, peer in _blocks_of(policy):
            found[peer].add(f"{policy.ref} {place}")
    return found


def _blocks_of(policy: AnyPolicy) -> Iterator[tuple[str, CidrPeer]]:
    match policy:
        case Policy():
            sets = [rules for rules in (policy.ingress, policy.egress) if rules is not None]
            rules = [rule for found in sets for rule in (*found.allow, *found.deny)]
        case TierPolicy():
            rules = [ranked.rule for ranked in (*policy.ingress, *policy.egress)]
        case Authorization():
            for written in policy.rules:
                for index, terms in enumerate([*(written.sources or ()), written.conditions]):
                    for term in terms:
                        for value in term.values:
                            if isinstance(value, CidrPeer):
                                yield f"{written.field} {index} {term.attribute} {term.negated}", value
            return
        case RequestAuthentication() | RateLimit() | EnvoyFilter():
            return
    for rule in rules:
        for peer in rule.peers or ():
            if isinstance(peer, CidrPeer):
                yield rule.field, peer


def _representatives(blocks: Iterable[str], taken: set[str]) -> Iterator[tuple[str, str]]:
    """Each block with an address that lies in it, in no narrower one, and is nobody's; a block
    without such an address holds nothing of its own."""
    by_version: defaultdict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for text in blocks:
        network = ipaddress.ip_network(text)
        by_version[network.version].append(
            (int(network.network_address), int(network.broadcast_address), text)
        )
    for version in sorted(by_version):
        # Outer blocks before inner ones; the inner ones of a block follow it without a gap.
        ordered = sorted(by_version[version], key=lambda block: (block[0], -block[1]))
        for index, (first, last, text) in enumerate(ordered):
            inner = []
            for start, end, _ in ordered[index + 1 :]:
                if start > last:
                    break
                inner.append((start, end))
            address = _free(first, last, inner, version, taken)
            if address is not None:
                yield text, address


def _free(
    first: int, last: int, inner: Sequence[tuple[int, int]], version: int, taken: set[str]
) -> str | None:
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    for block, address in _WORLD:
        number = int(ipaddress.ip_address(address))
        is_whole = (":" in block) == (version == 6) and first == 0 and last > number
        if is_whole and address not in taken and not any(start <= number <= end for start, end in inner):
            return address
    cursor = first
    for start, end in (*inner, (last + 1, last)):
        while cursor < start:
            if (text := str(make(cursor))) not in taken:
                return text
            cursor += 1
        cursor = max(cursor, end + 1)
    return None


def _families(addresses: Iterable[str]) -> tuple[list[str], list[str]]:
    """IPv4 and IPv6 apart."""
    every = list(addresses)
    return [a for a in every if ":" not in a], [a for a in every if ":" in a]


def _listed(blocks: Sequence[str]) -> str:
    more = len(blocks) - _SHOWN_BLOCKS
    return ", ".join(blocks[:_SHOWN_BLOCKS]) + (f" +{more}" if more > 0 else "")


# --- names -----------------------------------------------------------------------------------------


def _names(groups: Sequence[Sequence[Workload]]) -> list[str]:
    """What the pods of a group have in common; where two groups have the same, what differs."""
    names = [f"{members[0].name.namespace}/{_common(members)}" for members in groups]
    for attempt in (_distinguished, _by_first_member):
        count = Counter(names)
        same = {name: [i for i, other in enumerate(names) if other == name] for name in count}
        for name, indexes in same.items():
            if len(indexes) > 1:
                for index, better in zip(indexes, attempt([groups[i] for i in indexes]), strict=True):
                    names[index] = f"{name}{better}"
    return names


def _common(members: Sequence[Workload]) -> str:
    stems = {_stem(member) for member in members}
    if len(stems) == 1:
        return stems.pop()
    labels = [dict(member.labels) for member in members]
    for key in _NAMING:
        values = {found.get(key) for found in labels}
        if len(values) == 1 and (value := values.pop()):
            return value
    return f"{_stem(members[0])}+{len(members) - 1}"


def _stem(workload: Workload) -> str:
    """The name of the Deployment, StatefulSet or Pod that a pod belongs to."""
    labels, name = dict(workload.labels), workload.name.name
    template = labels.get("pod-template-hash")
    if template and f"-{template}-" in name:
        return name.rpartition(f"-{template}-")[0]
    if labels.get("statefulset.kubernetes.io/pod-name") == name:
        return name.rpartition("-")[0]
    return name


def _distinguished(groups: Sequence[Sequence[Workload]]) -> list[str]:
    """`[version=v1]`: the labels that all pods of a group have, and not all groups."""
    relevant = LabelFilter()
    labels = [[{p for p in m.labels if relevant.keeps(p[0])} for m in members] for members in groups]
    common = [set.intersection(*found) for found in labels]
    shared = set.intersection(*common)
    own = [",".join(f"{key}={value}" for key, value in sorted(found - shared)) for found in common]
    return [f"[{text}]" if text else "" for text in own]


def _by_first_member(groups: Sequence[Sequence[Workload]]) -> list[str]:
    return [f"[{members[0].name.name}]" for members in groups]
