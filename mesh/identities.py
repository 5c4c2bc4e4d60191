"""Which workloads are alike to policy: their identities, numbered, and who has each.

What makes an identity, and where its number comes from, is `mesh.identity`'s to say. Knows no address and
no policy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from mesh.identity import Allocations, Exhausted, identity_of
from mesh.index import discard
from mesh.model import Identity, Namespace, Selector, Workload, WorkloadName


class Identities:
    """Workloads by identity, and identities by label, so that a selector costs what it selects."""

    def __init__(self, allocations: Allocations, workloads: Mapping[WorkloadName, Workload]) -> None:
        self._allocations = allocations
        self._workloads = workloads
        self.namespaces: dict[str, Namespace] = {}
        self.of: dict[WorkloadName, int] = {}
        self.all: dict[int, Identity] = {}
        self.members: dict[int, set[WorkloadName]] = {}
        self._by_label: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._selected: dict[Selector, frozenset[int]] = {}
        self._residents: defaultdict[str, set[WorkloadName]] = defaultdict(set)
        #: Workloads that may be somebody else now, and those for whom there was no number.
        self._stale: set[WorkloadName] = set()
        self._waiting: set[WorkloadName] = set()

    # --- reading -----------------------------------------------------------------------------

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

    # --- changing ----------------------------------------------------------------------------

    def put(self, workload: Workload) -> None:
        self._residents[workload.name.namespace].add(workload.name)
        self._stale.add(workload.name)

    def remove(self, workload: Workload) -> None:
        discard(self._residents, workload.name.namespace, workload.name)
        self._stale.add(workload.name)

    def put_namespace(self, namespace: Namespace) -> None:
        self.namespaces[namespace.name] = namespace
        self._stale.update(self._residents.get(namespace.name, ()))

    def remove_namespace(self, namespace: Namespace) -> None:
        self.namespaces.pop(namespace.name, None)
        self._stale.update(self._residents.get(namespace.name, ()))

    def settle(self) -> tuple[set[WorkloadName], set[WorkloadName]]:
        """Number who may be somebody else now. Returns the workloads at which it looked, and those whose
        number is another, or gone."""
        looked, self._stale = self._stale, set()
        if self._waiting and self._allocations.security_ids.has_room():
            looked |= self._waiting
        # In order, so that numbers do not depend on how sets are walked.
        return looked, {name for name in sorted(looked) if self._number(name)}

    def _number(self, name: WorkloadName) -> bool:
        """Is its number another, or gone?"""
        self._waiting.discard(name)
        workload = self._workloads.get(name)
        if workload is None:
            return self._forget(name)
        try:
            return self._assign(workload, self.namespaces.get(name.namespace))
        except Exhausted:
            self._waiting.add(name)
            return self._forget(name)

    def _assign(self, workload: Workload, namespace: Namespace | None) -> bool:
        """Raises Exhausted."""
        identity = identity_of(workload, namespace, self._allocations.relevant)
        number = self._allocations.security_ids.claim(identity)
        if self.of.get(workload.name) == number:
            return False
        self._forget(workload.name)
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

    def _forget(self, name: WorkloadName) -> bool:
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
