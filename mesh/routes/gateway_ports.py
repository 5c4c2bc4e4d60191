"""What the Envoy of a pod that serves Gateways does: its ports, and at each the servers between which a
connection chooses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import compress

from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.model import (
    Backend,
    ConnectionMatch,
    Gateway,
    Listener,
    ObjectRef,
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
    VirtualHost,
)
from mesh.routes import connection_rules
from mesh.routes.gateway_hosts import Source, is_for, shared, virtual_hosts, visible
from mesh.routes.gateways import rival
from mesh.routes.host_pattern import covering, covers, specificity

#: Modes in which TLS is not ended here.
PASSED_ON = ("PASSTHROUGH", "AUTO_PASSTHROUGH")


def gateway_ports(
    mesh: Mesh, pod: WorkloadName, tokens: tuple[AuthenticationPart, ...] = ()
) -> tuple[GatewayPort, ...]:
    """Nothing, if the pod serves no Gateway. `tokens` are the rules about them that select the pod."""
    served = mesh.gateways.served_by(pod)
    if not served:
        return ()
    ports: defaultdict[tuple[int, str, Transport], list[Source]] = defaultdict(list)
    for gateway in served:
        for listener in gateway.listeners:
            if not rival(gateway, listener):
                ports[listener.port, listener.bind, listener.transport].append((gateway, listener))
    caller = mesh.callers.of(pod)
    return tuple(
        GatewayPort(port, bind, servers, transport)
        for (port, bind, transport), sources in sorted(ports.items())
        if (servers := _servers(mesh, caller, sources, tokens))
    )


def _servers(
    mesh: Mesh, caller: Caller, sources: Sequence[Source], tokens: tuple[AuthenticationPart, ...]
) -> tuple[GatewayServer, ...]:
    """Of one port. Listeners of plain HTTP are one server: what a request asks for tells them apart."""
    plain = [source for source in sources if _is_plain(source)]
    others = [source for source in sources if not _is_plain(source)]
    made = [_server(mesh, caller, group) for group in ([plain] if plain else []) + [[one] for one in others]]
    found = [replace(one, authentication=tokens if one.http else ()) for one in made if one]
    names = {name for _, one in others if one.tls for name in _server_names(one) or ("*",)}
    return _distinct(_apart(found, names))


def _is_plain(source: Source) -> bool:
    return source[1].speaks_http and source[1].tls is None


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


def _server(mesh: Mesh, caller: Caller, sources: Sequence[Source]) -> GatewayServer | None:
    """None where TLS would end without a certificate, or without anybody who judges those of clients: who
    calls is not answered."""
    gateway, listener = sources[0]
    tls = _tls(mesh, caller, gateway, listener.tls)
    if tls is not None and tls.mode not in (*PASSED_ON, "ISTIO_MUTUAL") and not tls.certificates:
        return None
    if tls is not None and tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL") and not tls.authorities:
        return None
    ref, http = gateway.ref, listener.speaks_http
    own = f"https.{listener.port}.{listener.name}.{ref.name}.{ref.namespace}"
    shared = f"http.{listener.port}" + (f".{listener.bind}" if listener.bind else "")
    return GatewayServer(
        name=own if listener.protocol == "HTTPS" else shared,
        origins=tuple(sorted({gateway.ref for gateway, _ in sources})),
        server_names=_server_names(listener),
        tls=tls if tls and tls.mode not in PASSED_ON else None,
        hosts=virtual_hosts(mesh, caller, sources) if http else (),
        connections=() if http else tuple(_connections(mesh, caller, gateway, listener)),
        http=http,
    )


def _server_names(listener: Listener) -> tuple[str, ...]:
    """What a TLS hello must ask for; () if it need not ask for anything."""
    names = {served.host for served in listener.hosts}
    return () if listener.tls is None or "*" in names else tuple(sorted(names))


def _apart(servers: Sequence[GatewayServer], names: set[str]) -> tuple[GatewayServer, ...]:
    """Servers of TLS leave each other's hosts alone, those of servers that cannot answer as well: what a
    client must show for one of `names` it has not shown on a connection for another (threat N16; Gateway
    API, listener isolation). A host of their own is theirs without a route, too."""
    found = []
    for server in servers:
        if server.tls is None or not server.http:
            found.append(server)
            continue
        own = set(server.server_names) or {"*"}
        elsewhere, every = names - own, names | own
        hosts = {
            host.host: host
            for host in server.hosts
            if next(name for name in covering(host.host) if name in every) in own
        }
        for name in own:
            if any(covers(other, name) for other in elsewhere):
                hosts.setdefault(name, VirtualHost(name, ()))
        ordered = tuple(hosts[host] for host in sorted(hosts, key=lambda host: (specificity(host), host)))
        found.append(replace(server, hosts=ordered, elsewhere=tuple(sorted(elsewhere))))
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


def answers(mesh: Mesh, pod: WorkloadName, gateway: Gateway, listener: Listener) -> bool:
    """Does a pod that serves the Gateway answer at the listener?"""
    return _server(mesh, mesh.callers.of(pod), [(gateway, listener)]) is not None


def _connections(
    mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener
) -> Iterator[ConnectionEntry]:
    for route in visible(mesh, caller, gateway, listener):
        hosts = tuple(dict.fromkeys(host for host, _ in shared(mesh, route, listener)))
        for rule in route.connections:
            if rule.protocol != listener.transport:
                continue
            own = ConnectionMatch(server_names=hosts if rule.kind == "tls" else ())
            for match in rule.matches or (own,):
                if match.port in (0, listener.port) and is_for(caller, match.callers, gateway.ref):
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
