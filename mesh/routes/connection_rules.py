"""Which rules about whole connections bind a caller of a service port, in the order in which they are asked:
`tcp` and `tls` routes of VirtualServices, TCPRoute, TLSRoute, UDPRoute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TypeVar

from mesh.age import age
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

T = TypeVar("T", RouteBackend, Mirror)

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
            for match in rule.matches or (_ANY,):
                fits = match.port in (0, port.port) and caller.is_among(match.callers)
                here = match.callers.gateways is None or MESH_GATEWAY in match.callers.gateways
                if fits and here and _holds(match.blocks, vips):
                    names = ConnectionMatch(server_names=match.server_names)
                    found = resolved(mesh, caller, route, rule, port.port, port.protocol)
                    yield ConnectionEntry(route.ref, names, found)


def _holds(blocks: Sequence[str], vips: Sequence[str]) -> bool:
    if not blocks:
        return True
    networks = [ip_network(block) for block in blocks]
    return any(ip_address(vip) in network for vip in vips for network in networks)


def resolved(
    mesh: Mesh, caller: Caller, route: Route, rule: ConnectionRule, dialled: int, protocol: str = "TCP"
) -> ConnectionRule:
    """The rule with ports for all to whom it sends, and without those to whom it may not."""
    aim = (aimed(mesh, caller, route, backend, dialled, protocol) for backend in rule.backends)
    return replace(rule, backends=tuple(aim))


def aimed(mesh: Mesh, caller: Caller, route: Route, target: T, dialled: int, protocol: str = "TCP") -> T:
    """A backend or mirror as the caller means it, with its port: an alias is what it leads to, and a service
    that the route may not send to is left out."""
    service = target.service
    if service is not None:
        service = mesh.entry_hosts.seen(mesh.aliases.sent_to(route, service), caller.namespace)
        service = service if mesh.grants.service(route, service) else None
    found = replace(target, service=service)
    return replace(found, port=_port_of(mesh, found, dialled, protocol))


def _port_of(mesh: Mesh, target: RouteBackend | Mirror, dialled: int, protocol: str) -> int:
    """The port of a service that is meant: the one that is named, the only one, or the one that was dialled
    (istio/api, Destination.port)."""
    service = mesh.services.get(target.service) if target.service and not target.port else None
    ports = [port.port for port in service.ports if port.protocol == protocol] if service else []
    return target.port or (ports[0] if len(ports) == 1 else dialled)
