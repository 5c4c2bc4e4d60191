"""The PROXY protocol that an Envoy begins connections with (istio/api, TrafficPolicy.ProxyProtocol): whose
they are comes before anything else, TLS included."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import (
    ProxyProtocolConfig,
    ProxyProtocolConfigVersion,
    TransportSocket,
)
from envoy_data_plane.envoy.extensions.transport_sockets.proxy_protocol.v3 import (
    ProxyProtocolUpstreamTransport,
)
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer

from mesh.model import ProxyProtocol
from xds.render import naming
from xds.render.encoding import typed

_VERSIONS = {"V1": ProxyProtocolConfigVersion.V1, "V2": ProxyProtocolConfigVersion.V2}


def announce(cluster: Cluster, version: ProxyProtocol | None) -> None:
    """Around every socket that the cluster has, so that it comes after `upstream_tls.secure`."""
    if version is None:
        return
    for match in cluster.transport_socket_matches:
        if match.transport_socket:
            match.transport_socket = _around(match.transport_socket, version)
    if cluster.transport_socket or not cluster.transport_socket_matches:
        inner = cluster.transport_socket or TransportSocket(
            name=naming.RAW_BUFFER, typed_config=typed(RawBuffer())
        )
        cluster.transport_socket = _around(inner, version)


def _around(inner: TransportSocket, version: ProxyProtocol) -> TransportSocket:
    own = ProxyProtocolUpstreamTransport(
        config=ProxyProtocolConfig(version=_VERSIONS[version]), transport_socket=inner
    )
    return TransportSocket(name=naming.PROXY_PROTOCOL, typed_config=typed(own))
