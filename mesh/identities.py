"""Which workloads are alike to policy: their identities, numbered, and who has each.

Kept current by `mesh.assemble`. What makes an identity, and where its number comes from, is
`mesh.identity`'s to say.
"""

from __future__ import annotations

from collections import defaultdict

from mesh.identity import Allocations, identity_of
from mesh.index import discard
from mesh.model import Identity, Namespace, Selector, Workload, WorkloadName


class Identities:
    """Workloads by identity, and identities by label, so that a selector costs what it selects."""

    def __init__(self, allocations: Allocations) -> None:
        self._allocations = allocations
        self.of: dict[WorkloadName, int] = {}
        self.all: dict[int, Identity] = {}
        self.members: dict[int, set[WorkloadName]] = {}
        self._by_label: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._selected: dict[Selector, frozenset[int]] = {}

    def assign(self, workload: Workload, namespace: Namespace | None) -> bool:
        """Number the workload; True if a peer appeared or disappeared. Raises Exhausted."""
        identity = identity_of(workload, namespace, self._allocations.relevant)
        number = self._allocations.security_ids.claim(identity)
        if self.of.get(workload.name) == number:
            return False
        self.forget(workload.name)
        self.of[workload.name] = number
        if number in self.members:
            self.members[number].add(workload.name)
            return True
        self.members[number] = {workload.name}
        self.all[number] = identity
        for pair in identity.labels:
            self._by_label[pair].add(number)
        for selector, numbers in self._selected.items():
            if selector.matches(identity.mapping):
                self._selected[selector] = numbers | {number}
        return True

    def forget(self, name: WorkloadName) -> bool:
        number = self.of.pop(name, None)
        if number is None:
            return False
        self.members[number].discard(name)
        if not self.members[number]:
            del self.members[number]
            identity = self.all.pop(number)
            self._allocations.security_ids.retire(identity)
            for pair in identity.labels:
                discard(self._by_label, pair, number)
            for selector, numbers in self._selected.items():
                if number in numbers:
                    self._selected[selector] = numbers - {number}
        return True

    def select(self, selector: Selector) -> frozenset[int]:
        """The security ids of the workloads that a selector matches."""
        found = self._selected.get(selector)
        if found is None:
            pools: list[set[int]] = [
                set().union(*(self._by_label.get((r.key, value), ()) for value in r.values))
                for r in selector.requirements
                if r.operator == "In"
            ]
            candidates = min(pools, key=len) if pools else set(self.all)
            found = frozenset(n for n in candidates if selector.matches(self.all[n].mapping))
            if len(self._selected) > 65536:
                self._selected.clear()
            self._selected[selector] = found
        return found
