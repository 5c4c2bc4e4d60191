"""Whose an address is: of several pods that claim one the first by name has it.

Knows pods by their names and addresses, and no service, identity or policy.
"""

from __future__ import annotations

from collections import defaultdict

from mesh.index import discard
from mesh.model import Workload, WorkloadName


class AddressOwners:
    def __init__(self) -> None:
        #: For reading.
        self.of: dict[str, WorkloadName] = {}
        self._claimants: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        self._stale: set[str] = set()

    def put(self, workload: Workload) -> None:
        for address in workload.addresses:
            self._claimants[address].add(workload.name)
        self._stale.update(workload.addresses)

    def remove(self, workload: Workload) -> None:
        for address in workload.addresses:
            discard(self._claimants, address, workload.name)
        self._stale.update(workload.addresses)

    def settle(self) -> tuple[set[WorkloadName], set[str]]:
        """Give each address to its owner. Returns the pods that claim one of which some claim came or went,
        and the addresses that are another's now."""
        concerned: set[WorkloadName] = set()
        moved: set[str] = set()
        for address in self._stale:
            before = self.of.get(address)
            if claimants := self._claimants.get(address):
                concerned |= claimants
                self.of[address] = min(claimants)
            else:
                self.of.pop(address, None)
            if self.of.get(address) != before:
                moved.add(address)
        self._stale.clear()
        return concerned, moved
