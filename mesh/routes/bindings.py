"""What is routed for whom, kept current: the answers of `mesh.routes.steer`, `mesh.routes.balance` and
`mesh.policies.registry`, each computed once.

Most callers get one answer about a service: only those whose namespace or labels some rule about it names can
get another. So answers are kept by *kind* of caller, and a mesh of a hundred namespaces costs little more
than one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.caller_labels import Telling, callers_of, labels_asked
from mesh.change import Change
from mesh.entry_hosts import is_entry
from mesh.locality import asked_of_callers
from mesh.model import DestinationRule, Protocol, Route, ServiceName
from mesh.node import EVERYONE, Balance
from mesh.policies.registry import Registries
from mesh.proxy import RoutedPort
from mesh.routes import steer
from mesh.routes.balance import BalancedPort, balanced_ports, weighted
from mesh.routes.caller_routing import CallerRouting, Routing
from mesh.routes.route_table import mentioned


@dataclass(frozen=True, slots=True)
class _Asked:
    """By what rules about a service tell callers apart."""

    namespaces: frozenset[str]
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Bound:
    routed: tuple[RoutedPort, ...]
    balanced: tuple[BalancedPort, ...]


class Bindings:
    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._asked: dict[ServiceName, _Asked] = {}
        self._bound: defaultdict[ServiceName, dict[Caller, _Bound]] = defaultdict(dict)
        self._routings: dict[Caller, CallerRouting] = {}
        self._services: set[ServiceName] | None = None
        #: Whom callers may reach at all; did the last change make another of some?
        self.registries = Registries(mesh)
        self.reregistered = False

    # --- reading -----------------------------------------------------------------------------

    def kind(self, caller: Caller, service: ServiceName) -> Caller:
        """The caller, as far as rules about a service can tell it from others."""
        asked = self._asked.get(service)
        if asked is None:
            asked = self._asked[service] = self._ask(service)
        namespace = caller.namespace if caller.namespace in asked.namespaces else ""
        if not caller.labels or not asked.labels:
            return Caller(namespace)
        return Caller(namespace, tuple(pair for pair in caller.labels if pair[0] in asked.labels))

    def routing(self, caller: Caller) -> Routing:
        known = self._routings.get(caller)
        if known is None:
            known = self._routings[caller] = CallerRouting(self._routed())
        return known.look(lambda service: self._routed_of(caller, service))

    def views(self, service: ServiceName, port: int) -> tuple[str, ...]:
        """Whose connections to a TCP port a route steers."""
        if not self._concerns(service):
            return ()
        bound = [
            caller
            for caller in self._mesh.callers.all
            if any(found.port == port for found in self._at(caller, service).routed)
        ]
        return _named(bound, len(self._mesh.callers))

    def balanced(self, service: ServiceName, port: int, protocol: Protocol) -> tuple[Balance, ...]:
        """What the kernel makes of a port for whom."""
        if not self._concerns(service) and not self._is_shared_out(service):
            return ()
        found: defaultdict[tuple[bool, tuple[tuple[str, int, int], ...]], list[Caller]] = defaultdict(list)
        for caller in self._mesh.callers.all:
            for one in self._at(caller, service).balanced:
                if (one.port.port, one.port.protocol) == (port, protocol):
                    found[one.by_client, one.plain].append(caller)
        every = len(self._mesh.callers)
        return tuple(sorted((view, *what) for what, who in found.items() for view in _named(who, every)))

    # --- changing ----------------------------------------------------------------------------

    def forget(self, change: Change) -> set[ServiceName]:
        """What may be otherwise after a change, each of which must be told once, in turn. Returns the
        services about which an answer may be another."""
        routes = self._mesh.routes
        touched = change.services | change.routed
        touched |= routes.leading_to(touched, self._mesh.services)
        if change.config:
            touched |= self._bound.keys() | self._mesh.routed() | self._shared_out()
        self.reregistered = self.registries.forget(change, touched)
        if touched:
            self._services = None
        for known in self._routings.values():
            known.forget(touched)
        for service in touched:
            self._bound.pop(service, None)
            self._asked.pop(service, None)
        if change.callers:
            # Whom a rule binds is told by name or as "everyone".
            touched |= self._mesh.routed() | self._shared_out()
            for caller in [caller for caller in self._routings if caller not in self._mesh.callers]:
                del self._routings[caller]
        return touched

    # --- asking ------------------------------------------------------------------------------

    def _routed(self) -> set[ServiceName]:
        if self._services is None:
            self._services = self._mesh.routed()
        return self._services

    def _routed_of(self, caller: Caller, service: ServiceName) -> tuple[RoutedPort, ...]:
        return self._at(caller, service).routed if self._concerns(service) else ()

    def _concerns(self, service: ServiceName) -> bool:
        mesh = self._mesh
        found = mesh.services.get(service)
        patched = found is not None and bool(mesh.envoy_filters.at(found))
        secured = service in mesh.peer_authentications.strict
        bound = mesh.routes.is_bound(service) or bool(mesh.destination_rules.at(service))
        return bound or patched or secured

    def _shared_out(self) -> set[ServiceName]:
        return set(filter(self._is_shared_out, self._mesh.backends))

    def _is_shared_out(self, service: ServiceName) -> bool:
        """May some of its backends get more of what a caller sends, whatever routes say?"""
        mesh = self._mesh
        if mesh.config.locality.distribute or any(map(weighted, mesh.backends.get(service, {}).values())):
            return True
        return service in mesh.services and bool(mesh.services[service].near)

    def _at(self, caller: Caller, service: ServiceName) -> _Bound:
        kind, known = self.kind(caller, service), self._bound[service]
        found = known.get(kind)
        if found is None:
            routed = steer.routed_ports(self._mesh, kind, service)
            found = known[kind] = _Bound(routed, balanced_ports(self._mesh, kind, service, routed))
        return found

    def _ask(self, service: ServiceName) -> _Asked:
        mesh = self._mesh
        routes = list(mesh.routes.binding_somebody(service))
        with_delegates = list(_all_of(mesh, routes))
        services = {service}
        for route in routes:
            # What is done with whole connections depends on how their targets are reached.
            targets = (t.service for rule in route.connections for t in rule.backends)
            services.update(mesh.aliases.sent_to(route, target) for target in targets if target)
        # A host of ServiceEntries is another service in other namespaces.
        named = map(mesh.aliases.meant, services.union(*map(mentioned, with_delegates)))
        hosts = {name.name for name in named if is_entry(name)}
        services.update(name for host in hosts for name in mesh.entry_hosts.of(ServiceName("", host)))
        rules = [rule for name in services for rule in mesh.destination_rules.at(name)]
        sidecars = mesh.scopes.all

        spoken: list[Route | DestinationRule] = [*routes, *rules]
        filters = mesh.envoy_filters.at(mesh.services[service]) if service in mesh.services else []
        namespaces = {found.ref.namespace for found in (*spoken, *sidecars, *filters)}
        namespaces.update(name for found in spoken for name in found.exported)
        namespaces.update(name for host in hosts for name in mesh.entry_hosts.namespaces(host))
        if sidecars:
            namespaces.add(service.namespace)  # They may name it as the caller's own.
            namespaces.update(mesh.scopes.looked_up(service.host))
        near = [mesh.services[name] for name in services if name in mesh.services]
        telling: list[Telling] = [*with_delegates, *rules, *filters, *sidecars, *near]
        namespaces.update(found.namespace for noun in telling for found in callers_of(noun))
        labels = asked_of_callers(mesh.config).union(*map(labels_asked, telling))
        return _Asked(frozenset(namespaces), labels)


def _all_of(mesh: Mesh, routes: Iterable[Route]) -> Iterator[Route]:
    """The routes, and those to whom they delegate."""
    for route in routes:
        yield route
        for rule in route.rules:
            if rule.delegate and (delegate := mesh.routes.all.get(rule.delegate)):
                yield delegate


def _named(callers: Iterable[Caller], every: int) -> tuple[str, ...]:
    names = sorted(map(str, callers))
    return (EVERYONE,) if names and len(names) == every else tuple(names)
