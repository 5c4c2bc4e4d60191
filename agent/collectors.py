"""Where those who take spans and logs are, by the records in force.

A collector that is a Service of the mesh is dialled at a backend: the agent is no pod, nothing translates
service addresses for it.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.records import Change
from mesh.model import ServiceName
from mesh.node import Collector, ServiceRecord

#: Where a collector can be dialled at the moment.
Addresses = Callable[[Collector], tuple[tuple[str, int], ...]]


class Collectors:
    """Follows the Services of the mesh."""

    def __init__(self) -> None:
        self._services: dict[ServiceName, ServiceRecord] = {}

    def follow(self, change: Change) -> None:
        """One record changed."""
        if isinstance(change.old, ServiceRecord):
            self._services.pop(change.old.name, None)
        if isinstance(change.new, ServiceRecord):
            self._services[change.new.name] = change.new

    def addresses(self, collector: Collector) -> tuple[tuple[str, int], ...]:
        """Where it can be dialled; () while no backend of it is ready."""
        if collector.service is None:
            return ((collector.host, collector.port),)
        service = self._services.get(collector.service)
        if service is None:
            return ()
        return next((port.backends for port in service.ports if port.port == collector.port), ())
