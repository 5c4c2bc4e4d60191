"""Who goes through an Envoy, and why: routes bind callers of a service address, L7 rules bind
peers of a workload (rules 1-5). Computes the parts of which `mesh.datapath` makes a pod's `ProxyView`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mesh.assemble import Mesh
from mesh.model import Backend, RouteMatch, ServiceName
from mesh.node import PortVerdict
from mesh.proxy import Destination, L7Class, Part, RoutedPort, RouteEntry, Tracing


def routed_ports(mesh: Mesh, caller: str, service: ServiceName) -> tuple[RoutedPort, ...]:
    """The ports of a service at which routes bind callers from namespace `caller`."""
    found = mesh.services.get(service)
    vips = mesh.vips.get(service)
    if found is None or not vips:
        return ()
    ports = []
    for port in found.ports:
        if port.protocol != "TCP":
            continue
        bound = mesh.routes_for(caller, service, port.port)
        if bound:
            entries = [
                (
                    precedence(match),
                    route.created or "9",  # without a time: behind all that have one
                    route.ref,
                    index,
                    RouteEntry(route.ref, match, rule),
                )
                for route in bound
                for index, rule in enumerate(route.rules)
                for match in rule.matches or (RouteMatch(),)
            ]
            entries.sort(key=lambda entry: entry[:4])
            ports.append(RoutedPort(service, port.port, vips, tuple(entry[4] for entry in entries)))
    return tuple(ports)


def precedence(match: RouteMatch) -> tuple[int, int, int, int, int]:
    """Gateway API, HTTPRouteRule.matches: exact path, then the longest prefix, a method, most
    headers, most query parameters. Expressions, whose place is ours to choose, follow exact paths."""
    kind = {"exact": 0, "regex": 1, "prefix": 2, "start": 2}[match.path.kind]
    length = len(match.path.value.rstrip("/")) if match.path.kind == "prefix" else len(match.path.value)
    headers = [header for header in match.headers if header.name != ":method"]
    any_method = len(headers) == len(match.headers)
    return kind, -length, any_method, -len(headers), -len(match.query)


def destination(
    mesh: Mesh, service: ServiceName, port: int, verdict_of: Callable[[Backend], PortVerdict]
) -> Destination | None:
    """A service port as one caller may reach it: backends grouped by egress verdict (rule 4).

    None where there is no such port."""
    backends = mesh.backends.get(service, {}).get((port, "TCP"))
    if backends is None:
        return None
    parts: dict[int, list[Backend]] = {0: []}
    for backend in backends:
        verdict = verdict_of(backend)
        if verdict.verdict != "deny":
            parts.setdefault(verdict.listener, []).append(backend)
    if len(parts) > 1 and not parts[0]:
        del parts[0]
    return Destination(service, port, tuple(Part(n, tuple(sorted(b))) for n, b in sorted(parts.items())))


def providers(mesh: Mesh, l7: L7Class) -> set[tuple[ServiceName, int]]:
    """The services of the mesh whose consent a class asks for."""
    found: set[tuple[ServiceName, int]] = set()
    for part in (*l7.authorization, *(l7.plain or ())):
        if part.provider is not None:
            found |= _in_mesh(mesh, part.provider.service, part.provider.port)
    return found


def collectors(mesh: Mesh, tracings: Iterable[Tracing | None]) -> set[tuple[ServiceName, int]]:
    """The services of the mesh that take a pod's spans."""
    found: set[tuple[ServiceName, int]] = set()
    for tracing in tracings:
        if tracing is not None:
            found |= _in_mesh(mesh, tracing.provider.service, tracing.provider.port)
    return found


def _in_mesh(mesh: Mesh, host: str, port: int) -> set[tuple[ServiceName, int]]:
    """`namespace/name.namespace.svc.cluster.local` in full (MeshConfig, service of a provider)."""
    name, _, namespace = host.rpartition("/")[2].partition(".")
    service = ServiceName(namespace.partition(".")[0], name)
    return {(service, port)} if service in mesh.services else set()


def reasons(routed: Iterable[RoutedPort], found: Iterable[L7Class]) -> tuple[str, ...]:
    """Why a pod needs an Envoy: the routes and rules that steer its connections."""
    routes = {f"{entry.origin} {entry.rule.field}" for port in routed for entry in port.entries}
    return tuple(sorted(routes | {key for l7 in found for key in l7.keys}))
