"""Where Envoy receives sockets. Listeners carry structure only (rule 6): which service ports are routed and
which classes exist; an edit of a rule or route leaves their bytes as they are.

The kernel chose the listener. Where only HTTP may pass, nothing is sniffed: bytes that are none get 400;
where something else may, `xds.render.chains` tells them apart (rule 21). A socket without an original
destination was not sent by the kernel and is closed (rule 14).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.type.v3 import Int32Range

from mesh.listener import (
    EGRESS_BLOCKS,
    EGRESS_PORT,
    INGRESS_BLOCKS,
    INGRESS_PORT,
    egress_addresses,
    ingress_addresses,
)
from mesh.model import PathNormalization, TrafficPolicy
from mesh.proxy import ROUTING_LISTENER, AccessLog, ConnectionEntry, L7Class, Target, Tracing
from xds.render import (
    access_log,
    chains,
    connection_manager,
    connections,
    filters,
    naming,
    plugins,
    protocol,
    route_filters,
)
from xds.render.encoding import encode, joined, typed
from xds.render.plugins import Slot

#: For HTTP/1.0 requests without Host in a class, whose rules may ask for a host: this is nobody's.
_NO_HOST = "http10.invalid"

#: What the inspector calls HTTP.
_HTTP = ["http/1.0", "http/1.1", "h2c"]
#: How long it waits for first bytes, before a server that may speak first is let speak.
_PATIENCE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Chain:
    """A routed service port, as far as the listener knows of it: its `name`, the host of a request without
    one, where it is dialled, is it looked into for HTTP, and where do connections go that are none?
    `policies` say how targets of those are reached."""

    name: str
    host: str
    port: int
    vips: tuple[str, ...]
    http: bool
    connections: tuple[ConnectionEntry, ...] = ()
    policies: tuple[tuple[Target, TrafficPolicy], ...] = ()
    plugins: tuple[Slot, ...] = ()

    @property
    def sniffed(self) -> bool:
        return self.http and bool(self.connections)

    @property
    def named(self) -> bool:
        """Does it depend on the name that a TLS hello asks for?"""
        return any(entry.match.server_names for entry in self.connections)


@lru_cache(maxsize=8192)
def routing_listener(
    ports: tuple[Chain, ...],
    normalization: PathNormalization,
    tracing: Tracing | None = None,
    logs: tuple[AccessLog, ...] = (),
) -> bytes:
    """A filter chain or two for each service port; a destination in none is closed, there is no default."""
    name = naming.ROUTING_LISTENER
    listener = _listener(name, egress_addresses(ROUTING_LISTENER), EGRESS_PORT, TrafficDirection.OUTBOUND)
    named = sorted({chain.port for chain in ports if chain.named})
    sniffed = sorted({chain.port for chain in ports if chain.sniffed})
    for inspector, name_, looked_into in (
        (TlsInspector(), naming.TLS_INSPECTOR, named),
        (HttpInspector(), naming.HTTP_INSPECTOR, sniffed),
    ):
        if looked_into:
            found = ListenerFilter(name=name_, typed_config=typed(inspector))
            found.filter_disabled = _not_to(looked_into)
            listener.listener_filters.append(found)
            listener.listener_filters_timeout = _PATIENCE
            listener.continue_on_listener_filters_timeout = True
    listener.filter_chains.append(_blackhole(name, EGRESS_BLOCKS))
    return joined(b"".join(_chains(chain, normalization, tracing, logs) for chain in ports), listener)


@lru_cache(maxsize=65536)
def _chains(
    chain: Chain, normalization: PathNormalization, tracing: Tracing | None, logs: tuple[AccessLog, ...]
) -> bytes:
    """The filter chains of a port, encoded: a listener has those of thousands, and others have them too."""
    found = [_requests_chain(chain, normalization, tracing, logs)] if chain.http else []
    return bytes(Listener(filter_chains=[*found, *_connection_chains(chain, logs)]))


def _requests_chain(
    chain: Chain, normalization: PathNormalization, tracing: Tracing | None, logs: tuple[AccessLog, ...]
) -> FilterChain:
    """Egress classes judge behind the route: see xds.render.clusters."""
    name = chain.name
    http_filters = (*plugins.standing(chain.plugins), *route_filters.dormant(), *filters.ending())
    manager = connection_manager.http(
        name, naming.ROUTING_LISTENER, chain.host, http_filters, normalization, tracing, logs
    )
    match = FilterChainMatch(destination_port=chain.port, prefix_ranges=_ranges(chain.vips))
    if chain.sniffed:
        match.application_protocols = _HTTP
    return FilterChain(name=name, filter_chain_match=match, filters=[manager])


def _connection_chains(chain: Chain, logs: tuple[AccessLog, ...]) -> Iterator[FilterChain]:
    """In which no rule is for a hello's name it is closed."""
    for index, entry in enumerate(chain.connections):
        match = FilterChainMatch(destination_port=chain.port, prefix_ranges=_ranges(chain.vips))
        if entry.match.server_names:
            match.transport_protocol = "tls"
            match.server_names = list(entry.match.server_names)
        yield FilterChain(
            name=naming.connections_chain(chain.name, index),
            filter_chain_match=match,
            filters=[connections.onward(entry.rule, dict(chain.policies), naming.ROUTING_LISTENER, logs)],
        )


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
def class_listener(
    shape: L7Class,
    tracing: Tracing | None = None,
    logs: tuple[AccessLog, ...] = (),
    found: tuple[Slot, ...] = (),
    served: bytes = b"",
) -> bytes:
    """The listener of one L7 class, of which only `structure` counts: everything that reaches it is for its
    rules to judge. `served` are the chains of ports at which the pod serves Gateways
    (`xds.render.gateways.judged_chains`)."""
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
    judging = filters.judging(found)
    http = connection_manager.http(
        routes,
        name,
        _NO_HOST,
        judging,
        shape.normalization,
        tracing,
        logs,
        mutual=shape.mutual is not None,
    )
    if not chains.is_sniffed(shape):
        listener.filter_chains.append(_blackhole(name, blocks))
        listener.default_filter_chain = FilterChain(name=name, filters=[http])
        if served:
            listener.per_connection_buffer_limit_bytes = protocol.EDGE_BUFFER
            listener.listener_filters.append(
                ListenerFilter(name=naming.TLS_INSPECTOR, typed_config=typed(TlsInspector()))
            )
        return joined(served, listener)
    listener.listener_filters += chains.inspectors(shape)
    listener.listener_filters_timeout = chains.patience(shape)
    listener.continue_on_listener_filters_timeout = True
    served_here = chains.serving(shape, name, http, naming.behind(shape), logs)
    listener.filter_chains = [FilterChain(name=naming.blackhole(name)), *served_here]
    listener.filter_chain_matcher = chains.choice(shape, name, blocks)
    listener.access_log = [access_log.refusals(name, routes, strict=chains.is_strict(shape))]
    return encode(listener)


def structure(found: L7Class) -> L7Class:
    """What of a class its listener is made of."""
    mutual = found.mutual and replace(found.mutual, origins=())
    taken = found.ingress
    if taken and (endpoint := taken.listener.endpoint):
        # Where that is the cluster knows.
        any_other = endpoint._replace(address="", port=0)
        taken = replace(taken, listener=replace(taken.listener, endpoint=any_other))
    return replace(
        found,
        rules=None,
        authentication=(),
        authorization=(),
        audit=None,
        limits=(),
        patches=(),
        mutual=mutual,
        ingress=taken,
    )


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
