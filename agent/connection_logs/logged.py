"""Whose connections are logged, by the records in force."""

from __future__ import annotations

from agent.names import Names
from agent.records import Change
from mesh.model import WorkloadName
from mesh.node import Collector, LoggingRecord


class Logged:
    """Look-ups. `names` is of the same records."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._records: dict[WorkloadName, LoggingRecord] = {}

    def follow(self, change: Change) -> None:
        """One record changed."""
        if isinstance(change.old, LoggingRecord):
            self._records.pop(change.old.pod, None)
        if isinstance(change.new, LoggingRecord):
            self._records[change.new.pod] = change.new

    @property
    def any(self) -> bool:
        """Whether the connections of any pod of this node are."""
        return bool(self._records)

    def of(self, packed: bytes) -> LoggingRecord | None:
        """Of the pod of this node that has an address."""
        owner = self._names.workload(packed) if self._records else None
        return self._records.get(owner.name) if owner else None

    @property
    def collectors(self) -> set[Collector]:
        """All that are sent to."""
        logs = (log for record in self._records.values() for log in (*record.egress, *record.ingress))
        return {log.collector for log in logs if log.collector}
