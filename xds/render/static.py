"""Rendered resources as the static part of a bootstrap, by which Envoy can be asked whether it takes them.

What would collide there, names of clusters and addresses of listeners, is told apart; everything else stays
as it would be served.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress, TypedExtensionConfig
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    SdsSecretConfig,
    UpstreamTlsContext,
)
from envoy_data_plane.google.protobuf import Any as AnyMessage

from proxy_configs import bootstrap
from xds.render import filters, naming, sources
from xds.render.encoding import typed
from xds.render.patches.values import message


def static_bootstrap(tried: Sequence[bytes], around: Mapping[str, bytes], folder: str) -> bytes:
    """An encoded Bootstrap with encoded resources in question, and the clusters `around` them by name, to
    which they may refer. `folder` is where its sockets would be."""
    names = ("discovery", "access_log", "admin")
    sockets = {name: f"{folder}/{name}.sock" for name in names}
    text = bootstrap(namespace="sluice", pod="trial", address="127.0.0.1", **sockets)
    found = message(Bootstrap, json.loads(text), "")
    assert isinstance(found, Bootstrap) and found.static_resources is not None
    static = found.static_resources
    taken = {cluster.name for cluster in static.clusters}
    for number, resource in enumerate(tried):
        match AnyMessage.parse(resource).unpack():
            case Cluster() as cluster:
                if cluster.name in taken:
                    cluster.name = f"{cluster.name}#{number}"
                taken.add(cluster.name)
                static.clusters.append(_alone(cluster))
            case Listener() as listener:
                listener.name = f"{listener.name}#{number}"
                static.listeners.append(_at(listener, number))
            case RouteConfiguration() as routes:
                static.listeners.append(_at(_serving(routes, number), number))
            case TypedExtensionConfig() as extension:
                static.listeners.append(_at(_running(extension, number), number))
    for name, resource in around.items():
        beside = AnyMessage.parse(resource).unpack()
        if isinstance(beside, Cluster) and name not in taken:
            static.clusters.append(_alone(beside))
    return bytes(found)


def _alone(cluster: Cluster) -> Cluster:
    """With secrets from a stream of their own: Envoy falls when a cluster of a bootstrap wants them from that
    of everything, which is not there yet."""
    matches = (match.transport_socket for match in cluster.transport_socket_matches)
    for socket in (cluster.transport_socket, *matches):
        context = socket.typed_config.unpack() if socket and socket.typed_config else None
        if socket and isinstance(context, UpstreamTlsContext) and context.common_tls_context:
            for wanted in _secrets(context.common_tls_context):
                wanted.sds_config = sources.apart()
            socket.typed_config = typed(context)
    return cluster


def _secrets(tls: CommonTlsContext) -> Iterator[SdsSecretConfig]:
    yield from tls.tls_certificate_sds_secret_configs
    combined = tls.combined_validation_context
    if combined and combined.validation_context_sds_secret_config:
        yield combined.validation_context_sds_secret_config


def _at(listener: Listener, number: int) -> Listener:
    """At an address of its own. Nobody binds it."""
    address = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    place = SocketAddress(address=address, port_value=15099)
    if listener.address and listener.address.socket_address:
        place.protocol = listener.address.socket_address.protocol
    listener.address = Address(socket_address=place)
    listener.additional_addresses = []
    return listener


def _serving(routes: RouteConfiguration, number: int) -> Listener:
    """Over the stream a route may lead to a cluster that is not there."""
    routes.validate_clusters = False
    return _listener(f"routes#{number}", routes)


def _running(extension: TypedExtensionConfig, number: int) -> Listener:
    own = HttpFilter(name=extension.name, typed_config=extension.typed_config)
    return _listener(f"extension#{number}", RouteConfiguration(name="none"), own)


def _listener(name: str, routes: RouteConfiguration, *first: HttpFilter) -> Listener:
    manager = HttpConnectionManager(
        stat_prefix="trial", route_config=routes, http_filters=[*first, filters.router()]
    )
    served = Filter(name=naming.HTTP_CONNECTION_MANAGER, typed_config=typed(manager))
    return Listener(name=name, filter_chains=[FilterChain(filters=[served])])
