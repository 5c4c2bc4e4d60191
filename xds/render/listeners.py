"""Where Envoy receives sockets. Listeners carry structure only (rule 6): which service ports are routed and
which classes exist; an edit of a rule or route leaves their bytes as they are.

The kernel chose the listener, so nothing is sniffed: bytes that are no HTTP get 400 (rule 21). A socket
without an original destination was not sent by the kernel and is closed (rule 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from ipaddress import ip_network

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    CidrRange,
    SocketAddress,
    TrafficDirection,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)

from mesh.listener import (
    EGRESS_BLOCKS,
    EGRESS_PORT,
    INGRESS_BLOCKS,
    INGRESS_PORT,
    egress_addresses,
    ingress_addresses,
)
from mesh.model import Direction, ServiceName
from mesh.proxy import ROUTING_LISTENER
from xds.render import naming, protocol
from xds.render.access_log import access_log
from xds.render.clusters import ads
from xds.render.encoding import encode, typed
from xds.render.rbac import deny_all

#: Upgrades that pass; Envoy answers 403 to others.
UPGRADES = ("websocket",)

#: For HTTP/1.0 requests without Host in a class, whose rules may ask for a host: this is nobody's.
_NO_HOST = "http10.invalid"

#: A service port that routes bind, and its addresses.
Chain = tuple[ServiceName, int, tuple[str, ...]]


@lru_cache(maxsize=8192)
def routing_listener(chains: tuple[Chain, ...]) -> bytes:
    """One filter chain for each service port; a destination in none is closed, there is no default."""
    name = naming.ROUTING_LISTENER
    listener = _listener(name, egress_addresses(ROUTING_LISTENER), EGRESS_PORT, TrafficDirection.OUTBOUND)
    for service, port, vips in chains:
        routed = naming.routed_port(service, port)
        listener.filter_chains.append(
            FilterChain(
                name=routed,
                filter_chain_match=FilterChainMatch(destination_port=port, prefix_ranges=_ranges(vips)),
                filters=[_http(routed, name, naming.host(service), _routing_filters())],
            )
        )
    listener.filter_chains.append(_blackhole(name, EGRESS_BLOCKS))
    return encode(listener)


@lru_cache(maxsize=8192)
def class_listener(direction: Direction, number: int) -> bytes:
    """The listener of one L7 class: everything that reaches it is for its rules to judge."""
    name = naming.class_listener(direction, number)
    if direction == "egress":
        listener = _listener(name, egress_addresses(number), EGRESS_PORT, TrafficDirection.OUTBOUND)
        blocks = EGRESS_BLOCKS
    else:
        listener = _listener(name, ingress_addresses(number), INGRESS_PORT, TrafficDirection.INBOUND)
        listener.transparent = True
        blocks = INGRESS_BLOCKS
    routes = naming.class_routes(direction, number)
    listener.filter_chains.append(_blackhole(name, blocks))
    listener.default_filter_chain = FilterChain(
        name=name, filters=[_http(routes, name, _NO_HOST, _judging_filters())]
    )
    return encode(listener)


@cache
def _routing_filters() -> tuple[HttpFilter, ...]:
    # Egress classes judge behind the route: see xds.render.clusters.
    return (_router(),)


@cache
def _judging_filters() -> tuple[HttpFilter, ...]:
    return (deny_all(), _router())


def _router() -> HttpFilter:
    return HttpFilter(name=naming.ROUTER, typed_config=typed(Router(suppress_envoy_headers=True)))


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


def _http(routes: str, listener: str, default_host: str, http_filters: tuple[HttpFilter, ...]) -> Filter:
    manager = HttpConnectionManager(
        stat_prefix=routes,
        rds=Rds(config_source=ads(), route_config_name=routes),
        http_filters=list(http_filters),
        access_log=[access_log(listener)],
        common_http_protocol_options=protocol.downstream(),
        http_protocol_options=protocol.downstream_http1(default_host),
        http2_protocol_options=protocol.http2(),
        max_request_headers_kb=protocol.MAX_HEADERS_KB,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type=name) for name in UPGRADES],
        stream_idle_timeout=protocol.FOREVER,
        # Paths are judged as the backend will read them.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED,
        # Nothing is added to the client's headers. Nor are they believed: with one hop skipped, no address in
        # X-Forwarded-For is internal. (Otherwise a forged private one makes Envoy obey `x-envoy-*`, even with
        # an empty `internal_address_config`: threat N10.)
        use_remote_address=False,
        xff_num_trusted_hops=1,
        generate_request_id=False,
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
    )
    return Filter(name=naming.HTTP_CONNECTION_MANAGER, typed_config=typed(manager))
