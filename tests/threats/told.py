"""What a node's records say of an address and of a peer, looked up as the kernel looks it up, and by nothing
that made them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from mesh.node import UNRESTRICTED, WORLD_ID, NodeState, PortVerdict

#: Security id, and set of the blocks that cover the address.
Peer = tuple[int, int]


class Told:
    """The records of one node as they are now."""

    def __init__(self, state: NodeState) -> None:
        self._prefixes: dict[tuple[int, int, int], Peer] = {}
        for block in state.blocks.values():
            network = ip_network(block.cidr)
            key = network.version, network.prefixlen, int(network.network_address)
            self._prefixes[key] = block.security_id, block.cidr_set
        for workload in state.workloads.values():
            for text, cidrs in workload.addresses:
                address = ip_address(text)
                key = address.version, address.max_prefixlen, int(address)
                assert key not in self._prefixes, f"{text} is a block and a pod's"
                self._prefixes[key] = workload.security_id, cidrs
        self._lengths = sorted({key[:2] for key in self._prefixes}, reverse=True)
        self._classes = {record.id: record for record in state.classes.values()}
        self._sets = {
            record.id: (record.default, {(i, c): number for i, c, number in record.peers})
            for record in state.sets.values()
        }

    def peer(self, text: str) -> Peer:
        """The most specific prefix wins; an address that nobody has is the world's."""
        address = ip_address(text)
        number, bits = int(address), address.max_prefixlen
        for version, length in self._lengths:
            if version == address.version:
                shift = bits - length
                found = self._prefixes.get((version, length, number >> shift << shift))
                if found is not None:
                    return found
        return WORLD_ID, 0

    def verdict(self, set_number: int, text: str, protocol: str | int, port: int) -> PortVerdict:
        """Set 0 restricts nothing."""
        if not set_number:
            return UNRESTRICTED
        default, peers = self._sets[set_number]
        return self._classes[peers.get(self.peer(text), default)].at(protocol, port)
