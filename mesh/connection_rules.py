"""Which rules about whole connections bind a caller of a service port, in the order in which they are asked:
`tcp` and `tls` routes of VirtualServices, TCPRoute, TLSRoute, UDPRoute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.model import (
    MESH_GATEWAY,
    ConnectionMatch,
    ConnectionRule,
    Mirror,
    Route,
    RouteBackend,
    ServiceName,
    ServicePort,
)
from mesh.proxy import ConnectionEntry
from mesh.route_table import age

_ANY = ConnectionMatch()


def entries(
    mesh: Mesh, caller: Caller, routes: Sequence[Route], service: ServiceName, port: ServicePort
) -> tuple[ConnectionEntry, ...]:
    """Up to the first that takes every connection. What the address and the caller decide is decided: what is
    left of a match are server names."""
    found: list[ConnectionEntry] = []
    for entry in _all(mesh, caller, routes, service, port):
        found.append(entry)
        if not entry.match.server_names:
            break
    return tuple(found)


def _all(
    mesh: Mesh, caller: Caller, routes: Sequence[Route], service: ServiceName, port: ServicePort
) -> Iterator[ConnectionEntry]:
    kinds = ("udp",) if port.protocol == "UDP" else ("tcp", "tls")
    vips = mesh.vips.get(service, ())
    for route in sorted(routes, key=age):
        for rule in route.connections:
            if rule.kind not in kinds:
                continue
            # With hostnames a TLSRoute asks for them (Gateway API, TLSRouteSpec.hostnames).
            own = ConnectionMatch(server_names=route.names) if _by_name(route, rule) else _ANY
            for match in rule.matches or (own,):
                fits = match.port in (0, port.port) and caller.is_among(match.callers)
                here = match.callers.gateways is None or MESH_GATEWAY in match.callers.gateways
                if fits and here and _holds(match.blocks, vips):
                    resolved = replace(rule, backends=tuple(_at(mesh, b, port) for b in rule.backends))
                    names = ConnectionMatch(server_names=match.server_names)
                    yield ConnectionEntry(route.ref, names, resolved)


def _by_name(route: Route, rule: ConnectionRule) -> bool:
    return rule.kind == "tls" and not route.in_order and bool(route.names)


def _holds(blocks: Sequence[str], vips: Sequence[str]) -> bool:
    if not blocks:
        return True
    networks = [ip_network(block) for block in blocks]
    return any(ip_address(vip) in network for vip in vips for network in networks)


def _at(mesh: Mesh, backend: RouteBackend, dialled: ServicePort) -> RouteBackend:
    return replace(backend, port=port_of(mesh, backend, dialled.port, dialled.protocol))


def port_of(mesh: Mesh, target: RouteBackend | Mirror, dialled: int, protocol: str = "TCP") -> int:
    """The port of a service that is meant: the one that is named, the only one, or the one that was dialled
    (istio/api, Destination.port)."""
    service = mesh.services.get(target.service) if target.service and not target.port else None
    ports = [port.port for port in service.ports if port.protocol == protocol] if service else []
    return target.port or (ports[0] if len(ports) == 1 else dialled)
