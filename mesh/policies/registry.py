"""What REGISTRY_ONLY leaves a pod (rule 23): whom the services name that it sees, at the ports behind theirs.

A service names the workloads that it selects, ready or not, and the addresses of all else that stands behind
it; who sees it is `mesh.routes.steer`'s to say. Where routes lead is named too, as in Istio. Keyed as all
policy is, by identity or address and the backend's port (rule 1). Knows no verdict and no table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.change import Change
from mesh.model import (
    RESOLVER,
    ObjectRef,
    Peer,
    PortMatch,
    PortName,
    PortRange,
    Registry,
    Rule,
    ServiceName,
    ServicePort,
    WorkloadName,
    WorkloadPeer,
)
from mesh.routes import steer
from mesh.routes.gateway_ports import gateway_ports

#: A service and one of its ports.
Place = tuple[ServiceName, int]

_FIELD = "outboundTrafficPolicy.mode"


def registry_of(mesh: Mesh, name: WorkloadName) -> Registry | None:
    """What binds a pod, computed anew; None: it may connect to any address."""
    return Registries(mesh).of(name)


class Registries:
    """The registries of callers, kept current at the cost of what changes."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._named: dict[ServiceName, dict[int, tuple[Rule, ...]]] = {}
        #: What a caller sees by each service, and what came of all.
        self._seen: dict[Caller, dict[ServiceName, frozenset[Place]]] = {}
        self._made: dict[Caller, Registry | None] = {}

    def of(self, name: WorkloadName) -> Registry | None:
        """Of a pod that is there. The resolver asks whom it must, and for a Gateway no Sidecar counts."""
        mesh = self._mesh
        if not mesh.registry_only or name not in mesh.identities.of:
            return None
        found = self._of(mesh.callers.of(name))
        if found is None or mesh.identities.of[name] in mesh.identities.select(RESOLVER):
            return None
        return None if gateway_ports(mesh, name) else found

    def forget(self, change: Change, touched: Iterable[ServiceName]) -> bool:
        """What may be otherwise after a change that touched these services. True if some registry may be
        another."""
        if not (self._made or self._seen):
            return False
        if change.config or change.callers or not self._mesh.registry_only:
            self._seen.clear()
            self._made.clear()
            self._named.clear()
            return True
        touched = set(touched)
        if change.names:
            touched |= {name for name, hosts in self._mesh.service_table.leads.items() if hosts}
        others = {name for name in touched if name in self._named and self._is_other(name)}
        stale = [caller for caller in self._seen if self._look_again(caller, touched, others)]
        for caller in stale:
            self._made.pop(caller, None)
        return bool(stale)

    def _is_other(self, service: ServiceName) -> bool:
        """Does a service name others than it did?"""
        before = self._named.pop(service)
        return self._names(service) != before

    def _look_again(self, caller: Caller, touched: set[ServiceName], others: set[ServiceName]) -> bool:
        seen, stale = self._seen[caller], False
        for service in touched:
            before = seen.pop(service, frozenset())
            now = self._places(caller, service)
            if now:
                seen[service] = now
            stale |= now != before
        named = bool(others) and any(name in others for places in seen.values() for name, _ in places)
        return stale or named

    # --- asking ------------------------------------------------------------------------------

    def _of(self, caller: Caller) -> Registry | None:
        if caller in self._made:
            return self._made[caller]
        mesh = self._mesh
        sidecar = mesh.scopes.find(caller, mesh.config.root_namespace)
        origin: tuple[ObjectRef | None, str] = mesh.config_ref, f"data.mesh.{_FIELD}"
        mode = mesh.config.outbound
        if sidecar is not None and sidecar.outbound is not None:
            origin, mode = (sidecar.ref, _FIELD), sidecar.outbound
        made = None
        if mode == "REGISTRY_ONLY" and origin[0] is not None:
            made = Registry(origin[0], origin[1], str(caller), self._rules(caller))
        self._made[caller] = made
        return made

    def _rules(self, caller: Caller) -> tuple[Rule, ...]:
        """By service and port."""
        if caller not in self._seen:
            every = ((name, self._places(caller, name)) for name in self._mesh.services)
            self._seen[caller] = {name: places for name, places in every if places}
        places = set[Place]().union(*self._seen[caller].values())
        return tuple(rule for name, port in sorted(places) for rule in self._names(name).get(port, ()))

    def _places(self, caller: Caller, service: ServiceName) -> frozenset[Place]:
        """The ports of a service that a caller sees, and where routes lead who calls there."""
        mesh = self._mesh
        found = mesh.services.get(service)
        if found is None:
            return frozenset()
        seen = [p for p in found.ports if p.protocol == "TCP" and steer.sees(mesh, caller, service, p)]
        routed = seen if mesh.routes.is_bound(service) else ()
        led = {place for port in routed for place in steer.led_to(mesh, caller, service, port)}
        return frozenset(led | {(service, port.port) for port in seen})

    def _names(self, service: ServiceName) -> dict[int, tuple[Rule, ...]]:
        found = self._named.get(service)
        if found is None:
            known = self._mesh.services.get(service)
            ports = [port for port in known.ports if port.protocol == "TCP"] if known else []
            found = self._named[service] = {p.port: tuple(self._rules_of(service, p)) for p in ports}
        return found

    def _rules_of(self, service: ServiceName, port: ServicePort) -> Iterator[Rule]:
        """Those who stand behind a service port, by the port that they are called at."""
        table = self._mesh.service_table
        peers: defaultdict[PortMatch, set[Peer]] = defaultdict(set)
        if selector := table.by_labels(service):
            match: PortMatch = (
                PortName("TCP", port.target) if isinstance(port.target, str) else _at(port.target)
            )
            peers[match].add(WorkloadPeer(selector))
        for block, number in table.by_address(service, port):
            peers[_at(number)].add(block)
        for match, found in sorted(peers.items(), key=repr):
            yield Rule(_FIELD, tuple(sorted(found, key=repr)), (match,))


def _at(number: int) -> PortRange:
    return PortRange("TCP", number, number)
