"""Where Envoy receives sockets. Listeners carry structure only (rule 6): which service ports are routed and
which classes exist; an edit of a rule or route leaves their bytes as they are.

The kernel chose the listener. Where only HTTP may pass, nothing is sniffed: bytes that are none get 400;
where something else may, `xds.render.chains` tells them apart (rule 21). A socket without an original
destination was not sent by the kernel and is closed (rule 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
)
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst

from mesh.listener import (
    EGRESS_BLOCKS,
    EGRESS_PORT,
    INGRESS_BLOCKS,
    INGRESS_PORT,
    egress_addresses,
    ingress_addresses,
)
from mesh.model import PathNormalization, ServiceName
from mesh.proxy import ROUTING_LISTENER, L7Class, Tracing
from xds.render import chains, connection_manager, filters, naming
from xds.render.encoding import encode, typed

#: For HTTP/1.0 requests without Host in a class, whose rules may ask for a host: this is nobody's.
_NO_HOST = "http10.invalid"

#: A service port that routes bind, and its addresses.
Chain = tuple[ServiceName, int, tuple[str, ...]]


@lru_cache(maxsize=8192)
def routing_listener(
    ports: tuple[Chain, ...], normalization: PathNormalization, tracing: Tracing | None = None
) -> bytes:
    """One filter chain for each service port; a destination in none is closed, there is no default."""
    name = naming.ROUTING_LISTENER
    listener = _listener(name, egress_addresses(ROUTING_LISTENER), EGRESS_PORT, TrafficDirection.OUTBOUND)
    for service, port, vips in ports:
        routed = naming.routed_port(service, port)
        listener.filter_chains.append(
            FilterChain(
                name=routed,
                filter_chain_match=FilterChainMatch(destination_port=port, prefix_ranges=_ranges(vips)),
                # Egress classes judge behind the route: see xds.render.clusters.
                filters=[
                    connection_manager.http(
                        routed, name, naming.host(service), (filters.router(),), normalization, tracing
                    )
                ],
            )
        )
    listener.filter_chains.append(_blackhole(name, EGRESS_BLOCKS))
    return encode(listener)


@lru_cache(maxsize=8192)
def class_listener(shape: L7Class, tracing: Tracing | None = None) -> bytes:
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
    http = connection_manager.http(routes, name, _NO_HOST, filters.judging(), shape.normalization, tracing)
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
    return replace(found, rules=None, authorization=(), audit=None)


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
