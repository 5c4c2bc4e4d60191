"""The addresses that services name, as blocks that policy can be keyed by, for as long as somebody may reach
only what a service names (REGISTRY_ONLY, rule 23).

Blocks of all services, whoever sees them: what they mean to a caller is `mesh.policies.registry`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mesh.model import CidrPeer, ServiceName
from mesh.policies.cidr import CidrIndex
from mesh.service_table import ServiceTable


class NamedBlocks:
    def __init__(self, services: ServiceTable, cidrs: CidrIndex) -> None:
        """`cidrs` is told of the blocks."""
        self._services = services
        self._cidrs = cidrs
        self._of: dict[ServiceName, frozenset[CidrPeer]] = {}
        self._kept = False

    def keep(self, wanted: bool, touched: Iterable[ServiceName]) -> None:
        """Whether anybody asks, and which services may stand elsewhere now."""
        known: Mapping[ServiceName, object] = self._services.all
        if wanted != self._kept:
            touched = {*self._of, *known}
        elif not wanted:
            return
        self._kept = wanted
        for name in touched:
            old = self._of.pop(name, frozenset())
            new = frozenset(self._blocks(name)) if wanted and name in known else frozenset()
            # In this order, so that a block that both name is not taken out in between.
            self._cidrs.add(new - old)
            self._cidrs.remove(old - new)
            if new:
                self._of[name] = new

    def _blocks(self, name: ServiceName) -> Iterator[CidrPeer]:
        for port in self._services.all[name].ports:
            if port.protocol == "TCP":
                yield from (block for block, _ in self._services.by_address(name, port))
