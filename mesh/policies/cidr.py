"""Address blocks that policies name: which of them cover an address, and where they begin and end.

Every distinct set of covering blocks gets an id, and the kernel's prefix table maps each address to
one (LPM on all boundaries), so that a policy can be judged by set and never by address.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mesh.model import CidrPeer
from mesh.node import HOST_ID, REMOTE_NODE_ID, WORLD_ID, stable_id

#: (IP version, network as a number, prefix length)
Prefix = tuple[int, int, int]

_BITS = {4: 32, 6: 128}

#: With more blocks changing at once it is cheaper to ask everything again.
_FEW = 64


@lru_cache(maxsize=262144)
def prefix_of(text: str) -> Prefix:
    """The prefix a CIDR or an address names. Raises ValueError."""
    if "/" in text:
        network = ipaddress.ip_network(text)
        return network.version, int(network.network_address), network.prefixlen
    address = ipaddress.ip_address(text)
    return address.version, int(address), address.max_prefixlen


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Does `outer` cover all of `inner`?"""
    if outer[0] != inner[0] or outer[2] > inner[2]:
        return False
    shift = _BITS[outer[0]] - outer[2]
    return outer[1] >> shift == inner[1] >> shift


def can_serve(address: str) -> bool:
    """May somebody else stand at an address? Not at one's own (loopback), at a link's, a group's, or at an
    IPv4 address in the form of IPv6. Raises ValueError."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return False
    return not (found.is_loopback or found.is_unspecified or found.is_multicast or found.is_link_local)


def matches(peer: CidrPeer, address: str) -> bool:
    """Is the address in the block and in none of its exceptions?"""
    prefix = prefix_of(address)
    return contains(prefix_of(peer.cidr), prefix) and not any(
        contains(prefix_of(exception), prefix) for exception in peer.exceptions
    )


def reaches(peer: CidrPeer, security_id: int) -> bool:
    """Does the block match addresses of this owner at all (rule 17)?"""
    if peer.reach == "anyone":
        return True
    if peer.reach == "nodes":
        return security_id in (HOST_ID, REMOTE_NODE_ID)
    return security_id == WORLD_ID


class CidrIndex:
    """A counted set of CidrPeers with look-up by address. `version` grows with every difference,
    `pods_version` with those that concern addresses of workloads, single ones aside."""

    def __init__(self) -> None:
        self._count: Counter[CidrPeer] = Counter()
        self._peers: dict[Prefix, set[CidrPeer]] = {}
        self._lengths: Counter[tuple[int, int]] = Counter()
        self._boundaries: Counter[str] = Counter()
        self._sets: dict[int, frozenset[CidrPeer]] = {0: frozenset()}
        #: Answers of `set_for` about boundaries, by boundary and owner.
        self._known: dict[tuple[str, int], int] = {}
        self.version = 0
        self.pods_version = 0
        self._single: set[str] = set()

    def add(self, peers: Iterable[CidrPeer]) -> None:
        fresh: list[CidrPeer] = []
        for peer in peers:
            self._count[peer] += 1
            if self._count[peer] == 1:
                prefix = prefix_of(peer.cidr)
                self._peers.setdefault(prefix, set()).add(peer)
                self._lengths[prefix[0], prefix[2]] += 1
                self._boundaries.update((peer.cidr, *peer.exceptions))
                fresh.append(peer)
        self._changed(fresh)

    def remove(self, peers: Iterable[CidrPeer]) -> None:
        gone: list[CidrPeer] = []
        for peer in peers:
            self._count[peer] -= 1
            if not self._count[peer]:
                del self._count[peer]
                prefix = prefix_of(peer.cidr)
                self._peers[prefix].discard(peer)
                if not self._peers[prefix]:
                    del self._peers[prefix]
                self._lengths[prefix[0], prefix[2]] -= 1
                for text in (peer.cidr, *peer.exceptions):
                    self._boundaries[text] -= 1
                    if not self._boundaries[text]:
                        del self._boundaries[text]
                gone.append(peer)
        self._changed(gone)

    def _changed(self, peers: Sequence[CidrPeer]) -> None:
        """What was answered about addresses inside these blocks may no longer be so."""
        self.version += len(peers)
        for peer in peers:
            if peer.reach == "anyone":
                version, _, bits = prefix_of(peer.cidr)
                if bits == _BITS[version]:
                    self._single.add(peer.cidr.partition("/")[0])
                else:
                    self.pods_version += 1
        if len(peers) > _FEW:
            self._known.clear()
        for peer in peers if self._known else ():
            outer = prefix_of(peer.cidr)
            for key in [key for key in self._known if contains(outer, prefix_of(key[0]))]:
                del self._known[key]

    def take_single(self) -> set[str]:
        """The single addresses, be they workloads' or not, that differ since the last time."""
        found, self._single = self._single, set()
        return found

    def set_for(self, text: str, security_id: int) -> int:
        """Id of the set of peers that match an address, or all of a boundary's own addresses, if
        it belongs to `security_id` (rule 17)."""
        if not self._count:
            return 0
        if text not in self._boundaries:
            return self._set_for(text, security_id)
        known = self._known.get((text, security_id))
        if known is None:
            known = self._known[text, security_id] = self._set_for(text, security_id)
        return known

    def _set_for(self, text: str, security_id: int) -> int:
        prefix = prefix_of(text)
        bits = _BITS[prefix[0]]
        found: list[CidrPeer] = []
        for (version, length), count in self._lengths.items():
            if count and version == prefix[0] and length <= prefix[2]:
                network = prefix[1] >> (bits - length) << (bits - length)
                for peer in self._peers.get((version, network, length), ()):
                    if reaches(peer, security_id) and matches(peer, text):
                        found.append(peer)
        if not found:
            return 0
        members = frozenset(found)
        number = stable_id(*sorted(repr(peer) for peer in members))
        self._sets[number] = members
        return number

    def members(self, number: int) -> frozenset[CidrPeer]:
        """The peers of a set that `set_for` numbered."""
        return self._sets[number]

    def boundaries(self) -> Iterable[str]:
        """Every block and exception, each once, as canonical text."""
        return self._boundaries.keys()
