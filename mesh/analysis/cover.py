"""Whether two rules speak of the same peers and ports: what checks of shadows and voids rest on.

Workloads are compared as they are now, blocks of the world as blocks. A reference (a name, a
group, a node) is only ever equal to itself. In doubt two rules neither meet nor cover: a check
that is silent is better than one that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.analysis.view import View
from mesh.identity import PORTS_KEY, named_port
from mesh.model import (
    CidrPeer,
    Direction,
    EntityPeer,
    Peer,
    PortName,
    Protocol,
    Rule,
    Selector,
    WorkloadPeer,
)
from mesh.policies.cidr import contains, matches, prefix_of

_WORLD = (CidrPeer("0.0.0.0/0", (), "world"), CidrPeer("::/0", (), "world"))
_NODES: tuple[Peer, ...] = (EntityPeer("host"), EntityPeer("remote-node"))
_PORTED: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")

#: Protocol, first and last port.
Range = tuple[Protocol | None, int, int]


@dataclass(frozen=True, slots=True)
class Audience:
    """The identities of workloads, the blocks of the world, and whatever else a rule's peers are."""

    identities: frozenset[int]
    blocks: tuple[CidrPeer, ...]
    others: frozenset[Peer]

    def meets(self, other: Audience) -> bool:
        return (
            not self.identities.isdisjoint(other.identities)
            or not self.others.isdisjoint(other.others)
            or any(_meet(a, b) for a in self.blocks for b in other.blocks)
        )

    def covers(self, other: Audience) -> bool:
        """Everything of `other`, and there is something of it."""
        if not (other.identities or other.blocks or other.others):
            return False
        return (
            other.identities <= self.identities
            and other.others <= self.others
            and all(any(_covers(a, b) for a in self.blocks) for b in other.blocks)
        )


def audience_of(view: View, rule: Rule) -> Audience:
    """Whom a rule's peers mean now."""
    everyone = frozenset(view.mesh.identities.all)
    if rule.peers is None:
        return Audience(everyone, _WORLD, frozenset(_NODES))
    identities: set[int] = set()
    blocks: list[CidrPeer] = []
    others: set[Peer] = set()
    for peer in rule.peers:
        match peer:
            case WorkloadPeer(selector):
                identities |= view.mesh.identities.select(selector)
            case EntityPeer("all"):
                return Audience(everyone, _WORLD, frozenset(_NODES))
            case EntityPeer("cluster"):
                identities |= everyone
                others.update(_NODES)
            case EntityPeer("world"):
                blocks += _WORLD
            case CidrPeer():
                if peer.reach != "nodes":
                    blocks.append(peer)
                if peer.reach == "anyone":
                    identities |= _inside(view, peer)
            case _:
                others.add(peer)
    return Audience(frozenset(identities), tuple(blocks), frozenset(others))


def _inside(view: View, block: CidrPeer) -> set[int]:
    """Identities all of whose pods have an address in the block."""
    workloads, members = view.mesh.workloads, view.mesh.identities.members
    return {
        number
        for number, names in members.items()
        if all(any(matches(block, a) for a in workloads[name].addresses) for name in names)
    }


def _meet(a: CidrPeer, b: CidrPeer) -> bool:
    inner, outer = (a, b) if prefix_of(a.cidr)[2] >= prefix_of(b.cidr)[2] else (b, a)
    prefix = prefix_of(inner.cidr)
    return contains(prefix_of(outer.cidr), prefix) and not any(
        contains(prefix_of(e), prefix) for e in (*outer.exceptions, *inner.exceptions)
    )


def _covers(outer: CidrPeer, inner: CidrPeer) -> bool:
    prefix = prefix_of(inner.cidr)
    return contains(prefix_of(outer.cidr), prefix) and all(
        not contains(prefix, prefix_of(e)) and not contains(prefix_of(e), prefix)
        for e in outer.exceptions
        if not any(contains(prefix_of(own), prefix_of(e)) for own in inner.exceptions)
    )


# --- ports -----------------------------------------------------------------------------------------


def ranges_of(view: View, rule: Rule, direction: Direction, subject: Selector) -> frozenset[Range]:
    """The ports of a rule, names put in numbers as the destination's pods have them."""
    if rule.ports is None:
        return frozenset({(None, 0, 65535)})
    found: set[Range] = set()
    for match in rule.ports:
        if isinstance(match, PortName):
            for labels in destinations(view, rule, direction, subject):
                for protocol in [match.protocol] if match.protocol else _PORTED:
                    number = named_port(labels, match.name, protocol)
                    if number is not None:
                        found.add((protocol, number, number))
        elif match.protocol is None and (match.first, match.last) != (0, 65535):
            found.update((protocol, match.first, match.last) for protocol in _PORTED)
        else:
            found.add((match.protocol, match.first, match.last))
    return frozenset(found)


def destinations(view: View, rule: Rule, direction: Direction, subject: Selector) -> set[str]:
    """The named ports (as PORTS_KEY has them) of everyone that a rule leads to."""
    identities = view.mesh.identities
    numbers: Iterable[int] = (
        identities.select(subject) if direction == "ingress" else audience_of(view, rule).identities
    )
    return {identities.all[number].mapping.get(PORTS_KEY, "") for number in numbers}


def ports_meet(a: frozenset[Range], b: frozenset[Range]) -> bool:
    return any(
        (x[0] is None or y[0] is None or x[0] == y[0]) and x[1] <= y[2] and y[1] <= x[2] for x in a for y in b
    )


def ports_cover(outer: frozenset[Range], inner: frozenset[Range]) -> bool:
    """Each of the inner ranges lies in one outer range, and there is one."""
    return bool(inner) and all(
        any(x[0] in (None, y[0]) and x[1] <= y[1] and y[2] <= x[2] for x in outer) for y in inner
    )
