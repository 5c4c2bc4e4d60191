"""Ports at which a pod serves Gateways, or its own loopback: real listening sockets, filter chains by server
name, and for each server of HTTP a route configuration with a virtual host for each host.

Other than inside the mesh nobody knows who calls a Gateway: addresses that clients claim (X-Forwarded-For)
are not believed, the peer's own is added to them (threat N10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    CidrRange,
    SocketAddress,
    SocketAddressProtocol,
    TrafficDirection,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    RedirectAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from mesh.model import PathNormalization, TrafficPolicy
from mesh.proxy import AccessLog, GatewayPort, GatewayServer, L7Class, Target, Tracing
from mesh.proxy import VirtualHost as Host
from xds.render import (
    authentication,
    connection_manager,
    connections,
    datagrams,
    downstream_tls,
    filters,
    naming,
    plugins,
    protocol,
    retries,
    route_filters,
)
from xds.render.encoding import encode, typed
from xds.render.headers import FORGEABLE
from xds.render.plugins import Slot
from xds.render.routes import LARGEST_BODY, Reached, route
from xds.render.tracing import traced

#: For HTTP/1.0 requests without Host: this is nobody's.
_NO_HOST = "http10.invalid"
_EVERY = ("0.0.0.0", "::")
_EVERYTHING = RouteMatch(prefix="/")


@lru_cache(maxsize=1024)
def listener(
    port: GatewayPort,
    normalization: PathNormalization,
    policies: tuple[tuple[Target, TrafficPolicy], ...],
    tracing: Tracing | None = None,
    logs: tuple[AccessLog, ...] = (),
    found: tuple[Slot, ...] = (),
) -> bytes:
    """`policies` say how targets are reached; of `tracing` only its `structure` counts."""
    name = naming.gateway_listener(port)
    spoken = SocketAddressProtocol[port.transport]
    first, *others = (
        Address(socket_address=SocketAddress(protocol=spoken, address=address, port_value=port.port))
        for address in ((port.bind,) if port.bind else _EVERY)
    )
    made = Listener(
        name=name,
        address=first,
        additional_addresses=[AdditionalAddress(address=address) for address in others],
        traffic_direction=TrafficDirection.OUTBOUND,
    )
    if port.transport == "UDP":
        # A socket for each worker: the kernel gives all that one client's socket sends to the same.
        made.enable_reuse_port = True
        entries = [entry for server in port.servers for entry in server.connections]
        made.listener_filters = [datagrams.onward(entries, logs)]
        return encode(made)
    made.enable_reuse_port = False
    if not port.bound_by:
        made.per_connection_buffer_limit_bytes = protocol.EDGE_BUFFER
    made.filter_chains = [
        chain
        for server in port.servers
        for chain in _chains(
            server, name, normalization, policies, tracing, logs, found, edge=not port.bound_by
        )
        # Where no route leads on, connections are closed: Envoy wants a chain, and would keep the old ones.
    ] or [FilterChain(name=naming.blackhole(name))]
    if any(server.tls or server.server_names or _by_name(server) for server in port.servers):
        made.listener_filters = [
            ListenerFilter(name=naming.TLS_INSPECTOR, typed_config=typed(TlsInspector()))
        ]
    return encode(made)


@lru_cache(maxsize=1024)
def judged_chains(
    port: GatewayPort,
    number: int,
    normalization: PathNormalization,
    tracing: Tracing | None = None,
    logs: tuple[AccessLog, ...] = (),
    found: tuple[Slot, ...] = (),
) -> bytes:
    """For the listener of an L7 class: the filter chains of a port at which requests are served, behind the
    filters that judge them. Encoded as part of a Listener."""
    made = [
        chain
        for server in port.servers
        if server.http
        for chain in _chains(
            server,
            naming.gateway_listener(port),
            normalization,
            (),
            tracing,
            logs,
            found,
            judged_by=number,
        )
    ]
    if all(server.tls for server in port.servers):
        made.append(FilterChain(name=naming.blackhole(naming.gateway_listener(port))))
    for chain in made:
        chain.filter_chain_match = chain.filter_chain_match or FilterChainMatch()
        chain.filter_chain_match.destination_port = port.port
        if port.bind:
            length = 128 if ":" in port.bind else 32
            chain.filter_chain_match.prefix_ranges = [CidrRange(address_prefix=port.bind, prefix_len=length)]
    return bytes(Listener(filter_chains=made))


@lru_cache(maxsize=4096)
def routes(
    server: GatewayServer,
    port: int,
    reached: tuple[Reached, ...],
    tracing: Tracing | None = None,
    judge: L7Class | None = None,
) -> bytes:
    """No host or no entry fits: 404; another server's host: 421 (RFC 9110, 15.5.20), so that a client that
    has joined connections opens one for it. What a `judge` refuses is 403 before any of that."""
    whole = bool(server.authentication or judge)
    hosts = [
        _host(host, port, reached, tracing, whole=whole, tls=server.tls is not None) for host in server.hosts
    ]
    if server.elsewhere:
        hosts.append(_answering(naming.misdirected(port), server.elsewhere, 421))
    if judge:
        _class(hosts, judge, port)
    return encode(
        RouteConfiguration(
            name=naming.judged_routes(server.name, judge.number) if judge else server.name,
            virtual_hosts=hosts,
            request_headers_to_remove=list(FORGEABLE),
            max_direct_response_body_size_bytes=LARGEST_BODY,
            # A Host that names its port is for the same host.
            ignore_port_in_host_matching=True,
            typed_per_filter_config=_asked(server, judge),
        )
    )


def _asked(server: GatewayServer, judge: L7Class | None) -> dict[str, Any]:
    """Of every host, one that an EnvoyFilter adds included. Tokens are asked for where routes are chosen by
    them."""
    found = filters.asked(judge, acting=False) if judge else {}
    if server.authentication:
        tokens = authentication.per_route(server.authentication, routed=True)
        found = found | {naming.AUTHENTICATION: tokens} | route_filters.awake()
    return dict(sorted(found.items()))


def _host(
    host: Host,
    port: int,
    reached: Sequence[Reached],
    tracing: Tracing | None,
    *,
    whole: bool,
    tls: bool,
) -> VirtualHost:
    """`whole`: a route takes what no entry fits, for filters ask what a route brings them."""
    known = {found.target: found for found in reached}
    name = naming.gateway_host(host.host, port)
    chosen = [route(entry, port, known, tls=tls) for entry in host.entries]
    if host.https_redirect:
        # A route of the host: that of `require_tls` is nobody's, and brings nothing.
        chosen = [Route(name=name, match=_EVERYTHING, redirect=RedirectAction(https_redirect=True))]
    if whole:
        chosen.append(_answer(name, 404))
    return VirtualHost(
        name=name,
        # What a request asks for has an address of IPv6 in brackets.
        domains=[f"[{host.host}]" if ":" in host.host else host.host, *host.names],
        routes=traced(chosen, tracing),
        retry_policy=retries.routed(retries.DEFAULT),
    )


def _class(hosts: list[VirtualHost], judge: L7Class, port: int) -> None:
    """Every request has a route, and its name says the class (read by `agent.names`)."""
    if all("*" not in host.domains for host in hosts):
        hosts.append(_answering(naming.gateway_host("*", port), ["*"], 404))
    for host in hosts:
        for known in host.routes:
            known.name = naming.judged_routes(known.name, judge.number)


def _answering(name: str, hosts: Sequence[str], status: int) -> VirtualHost:
    return VirtualHost(name=name, domains=list(hosts), routes=[_answer(name, status)])


def _answer(name: str, status: int) -> Route:
    return Route(name=name, match=_EVERYTHING, direct_response=DirectResponseAction(status=status))


def _chains(
    server: GatewayServer,
    listener: str,
    normalization: PathNormalization,
    policies: tuple[tuple[Target, TrafficPolicy], ...],
    tracing: Tracing | None,
    logs: tuple[AccessLog, ...],
    found: tuple[Slot, ...],
    judged_by: int = 0,
    *,
    edge: bool = True,
) -> Iterator[FilterChain]:
    match = FilterChainMatch(server_names=list(server.server_names))
    if server.tls:
        match.transport_protocol = "tls"
    secured = downstream_tls.transport(server.tls, http=server.http) if server.tls else None
    if server.http:
        name = naming.judged_routes(server.name, judged_by) if judged_by else server.name
        judges = filters.judging(found, routed=True) if judged_by else _filters(found)
        manager = connection_manager.http(
            name, listener, _NO_HOST, judges, normalization, tracing, logs, edge=edge
        )
        yield FilterChain(
            name=server.name,
            filter_chain_match=match,
            filters=[manager],
            transport_socket=secured,
            transport_socket_connect_timeout=protocol.EDGE_HANDSHAKE_TIMEOUT,
        )
        return
    for index, entry in enumerate(server.connections):
        own = FilterChainMatch(transport_protocol=match.transport_protocol, server_names=match.server_names)
        if entry.match.server_names:
            own = FilterChainMatch(transport_protocol="tls", server_names=list(entry.match.server_names))
        yield FilterChain(
            name=f"{server.name}|{index}",
            filter_chain_match=own,
            filters=[
                connections.onward(entry.rule, dict(policies), listener, logs, ends_tls=secured is not None)
            ],
            transport_socket=secured,
            transport_socket_connect_timeout=protocol.EDGE_HANDSHAKE_TIMEOUT,
        )


def _filters(found: tuple[Slot, ...]) -> tuple[HttpFilter, ...]:
    return (
        *plugins.standing(found, "AUTHN"),
        authentication.dormant(),
        *plugins.standing(found, "AUTHZ", "STATS", "UNSPECIFIED_PHASE"),
        *route_filters.dormant(),
        *filters.ending(),
    )


def _by_name(server: GatewayServer) -> bool:
    return any(entry.match.server_names for entry in server.connections)
