"""Whom a policy could mean, and who of them it does: the peers that occur, as the kernel knows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from mesh.identity import PORTS_KEY
from mesh.model import (
    NAMESPACE_KEY,
    RESOLVER,
    SERVICE_ACCOUNT_KEY,
    CidrPeer,
    EntityPeer,
    Identity,
    MeshConfig,
    Peer,
    Selector,
    Term,
    WorkloadPeer,
)
from mesh.node import HOST_ID, REMOTE_NODE_ID, WORLD_ID
from mesh.policies.authorization import identity_satisfies
from mesh.policies.cidr import CidrIndex
from mesh.policies.lines import Line

#: Security id, and id of the CIDR set that covers the address.
PeerKey = tuple[int, int]


class Peers:
    """Everyone a policy could mean: the peer keys that occur, and how to find them."""

    def __init__(
        self,
        keys: Collection[PeerKey],
        identities: Mapping[int, Identity],
        select: Callable[[Selector], Collection[int]],
        cidrs: CidrIndex,
    ) -> None:
        self.keys = keys
        self.identities = identities
        self.select = select
        self._by_id: defaultdict[int, list[PeerKey]] = defaultdict(list)
        self._by_block: defaultdict[CidrPeer, list[PeerKey]] = defaultdict(list)
        for key in keys:
            self._by_id[key[0]].append(key)
            for peer in cidrs.members(key[1]) if key[1] else ():
                self._by_block[peer].append(key)

    def of(self, ids: Iterable[int]) -> list[PeerKey]:
        return [key for number in ids for key in self._by_id.get(number, ())]

    def ports_of(self, key: PeerKey) -> str:
        """A peer's value of PORTS_KEY."""
        identity = self.identities.get(key[0])
        return identity.mapping.get(PORTS_KEY, "") if identity else ""

    def matching(self, peer: Peer) -> Iterable[PeerKey]:
        """The keys of those whom a resolved peer names."""
        match peer:
            case WorkloadPeer(selector):
                return self.of(self.select(selector))
            case CidrPeer():
                return self._by_block.get(peer, ())
            case EntityPeer("all"):
                return self.keys
            case EntityPeer("cluster"):
                return [key for key in self.keys if key[0] != WORLD_ID]
            case EntityPeer("host"):
                return self.of((HOST_ID,))
            case EntityPeer("remote-node"):
                return self.of((REMOTE_NODE_ID,))
            case EntityPeer("world"):
                return self.of((WORLD_ID,))
        raise AssertionError(f"{peer!r} is not resolved")

    def matching_rule(self, line: Line) -> Collection[PeerKey] | None:
        """The keys that a rule's peers name; None is everyone."""
        if line.rule.peers is None:
            found: set[PeerKey] | None = None
        else:
            found = {key for peer in line.rule.peers for key in self.matching(peer)}
        if line.rule.dns is None:
            return found
        resolver = set(self.of(self.select(RESOLVER)))
        return resolver if found is None else found & resolver

    def satisfying(self, term: Term, config: MeshConfig) -> Iterable[PeerKey]:
        """The keys of callers for whom some value of a term matches, negation aside."""
        if term.attribute == "source_ip":
            return [
                key for value in term.values if isinstance(value, CidrPeer) for key in self.matching(value)
            ]
        return self.of(
            number
            for number, identity in self.identities.items()
            if identity_satisfies(
                term, identity.mapping[NAMESPACE_KEY], identity.mapping[SERVICE_ACCOUNT_KEY], config
            )
        )
