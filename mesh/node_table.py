"""Which nodes there are, and which addresses are theirs."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.model import Node


class NodeTable:
    def __init__(self, hosts: Iterable[str]) -> None:
        """`hosts` are the addresses of the nodes themselves."""
        self.all: dict[str, Node] = {}
        self.hosts = frozenset(hosts)
        #: Addresses of nodes other than `hosts`, and those of all.
        self.remote: frozenset[str] = frozenset()
        self.addresses = self.hosts

    def put(self, node: Node) -> frozenset[str]:
        """Take in a node. Returns the addresses that are a node's now, or are none's any more."""
        self.all[node.name] = node
        return self._locate()

    def remove(self, node: Node) -> frozenset[str]:
        self.all.pop(node.name, None)
        return self._locate()

    def _locate(self) -> frozenset[str]:
        before = self.addresses
        self.remote = frozenset(a for node in self.all.values() for a in node.addresses) - self.hosts
        self.addresses = self.hosts | self.remote
        return before ^ self.addresses
