"""Where Envoy receives sockets. Listeners carry structure only (rule 6): which service ports are routed and
which classes exist; an edit of a rule or route leaves their bytes as they are.

The kernel chose the listener. Where only HTTP may pass, nothing is sniffed: bytes that are none get 400;
where something else may, `xds.render.chains` tells them apart (rule 21). A socket without an original
destination was not sent by the kernel and is closed (rule 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_network

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    CidrRange,
    SocketAddress,
    TrafficDirection,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
    ListenerFilterChainMatchPredicateMatchSet,
)
from envoy_data_plane.envoy.extensions.filters.listener.http_inspector.v3 import HttpInspector
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.type.v3 import Int32Range

from mesh.listener import (
    EGRESS_BLOCKS,
    EGRESS_PORT,
    INGRESS_BLOCKS,
    INGRESS_PORT,
    egress_addresses,
    ingress_addresses,
)
from mesh.model import HashKey, PathNormalization, ServiceName
from mesh.proxy import ROUTING_LISTENER, ConnectionEntry, L7Class, Target
from xds.render import chains, connection_manager, connections, filters, naming, route_filters
from xds.render.encoding import encode, typed

#: For HTTP/1.0 requests without Host in a class, whose rules may ask for a host: this is nobody's.
_NO_HOST = "http10.invalid"

#: What the inspector calls HTTP.
_HTTP = ["http/1.0", "http/1.1", "h2c"]
#: How long it waits for first bytes, before a server that may speak first is let speak.
_PATIENCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Chain:
    """A routed service port, as far as the listener knows of it: is it looked into for HTTP, and where do
    connections go that are none? `hashes` are what targets of those are hashed by."""

    service: ServiceName
    port: int
    vips: tuple[str, ...]
    http: bool
    connections: tuple[ConnectionEntry, ...] = ()
    hashes: tuple[tuple[Target, HashKey], ...] = ()

    @property
    def sniffed(self) -> bool:
        return self.http and bool(self.connections)


@lru_cache(maxsize=8192)
def routing_listener(ports: tuple[Chain, ...], normalization: PathNormalization) -> bytes:
    """A filter chain or two for each service port; a destination in none is closed, there is no default."""
    name = naming.ROUTING_LISTENER
    listener = _listener(name, egress_addresses(ROUTING_LISTENER), EGRESS_PORT, TrafficDirection.OUTBOUND)
    for chain in ports:
        if chain.http:
            listener.filter_chains.append(_requests_chain(chain, normalization))
        if chain.connections:
            match = FilterChainMatch(destination_port=chain.port, prefix_ranges=_ranges(chain.vips))
            onward = connections.onward(chain.connections[0].rule, dict(chain.hashes))
            chain_name = naming.connections_chain(chain.service, chain.port)
            listener.filter_chains.append(
                FilterChain(name=chain_name, filter_chain_match=match, filters=[onward])
            )
    if sniffed := sorted({chain.port for chain in ports if chain.sniffed}):
        inspector = ListenerFilter(name=naming.HTTP_INSPECTOR, typed_config=typed(HttpInspector()))
        inspector.filter_disabled = _not_to(sniffed)
        listener.listener_filters.append(inspector)
        listener.listener_filters_timeout = _PATIENCE
        listener.continue_on_listener_filters_timeout = True
    listener.filter_chains.append(_blackhole(name, EGRESS_BLOCKS))
    return encode(listener)


def _requests_chain(chain: Chain, normalization: PathNormalization) -> FilterChain:
    """Egress classes judge behind the route: see xds.render.clusters."""
    name = naming.routed_port(chain.service, chain.port)
    http_filters = (*route_filters.dormant(), filters.router())
    manager = connection_manager.http(
        name, naming.ROUTING_LISTENER, chain.service.host, http_filters, normalization
    )
    match = FilterChainMatch(destination_port=chain.port, prefix_ranges=_ranges(chain.vips))
    if chain.sniffed:
        match.application_protocols = _HTTP
    return FilterChain(name=name, filter_chain_match=match, filters=[manager])


def _not_to(ports: Sequence[int]) -> ListenerFilterChainMatchPredicate:
    """Connections to any other port."""
    found = [
        ListenerFilterChainMatchPredicate(destination_port_range=Int32Range(start=port, end=port + 1))
        for port in ports
    ]
    any_of = ListenerFilterChainMatchPredicateMatchSet(rules=found)
    one = found[0] if len(found) == 1 else ListenerFilterChainMatchPredicate(or_match=any_of)
    return ListenerFilterChainMatchPredicate(not_match=one)


@lru_cache(maxsize=8192)
def class_listener(shape: L7Class) -> bytes:
    """The listener of one L7 class, of which only `structure` counts: everything that reaches it is for its
    rules to judge."""
    direction, number = shape.direction, shape.number
    name = naming.class_listener(direction, number)
    if direction == "egress":
        listener = _listener(name, egress_addresses(number), EGRESS_PORT, TrafficDirection.OUTBOUND)
        blocks = EGRESS_BLOCKS
    else:
        listener = _listener(name, ingress_addresses(number), INGRESS_PORT, TrafficDirection.INBOUND)
        listener.transparent = True
        blocks = INGRESS_BLOCKS
    routes = naming.class_routes(direction, number)
    http = connection_manager.http(routes, name, _NO_HOST, filters.judging(), shape.normalization)
    requests = FilterChain(name=name, filters=[http])
    if not chains.is_sniffed(shape):
        listener.filter_chains.append(_blackhole(name, blocks))
        listener.default_filter_chain = requests
        return encode(listener)
    listener.listener_filters += chains.inspectors(shape)
    listener.listener_filters_timeout = chains.patience(shape)
    listener.continue_on_listener_filters_timeout = True
    listener.filter_chains = [
        FilterChain(name=naming.blackhole(name)),
        *((requests,) if shape.http else ()),
        *chains.plain_chains(shape, name, naming.passthrough(direction)),
    ]
    listener.filter_chain_matcher = chains.choice(shape, name, blocks)
    return encode(listener)


def structure(found: L7Class) -> L7Class:
    """What of a class its listener is made of."""
    return replace(found, rules=None, authentication=(), authorization=(), audit=None, limits=())


def _listener(name: str, addresses: tuple[str, str], port: int, direction: TrafficDirection) -> Listener:
    v4, v6 = (Address(socket_address=SocketAddress(address=a, port_value=port)) for a in addresses)
    return Listener(
        name=name,
        address=v4,
        additional_addresses=[AdditionalAddress(address=v6)],
        # A whole block is local, of which no address stands on a device.
        freebind=True,
        # One socket, which nobody can share and the agent can find.
        enable_reuse_port=False,
        listener_filters=[ListenerFilter(name=naming.ORIGINAL_DST, typed_config=typed(OriginalDst()))],
        traffic_direction=direction,
    )


def _blackhole(listener: str, blocks: Sequence[str]) -> FilterChain:
    """Without filters, the connection is closed at once."""
    return FilterChain(
        name=naming.blackhole(listener), filter_chain_match=FilterChainMatch(prefix_ranges=_ranges(blocks))
    )


def _ranges(blocks: Sequence[str]) -> list[CidrRange]:
    networks = [ip_network(block) for block in blocks]
    return [CidrRange(address_prefix=str(n.network_address), prefix_len=n.prefixlen) for n in networks]
