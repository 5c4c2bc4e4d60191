"""Ports of loopback at which a pod's Envoy listens for the pod itself (istio/api, sidecar.proto, bind of an
egress listener): for the services that the Sidecar names, of HTTP by the host that is asked for.

Who dials such an address is the pod's application, which all rules bind as if it had dialled the service.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.model import (
    CLUSTER_SUFFIX,
    Binding,
    ConnectionMatch,
    ConnectionRule,
    Imports,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    ServicePort,
    Sidecar,
    WorkloadName,
)
from mesh.protocols import declared
from mesh.proxy import ConnectionEntry, GatewayPort, GatewayServer, RouteEntry, Target, VirtualHost
from mesh.routes import connection_rules, steer

Entry = TypeVar("Entry", RouteEntry, ConnectionEntry)
_Named = list[tuple[ServiceName, ServicePort]]

_ANY = RouteMatch()


def bound_ports(mesh: Mesh, pod: WorkloadName) -> tuple[GatewayPort, ...]:
    """Those of a pod, by its Sidecar."""
    caller = mesh.callers.of(pod)
    sidecar = mesh.scopes.find(caller, mesh.config.root_namespace)
    if sidecar is None:
        return ()
    found = (
        _port(mesh, caller, sidecar, imports, imports.binding)
        for imports in sidecar.egress
        if imports.binding
    )
    return tuple(sorted(found, key=lambda port: (port.port, port.bind)))


def _port(mesh: Mesh, caller: Caller, sidecar: Sidecar, imports: Imports, binding: Binding) -> GatewayPort:
    named = list(_named(mesh, caller, imports))
    number, address = imports.port, binding.address
    host = f"[{address}]" if ":" in address else address
    server = GatewayServer(
        name=f"{host}:{number}",
        origins=(sidecar.ref,),
        hosts=tuple(_hosts(mesh, caller, sidecar, binding, named)) if binding.http else (),
        connections=() if binding.http else tuple(_connections(mesh, caller, sidecar, binding, named)),
        http=binding.http,
    )
    return GatewayPort(number, address, (server,), bound_by=f"{sidecar.ref} {binding.field}")


def _named(mesh: Mesh, caller: Caller, imports: Imports) -> Iterator[tuple[ServiceName, ServicePort]]:
    """The services with that port that the caller is told of."""
    for name, service in sorted(mesh.services.items()):
        if imports.hold(caller.namespace, name.namespace, name.host):
            for port in service.ports:
                if (port.port, port.protocol) == (imports.port, "TCP"):
                    if steer.sees(mesh, caller, name, port):
                        yield name, port


def _hosts(
    mesh: Mesh, caller: Caller, sidecar: Sidecar, binding: Binding, named: _Named
) -> Iterator[VirtualHost]:
    """No two have a name in common, which Envoy would refuse."""
    served = [(name, port) for name, port in named if declared(port) != "plain"]
    called = _names(mesh, caller, [name for name, _ in served])
    for name, port in served:
        if name not in called:
            continue
        rule = RouteRule(binding.field, (_ANY,), (RouteBackend(name, port.port),), lost=503)
        routes = steer.bound(mesh, caller, name, port)
        entries = tuple(steer.entries(mesh, caller, routes, port.port, plain=False))
        found = entries or (RouteEntry(sidecar.ref, _ANY, rule),)
        first, *others = called[name]
        yield VirtualHost(first, tuple(_onward(mesh, caller, entry) for entry in found), names=tuple(others))


def _names(mesh: Mesh, caller: Caller, services: Iterable[ServiceName]) -> dict[ServiceName, list[str]]:
    """What requests may ask for that are for a service, as in Istio, the full name first. Of two with one
    name a Service comes before a ServiceEntry, as for the resolver, and the caller's own before others'."""
    ranked: list[tuple[int, bool, ServiceName, str]] = []
    for name in services:
        inside, foreign = name.host.endswith(CLUSTER_SUFFIX), name.namespace != caller.namespace
        ranked.append((0 if inside else 2, foreign, name, name.host))
        if inside:
            short = [f"{name.name}.{name.namespace}.svc", f"{name.name}.{name.namespace}"]
            ranked += [(1, foreign, name, one) for one in (*short, *(() if foreign else (name.name,)))]
        vips = (f"[{vip}]" if ":" in vip else vip for vip in mesh.vips.get(name, ()))
        ranked += [(3, foreign, name, vip) for vip in vips]
    owners: dict[str, ServiceName] = {}
    for _, _, name, text in sorted(ranked, key=lambda one: one[:3]):
        owners.setdefault(text, name)
    found: defaultdict[ServiceName, list[str]] = defaultdict(list)
    for _, _, name, text in ranked:
        if owners[text] == name and text not in found[name]:
            found[name].append(text)
    return {name: texts for name, texts in found.items() if texts}


def _connections(
    mesh: Mesh, caller: Caller, sidecar: Sidecar, binding: Binding, named: _Named
) -> Iterator[ConnectionEntry]:
    """Each is for other names of hellos; without TLS nothing tells services apart, and the first has all."""
    taken: set[str] = set()
    for name, port in named if binding.tls else named[:1]:
        itself = ConnectionRule(binding.field, "tcp", (), (RouteBackend(name, port.port),))
        routes = steer.bound(mesh, caller, name, port)
        found = connection_rules.entries(mesh, caller, routes, name, port)
        for entry in found or (ConnectionEntry(sidecar.ref, ConnectionMatch(), itself),):
            asked = entry.match.server_names or ((name.host,) if binding.tls else ("",))
            free = tuple(one for one in asked if one not in taken)
            taken.update(free)
            if free:
                names = tuple(filter(None, free))
                yield replace(_onward(mesh, caller, entry), match=replace(entry.match, server_names=names))


def _onward(mesh: Mesh, caller: Caller, entry: Entry) -> Entry:
    """Without what is to go where it was sent: it would come again and again."""
    rule = entry.rule
    kept = tuple(one for one in rule.backends if not _stays(mesh, caller, Target.of(one)))
    rule = replace(rule, backends=kept)
    if isinstance(rule, RouteRule):
        mirrors = tuple(one for one in rule.mirrors if not _stays(mesh, caller, Target.of(one)))
        rule = replace(rule, mirrors=mirrors)
    return replace(entry, rule=rule)


def _stays(mesh: Mesh, caller: Caller, target: Target | None) -> bool:
    found = steer.members(mesh, caller, target) if target else None
    return found is not None and found[1].balancer is not None and found[1].balancer.simple == "PASSTHROUGH"
