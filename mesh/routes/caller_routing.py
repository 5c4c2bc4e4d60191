"""What is routed for one caller, kept current service by service: in a mesh of a thousand routed services a
change of one costs about one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from mesh.hashed import HashedTuple
from mesh.model import ServiceName
from mesh.proxy import RoutedPort, Target
from mesh.sorted_bag import SortedBag

Ports = tuple[RoutedPort, ...]


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything that is routed for a caller: ports by service, all to whom they send, and the rules for
    which that is so, sorted."""

    ports: Ports = ()
    targets: tuple[Target, ...] = ()
    keys: tuple[str, ...] = ()


class CallerRouting:
    """`services`: of which rules speak."""

    def __init__(self, services: Iterable[ServiceName]) -> None:
        self._stale = set(services)
        self._ports: dict[ServiceName, Ports] = {}
        self._services: SortedBag[ServiceName] = SortedBag()
        self._targets: SortedBag[Target] = SortedBag()
        self._keys: SortedBag[str] = SortedBag()
        self._routing = Routing()

    def forget(self, services: Iterable[ServiceName]) -> None:
        """What is routed of these may be otherwise now."""
        self._stale.update(services)

    def look(self, ask: Callable[[ServiceName], Ports]) -> Routing:
        """The newest; `ask` says what is routed of a service. While nothing differs it is the same object."""
        changed = [service for service in self._stale if self._replace(service, ask(service))]
        self._stale.clear()
        if changed:
            ports = chain.from_iterable(map(self._ports.__getitem__, self._services.sorted))
            self._routing = Routing(HashedTuple(ports), tuple(self._targets.sorted), tuple(self._keys.sorted))
        return self._routing

    def _replace(self, service: ServiceName, ports: Ports) -> bool:
        before = self._ports.get(service, ())
        if ports == before:
            return False
        self._ports[service] = ports
        for port in ports:
            self._services.add([service])
            self._targets.add(port.targets)
            self._keys.add(port.keys)
        for port in before:
            self._services.remove([service])
            self._targets.remove(port.targets)
            self._keys.remove(port.keys)
        if not ports:
            del self._ports[service]
        return True
