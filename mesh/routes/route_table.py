"""Which routes there are, and whom they bind: callers of a service address (rules 1 and 3).

Knows routes and services by name; what stands behind a service, and what Envoy makes of a route, is for
others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from mesh.age import age
from mesh.aliases import Aliases
from mesh.caller import Caller
from mesh.entry_hosts import EntryHosts, is_entry
from mesh.index import discard
from mesh.model import MESH_GATEWAY, ObjectRef, Route, ServiceName, Sidecar
from mesh.routes.host_pattern import covers, specificity


class RouteTable:
    """Routes by the services that they bind and by those that they mention. Who names a host of
    ServiceEntries speaks of all that are for it; `hosts` knows them. Who names an alias speaks of where it
    leads."""

    def __init__(self, hosts: EntryHosts, aliases: Aliases) -> None:
        self._hosts = hosts
        self._aliases = aliases
        self.all: dict[ObjectRef, Route] = {}
        self._to: defaultdict[ServiceName, set[ObjectRef]] = defaultdict(set)
        self._patterns: set[ObjectRef] = set()
        self._mentions: defaultdict[ServiceName, set[ObjectRef]] = defaultdict(set)
        self._delegating: defaultdict[ObjectRef, set[ObjectRef]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self.all)

    # --- reading -----------------------------------------------------------------------------

    def mentioning(self, service: ServiceName) -> set[ObjectRef]:
        """The routes that name a service or an alias of it, as whom they bind or as where they lead."""
        names = map(_key, self._aliases.standing_for([service]))
        return {ref for name in names for ref in self._mentions.get(name, ())}

    def at(self, service: ServiceName, port: int) -> list[Route]:
        """The routes that this service port is bound by, whomever they are for."""
        return [
            route
            for route in map(self.all.__getitem__, self._to.get(_key(service), set()) | self._patterns)
            if MESH_GATEWAY in route.gateways and _host(route, service, port)
        ]

    def is_bound(self, service: ServiceName) -> bool:
        """Does some route bind callers of a service?"""
        return any(True for _ in self.binding_somebody(service))

    def binding_somebody(self, service: ServiceName) -> Iterator[Route]:
        """The routes that bind somebody at some port of a service."""
        for ref in self._to.get(_key(service), set()) | self._patterns:
            route = self.all[ref]
            if MESH_GATEWAY in route.gateways and (
                any(_key(parent.service) == _key(service) for parent in route.parents)
                or any(covers(host, service.host) for host in route.hosts)
            ):
                yield route

    def binding(
        self, caller: Caller, service: ServiceName, port: int, root: str, sidecar: Sidecar | None = None
    ) -> list[Route]:
        """The routes that bind a caller of a service port (GEP-1226): those of the caller's own namespace if
        there are any, else those of the service's namespace, else of the `root` namespace, as far as they
        are exported to the caller. VirtualServices of namespaces that its `sidecar` does not name are not for
        it. HTTPRoutes and their like count together; of VirtualServices the one with
        the most specific host does, then the oldest, and only where there is none of the former."""
        own = caller.namespace
        visible = [route for route in self.at(service, port) if {"*", own} & set(route.exported)]
        if sidecar is not None:
            visible = [
                route
                for route in visible
                if not route.in_order or sidecar.tells(own, route.ref.namespace, service.host, port)
            ]
        for namespace in (caller.namespace, service.namespace, root):
            found = [route for route in visible if route.ref.namespace == namespace]
            ordered = [route for route in found if route.in_order]
            if len(ordered) < len(found):
                return [route for route in found if not route.in_order]
            if ordered:
                return [
                    min(ordered, key=lambda route: (specificity(_host(route, service, port)), age(route)))
                ]
        return []

    def delegating_to(self, ref: ObjectRef) -> Iterable[ObjectRef]:
        """The routes that hand requests on to this one, or would if it were there."""
        return self._delegating.get(ref, ())

    def mentioned(self) -> Iterable[ServiceName]:
        """Every service that some route names."""
        return self._mentions.keys()

    def leading_to(self, targets: Iterable[ServiceName], services: Iterable[ServiceName]) -> set[ServiceName]:
        """Of all the services, those whose requests or connections some route sends to these, too."""
        names = map(_key, self._aliases.standing_for(targets))
        refs = {ref for name in names for ref in self._mentions.get(name, ())}
        return {name for ref in refs for name in self._binds(self.all[ref], services)}

    # --- changing ----------------------------------------------------------------------------

    def put(self, route: Route, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Take in a route. Returns the services, of all that there are, whose routes may be others now."""
        self.all[route.ref] = route
        for parent in route.parents:
            self._to[_key(parent.service)].add(route.ref)
        if route.hosts:
            self._patterns.add(route.ref)
        for service in mentioned(route):
            self._mentions[_key(service)].add(route.ref)
        for rule in route.rules:
            if rule.delegate:
                self._delegating[rule.delegate].add(route.ref)
        return self._touched(route, services)

    def remove(self, ref: ObjectRef, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Forget a route."""
        touched = self._touched(self.all[ref], services)
        route = self.all.pop(ref)
        for parent in route.parents:
            discard(self._to, _key(parent.service), ref)
        self._patterns.discard(ref)
        for service in mentioned(route):
            discard(self._mentions, _key(service), ref)
        for rule in route.rules:
            if rule.delegate:
                discard(self._delegating, rule.delegate, ref)
        return touched

    def bound(self, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Those of the services that some route binds."""
        found = self._known(self._to)
        if self._patterns:
            patterns = [host for ref in self._patterns for host in self.all[ref].hosts]
            found |= {name for name in services if any(covers(host, name.host) for host in patterns)}
        return found

    def _touched(self, route: Route, services: Iterable[ServiceName]) -> set[ServiceName]:
        return self._known(mentioned(route)) | self._binds(route, services)

    def _binds(self, route: Route, services: Iterable[ServiceName]) -> set[ServiceName]:
        """Those of the services that a route binds, itself or for others that delegate to it."""
        routes = [route, *map(self.all.__getitem__, self.delegating_to(route.ref))]
        found = self._known(parent.service for one in routes for parent in one.parents)
        if hosts := {host for one in routes for host in one.hosts}:
            found |= {name for name in services if any(covers(host, name.host) for host in hosts)}
        return found

    def _known(self, named: Iterable[ServiceName]) -> set[ServiceName]:
        """The services that are named by these, and what is named without being there."""
        return {service for name in named for service in self._hosts.of(name) or (name,)}


def _key(service: ServiceName) -> ServiceName:
    """A host of ServiceEntries is one name, whoever writes it."""
    return ServiceName("", service.name) if is_entry(service) else service


def mentioned(route: Route) -> set[ServiceName]:
    """Every service that a route names."""
    targets = [target.service for rule in route.all_rules for target in rule.targets]
    return {service for service in targets if service is not None} | {p.service for p in route.parents}


def entry_hosts(route: Route) -> Iterator[str]:
    """The hosts outside the cluster's own domain that a route names."""
    return (service.host for service in mentioned(route) if is_entry(service))


def _host(route: Route, service: ServiceName, port: int) -> str:
    """The most specific of a route's hosts that a service port is one of; empty if none is."""
    if any(_key(parent.service) == _key(service) and parent.port in (None, port) for parent in route.parents):
        return service.host
    return min((host for host in route.hosts if covers(host, service.host)), key=specificity, default="")
