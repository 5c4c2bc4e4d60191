"""What is routed for one caller, kept current service by service: in a mesh of a thousand routed services a
change of one costs about one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from mesh.model import ServiceName
from mesh.proxy import RoutedPort, Target

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
        self._services: list[ServiceName] = []
        self._senders: Counter[Target] = Counter()
        self._targets: list[Target] = []
        self._routing = Routing()

    def forget(self, services: Iterable[ServiceName]) -> None:
        """What is routed of these may be otherwise now."""
        self._stale.update(services)

    def look(self, ask: Callable[[ServiceName], Ports]) -> Routing:
        """The newest; `ask` says what is routed of a service. While nothing differs it is the same object."""
        changed = [service for service in self._stale if self._replace(service, ask(service))]
        self._stale.clear()
        if changed:
            ports = tuple(chain.from_iterable(map(self._ports.__getitem__, self._services)))
            keys = frozenset().union(*(port.keys for port in ports))
            self._routing = Routing(ports, tuple(self._targets), tuple(sorted(keys)))
        return self._routing

    def _replace(self, service: ServiceName, ports: Ports) -> bool:
        before = self._ports.get(service, ())
        if ports == before:
            return False
        if not before:
            insort(self._services, service)
        if ports:
            self._ports[service] = ports
        else:
            del self._ports[service]
            del self._services[bisect_left(self._services, service)]
        for target in chain.from_iterable(port.targets for port in ports):
            self._senders[target] += 1
            if self._senders[target] == 1:
                insort(self._targets, target)
        for target in chain.from_iterable(port.targets for port in before):
            self._senders[target] -= 1
            if not self._senders[target]:
                del self._senders[target]
                del self._targets[bisect_left(self._targets, target)]
        return True
