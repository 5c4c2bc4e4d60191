"""What the Envoy of a pod that serves Gateways does: its ports, and for each host the routes in their order.

A VirtualService is for the hosts that it shares with a server; those for one host are joined, the oldest
first, as in Istio. Routes of the Gateway API take precedence by host before anything else (HTTPRouteSpec,
hostnames), so that a narrower host's rules come first and a wider one's after them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import compress

from mesh.age import age
from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.identity import namespace_labels
from mesh.model import (
    Backend,
    Callers,
    ConnectionMatch,
    Gateway,
    GatewayParent,
    Listener,
    ObjectRef,
    Route,
    RouteMatch,
    Secret,
    ServerTls,
    Transport,
    TrustBundle,
    WorkloadName,
)
from mesh.proxy import (
    AuthenticationPart,
    ConnectionEntry,
    Destination,
    GatewayPort,
    GatewayServer,
    Part,
    RouteEntry,
    VirtualHost,
)
from mesh.routes import connection_rules, delegation
from mesh.routes.gateways import names, rival
from mesh.routes.host_pattern import covers, specificity
from mesh.routes.steer import precedence, resolved

_ANY = RouteMatch()
#: Modes in which TLS is not ended here.
PASSED_ON = ("PASSTHROUGH", "AUTO_PASSTHROUGH")


def gateway_ports(
    mesh: Mesh, pod: WorkloadName, tokens: tuple[AuthenticationPart, ...] = ()
) -> tuple[GatewayPort, ...]:
    """Nothing, if the pod serves no Gateway. `tokens` are the rules about them that select the pod."""
    served = mesh.gateways.served_by(pod)
    if not served:
        return ()
    caller = mesh.callers.of(pod)
    ports: defaultdict[tuple[int, str, Transport], list[GatewayServer]] = defaultdict(list)
    names: defaultdict[tuple[int, str, Transport], set[str]] = defaultdict(set)
    for gateway in served:
        for listener in gateway.listeners:
            if not rival(gateway, listener):
                place = listener.port, listener.bind, listener.transport
                names[place].update(_server_names(listener))
                if found := _server(mesh, caller, gateway, listener):
                    ports[place].append(replace(found, authentication=tokens if found.http else ()))
    return tuple(
        GatewayPort(port, bind, _distinct(_apart(_joined(found), names[port, bind, transport])), transport)
        for (port, bind, transport), found in sorted(ports.items())
    )


def outward(mesh: Mesh, pod: WorkloadName, found: Destination) -> Destination:
    """A destination without the backends that serve a Gateway of the pod's at that port: what is sent there
    would come again and again."""
    protocol, served = found.target.protocol, mesh.gateways.served_by(pod)
    own = {gateway.ref for gateway in served}

    def leads_on(backend: Backend) -> bool:
        if not any(gateway.listens(backend.port, protocol) for gateway in served):
            return True
        there = mesh.gateways.at(backend.address, backend.port, protocol)
        return own.isdisjoint(gateway.ref for gateway in there)

    if all(leads_on(backend) for part in found.parts for backend in part.backends):
        return found
    return replace(found, parts=tuple(_kept(part, leads_on) for part in found.parts))


def _kept(part: Part, wanted: Callable[[Backend], bool]) -> Part:
    kept = [wanted(backend) for backend in part.backends]
    backends = tuple(compress(part.backends, kept))
    return replace(part, backends=backends, places=tuple(compress(part.places, kept)))


def routes_of(mesh: Mesh, gateway: Gateway, listener: Listener) -> list[Route]:
    """The routes that attach to a listener, wherever their hosts meet."""
    return [
        route
        for route in mesh.routes.all.values()
        if names(route, gateway)
        and (route.in_order or route.ref.kind in listener.kinds)
        and _at(route, gateway, listener)
        and any(_shared(mesh, route, listener))
    ]


def _server(mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener) -> GatewayServer | None:
    """None where TLS would end without a certificate, or without anybody who judges those of clients: who
    calls is not answered."""
    tls = _tls(mesh, caller, gateway, listener.tls)
    if tls is not None and tls.mode not in (*PASSED_ON, "ISTIO_MUTUAL") and not tls.certificates:
        return None
    if tls is not None and tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL") and not tls.authorities:
        return None
    routes = sorted(routes_of(mesh, gateway, listener), key=age)
    hosts: tuple[VirtualHost, ...] = ()
    connections: tuple[ConnectionEntry, ...] = ()
    if listener.speaks_http:
        hosts = tuple(_hosts(mesh, caller, gateway, listener, routes))
    else:
        connections = tuple(_connections(mesh, caller, gateway, listener, routes))
    ref = gateway.ref
    own = f"https.{listener.port}.{listener.name}.{ref.name}.{ref.namespace}"
    return GatewayServer(
        name=own if listener.protocol == "HTTPS" else f"http.{listener.port}",
        origins=(ref,),
        server_names=_server_names(listener),
        tls=tls if tls and tls.mode not in PASSED_ON else None,
        hosts=hosts,
        connections=connections,
        http=listener.speaks_http,
        https_redirect=listener.https_redirect,
    )


def _server_names(listener: Listener) -> tuple[str, ...]:
    """What a TLS hello must ask for; () if it need not ask for anything."""
    names = {served.host for served in listener.hosts}
    return () if listener.tls is None or "*" in names else tuple(sorted(names))


def _joined(servers: Sequence[GatewayServer]) -> tuple[GatewayServer, ...]:
    """Servers of plain HTTP on one port are one: what a request asks for tells them apart."""
    plain = [server for server in servers if server.http and server.tls is None]
    others = [server for server in servers if server not in plain]
    if len(plain) < 2:
        return tuple(servers)
    hosts: dict[str, VirtualHost] = {}
    for server in plain:
        for host in server.hosts:
            known = hosts.get(host.host)
            hosts[host.host] = replace(known, entries=(*known.entries, *host.entries)) if known else host
    first = plain[0]
    whole = replace(
        first,
        origins=tuple(sorted({origin for server in plain for origin in server.origins})),
        hosts=tuple(hosts[host] for host in sorted(hosts, key=specificity)),
        https_redirect=all(server.https_redirect for server in plain),
    )
    return (whole, *others)


def _apart(servers: Sequence[GatewayServer], names: set[str]) -> tuple[GatewayServer, ...]:
    """Servers of TLS leave each other's hosts alone, those of servers that cannot answer as well: what a
    client must show for one of `names` it has not shown on a connection for another (threat N16; Gateway
    API, listener isolation)."""
    found = []
    for server in servers:
        if server.tls is None or not server.http:
            found.append(server)
            continue
        own = set(server.server_names) or {"*"}
        elsewhere = names - own
        hosts = tuple(
            host
            for host in server.hosts
            if min((n for n in own | elsewhere if covers(n, host.host)), key=specificity) in own
        )
        found.append(replace(server, hosts=hosts, elsewhere=tuple(sorted(elsewhere))))
    return tuple(found)


def _distinct(servers: Sequence[GatewayServer]) -> tuple[GatewayServer, ...]:
    """No two want the same connections, of which the first gets them: Envoy refuses a listener otherwise."""
    taken: set[tuple[bool, str]] = set()

    def free(tls: bool, wanted: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(name for name in wanted or ("",) if (tls, name) not in taken)
        taken.update((tls, name) for name in found)
        return found

    def kept(server: GatewayServer) -> Iterator[ConnectionEntry]:
        for entry in server.connections:
            own = entry.match.server_names
            if found := free(bool(server.tls or own), own or server.server_names):
                yield replace(entry, match=replace(entry.match, server_names=found)) if own else entry

    result = []
    for server in servers:
        if not server.http:
            result.append(replace(server, connections=tuple(kept(server))))
        elif found := free(server.tls is not None, server.server_names):
            result.append(replace(server, server_names=found if server.server_names else ()))
    return tuple(result)


def _at(route: Route, gateway: Gateway, listener: Listener) -> bool:
    """By section and port, where a route names them."""
    if gateway.subject is not None:
        return True
    return any(attaches(parent, gateway, listener) for parent in route.attached)


def attaches(parent: GatewayParent, gateway: Gateway, listener: Listener) -> bool:
    """Does a route that names this parent mean the listener?"""
    ref = gateway.ref
    return (
        (parent.gateway.namespace, parent.gateway.name) == (ref.namespace, ref.name)
        and parent.section in ("", listener.name)
        and parent.port in (None, listener.port)
    )


def meets(mesh: Mesh, route: Route, listener: Listener, *, any_host: bool = False) -> bool:
    """Have they a host in common; with `any_host`: may routes of its namespace attach?"""
    wide = replace(route, names=()) if any_host else route
    return any(_shared(mesh, wide, listener))


def answers(mesh: Mesh, pod: WorkloadName, gateway: Gateway, listener: Listener) -> bool:
    """Does a pod that serves the Gateway answer at the listener?"""
    return _server(mesh, mesh.callers.of(pod), gateway, listener) is not None


def _shared(mesh: Mesh, route: Route, listener: Listener) -> Iterator[tuple[str, str]]:
    """(host, the route's own host that covers it): the hosts that a route and a listener have in common."""
    name = route.ref.namespace
    namespace = namespace_labels(name, mesh.namespaces.get(name))
    for served in listener.hosts:
        if not served.namespaces.matches(namespace):
            continue
        for own in route.names or ("*",):
            if covers(served.host, own):
                yield own, own
            elif covers(own, served.host):
                yield served.host, own


def _hosts(
    mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener, routes: Sequence[Route]
) -> Iterator[VirtualHost]:
    shared = {route.ref: tuple(_shared(mesh, route, listener)) for route in routes}
    every = {host for pairs in shared.values() for host, _ in pairs}
    for host in sorted(every, key=lambda host: (specificity(host), host)):
        entries: list[tuple[tuple[object, ...], RouteEntry]] = []
        for route in routes:
            # A VirtualService counts for its own hosts only; of a Gateway API route wider hosts count, too.
            own = [
                mine
                for name, mine in shared[route.ref]
                if name == host or (not route.in_order and covers(name, host))
            ]
            if own:
                narrowest = min(own, key=specificity)
                entries += _entries(mesh, caller, gateway, listener, route, narrowest)
        if any(rank for rank, _ in entries):
            entries.sort(key=lambda entry: entry[0])
        yield VirtualHost(host, tuple(entry for _, entry in entries))


def _entries(
    mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener, route: Route, host: str
) -> Iterator[tuple[tuple[object, ...], RouteEntry]]:
    for index, rule in enumerate(delegation.expanded(route, mesh.routes.all)):
        for match in rule.matches or (_ANY,):
            if match.port in (0, listener.port) and _is_for(caller, match.callers, gateway.ref):
                rank = () if route.in_order else (specificity(host), precedence(match), age(route), index)
                yield rank, RouteEntry(route.ref, match, resolved(mesh, caller, route, rule, listener.port))


def _is_for(caller: Caller, callers: Callers, gateway: ObjectRef) -> bool:
    name = f"{gateway.namespace}/{gateway.name}"
    return caller.is_among(callers) and (callers.gateways is None or name in callers.gateways)


def _connections(
    mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener, routes: Iterable[Route]
) -> Iterator[ConnectionEntry]:
    for route in routes:
        hosts = tuple(dict.fromkeys(host for host, _ in _shared(mesh, route, listener)))
        for rule in route.connections:
            if rule.protocol != listener.transport:
                continue
            own = ConnectionMatch(server_names=hosts if rule.kind == "tls" else ())
            for match in rule.matches or (own,):
                if match.port in (0, listener.port) and _is_for(caller, match.callers, gateway.ref):
                    asked = tuple(name for name in match.server_names if name != "*")
                    found = connection_rules.resolved(mesh, caller, route, rule, listener.port, rule.protocol)
                    yield ConnectionEntry(route.ref, ConnectionMatch(server_names=asked), found)


def _tls(mesh: Mesh, caller: Caller, gateway: Gateway, tls: ServerTls | None) -> ServerTls | None:
    """With Secrets in the namespace of the pod that serves where none is named, and without those that are
    not there or that the Gateway may not use."""
    if tls is None:
        return None
    if tls.mode == "ISTIO_MUTUAL":
        return replace(tls, names=mesh.config.trust_domains)

    def placed(refs: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
        full = (ref if ref.namespace else ref._replace(namespace=caller.namespace) for ref in refs)
        return tuple(ref for ref in full if ref in mesh.credentials and _may_use(mesh, gateway, ref))

    certificates, authorities = placed(tls.certificates), placed(tls.authorities)
    if not tls.authorities and certificates:
        first = certificates[0]
        beside = first._replace(name=f"{first.name}-cacert")
        authorities = _with_authorities(mesh, (first, beside))
    return replace(tls, certificates=certificates, authorities=authorities[:1])


def _with_authorities(mesh: Mesh, refs: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
    """The first of these that holds any; nothing if none does."""
    return tuple(ref for ref in refs if (found := mesh.credentials.get(ref)) and found.authorities)[:1]


def _may_use(mesh: Mesh, gateway: Gateway, credential: ObjectRef) -> bool:
    """Istio's Gateways name Secrets of the namespace of those who serve, and no others."""
    return gateway.subject is not None or mesh.grants.secret(gateway.ref, credential)


def credentials(mesh: Mesh, ports: Iterable[GatewayPort]) -> tuple[Secret | TrustBundle, ...]:
    """What the servers name."""
    tls = [server.tls for port in ports for server in port.servers if server.tls]
    refs = {ref for found in tls for ref in (*found.certificates, *found.authorities)}
    return tuple(mesh.credentials[ref] for ref in sorted(refs))
