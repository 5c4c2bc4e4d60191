"""Whose connections are traced, and where their collectors are, by the records in force.

A collector that is a Service of the mesh is dialled at a backend: the agent is no pod, nothing translates
service addresses for it.
"""

from __future__ import annotations

from agent.names import Names
from agent.records import Change
from mesh.model import ServiceName, WorkloadName
from mesh.node import Collector, ServiceRecord, TracingRecord


class Traced:
    """Look-ups. `names` is of the same records."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._records: dict[WorkloadName, TracingRecord] = {}
        self._services: dict[ServiceName, ServiceRecord] = {}

    def follow(self, change: Change) -> None:
        """One record changed."""
        match change.old:
            case TracingRecord(pod=pod):
                self._records.pop(pod, None)
            case ServiceRecord(name=name):
                self._services.pop(name, None)
        match change.new:
            case TracingRecord() as record:
                self._records[record.pod] = record
            case ServiceRecord() as service:
                self._services[service.name] = service

    @property
    def records(self) -> set[TracingRecord]:
        """All of them; empty: nobody is traced."""
        return set(self._records.values())

    def of(self, packed: bytes) -> TracingRecord | None:
        """Of the pod of this node that has an address."""
        owner = self._names.workload(packed) if self._records else None
        return self._records.get(owner.name) if owner else None

    def addresses(self, collector: Collector) -> tuple[tuple[str, int], ...]:
        """Where a collector can be dialled; () while no backend of it is ready."""
        if collector.service is None:
            return ((collector.host, collector.port),)
        service = self._services.get(collector.service)
        if service is None:
            return ()
        return next((port.backends for port in service.ports if port.port == collector.port), ())
