"""Whose connections are traced, and where their collectors are, by the records in force."""

from __future__ import annotations

from agent.collectors import Collectors
from agent.names import Names
from agent.records import Change
from mesh.model import WorkloadName
from mesh.node import TracingRecord


class Traced:
    """Look-ups. `names` is of the same records."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._records: dict[WorkloadName, TracingRecord] = {}
        self._collectors = Collectors()
        self.addresses = self._collectors.addresses

    def follow(self, change: Change) -> None:
        """One record changed."""
        self._collectors.follow(change)
        if isinstance(change.old, TracingRecord):
            self._records.pop(change.old.pod, None)
        if isinstance(change.new, TracingRecord):
            self._records[change.new.pod] = change.new

    @property
    def records(self) -> set[TracingRecord]:
        """All of them; empty: nobody is traced."""
        return set(self._records.values())

    def of(self, packed: bytes) -> TracingRecord | None:
        """Of the pod of this node that has an address."""
        owner = self._names.workload(packed) if self._records else None
        return self._records.get(owner.name) if owner else None
