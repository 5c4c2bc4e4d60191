"""Routes that are never taken, that lead nowhere, or that are for nobody."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.analysis.finding import Check, Trap
from mesh.analysis.view import View
from mesh.model import RouteMatch
from mesh.proxy import RouteEntry
from mesh.routes import steer
from mesh.routes.gateway_hosts import attaches


def never_taken(view: View) -> Iterator[Trap]:
    """Gateway API: of equal matches the older route's, then the first by name, then by place, wins."""
    for service in sorted(view.mesh.routes.bound(view.mesh.services)):
        for caller in sorted(view.mesh.callers.all):
            for port in steer.routed_ports(view.mesh, caller, service):
                first: dict[RouteMatch, RouteEntry] = {}
                for entry in port.entries:
                    winner = first.setdefault(entry.match, entry)
                    mine = entry.origin.kind != "VirtualService"  # those have rules of their own
                    if mine and winner is not entry and winner.rule is not entry.rule:
                        yield Trap(
                            entry.origin,
                            f"spec.{entry.rule.field}",
                            f"is never taken at {service}:{port.port}: {winner.origin} "
                            f"{winner.rule.field} has the same match and comes first",
                            "make the match differ, or take one of the rules out",
                        )


def leads_nowhere(view: View) -> Iterator[Trap]:
    """A route to a Service that has no ready backend: its share of requests is answered with 503."""
    for ref, route in sorted(view.mesh.routes.all.items()):
        listed = "route" if route.in_order else "backendRefs"
        for rule in route.rules:
            for index, backend in enumerate(rule.backends):
                meant = view.mesh.aliases.sent_to(route, backend.service) if backend.service else None
                ports = view.mesh.backends.get(meant, {}) if meant else {}
                if backend.weight and ports.get((backend.port, "TCP")) == ():
                    yield Trap(
                        ref,
                        f"spec.{rule.field}.{listed}[{index}]",
                        f"Service {meant} has no ready backend: its share is answered with 503",
                        "see whether its pods are ready and its selector matches them",
                    )


def attaches_nowhere(view: View) -> Iterator[Trap]:
    """A parent that is no Gateway of the mesh, or no listener of it: no status tells of that (Gateway API has
    it written by whoever has the Gateway)."""
    gateways, known = view.mesh.gateways.all, view.mesh.fragments()
    for ref, route in sorted(view.mesh.routes.all.items()):
        for parent in route.attached:
            gateway = gateways.get(parent.gateway)
            if gateway is None:
                if parent.gateway in known:
                    continue  # It cannot be read, and that is told.
                said = f"there is no {parent.gateway}: the route does not count there"
            elif not any(attaches(parent, gateway, listener) for listener in gateway.listeners):
                name = f" called {parent.section}" if parent.section else ""
                port = f" at port {parent.port}" if parent.port else ""
                there = ", ".join(f"{listener.name} ({listener.port})" for listener in gateway.listeners)
                said = f"{parent.gateway} has no listener{name}{port}; it has {there}"
            else:
                continue
            yield Trap(ref, "spec.parentRefs", said, "create it, or correct the name")


CHECKS = (
    Check("SL0701", "Warning", "a rule of a route is never taken", never_taken),
    Check("SL0702", "Warning", "a route leads to a Service without a ready backend", leads_nowhere),
    Check("SL0703", "Error", "a route names a Gateway, or a listener, that is not there", attaches_nowhere),
)
