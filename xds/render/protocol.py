"""HTTP as Envoy speaks it on both sides, so that being steered changes nothing else (rule 22).

No time limit that nobody set, trailers and HTTP/1.0 pass, the upstream side speaks what the client spoke.
Limits that protect Envoy itself stand here too.
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
    UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy, UpstreamConnectMode
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions as UpstreamOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
    HttpProtocolOptionsUseDownstreamHttpConfig,
)
from envoy_data_plane.google.protobuf import Any

from mesh.model import ConnectionPool
from mesh.protocols import Version
from xds.render import naming
from xds.render.encoding import typed

FOREVER = timedelta(0)

#: More headers, and larger ones, than any server we know accepts by default (Envoy: 100, 60 KiB).
MAX_HEADERS = 1000
MAX_HEADERS_KB = 256

_STREAMS = 1024
#: What a client may send before there is a connection for it.
_EARLY_BYTES = 64 << 10

#: Of strangers at a gateway, as in Envoy's advice for edge proxies and Istio's gateways: a table of headers
#: that makes much of little may fill every stream to the limit (threat N27), and waiting has an end.
EDGE_HEADERS = 100
EDGE_HEADERS_KB = 60
EDGE_BUFFER = 32 << 10
EDGE_HEADERS_TIMEOUT = timedelta(seconds=10)
EDGE_HANDSHAKE_TIMEOUT = timedelta(seconds=15)
_EDGE_STREAMS = 100
_EDGE_IDLE = timedelta(hours=1)
_STREAM_WINDOW = 256 << 10
_CONNECTION_WINDOW = 1 << 20


def downstream_http1(default_host: str) -> Http1ProtocolOptions:
    """What a client may speak; a request of HTTP/1.0 without Host is for `default_host`."""
    return Http1ProtocolOptions(
        accept_http_10=True,
        default_host_for_http_10=default_host,
        enable_trailers=True,
    )


def http2(*, edge: bool = False) -> Http2ProtocolOptions:
    """HTTP/2 on either side, with WebSocket over it."""
    return Http2ProtocolOptions(
        max_concurrent_streams=_EDGE_STREAMS if edge else _STREAMS,
        initial_stream_window_size=_STREAM_WINDOW,
        initial_connection_window_size=_CONNECTION_WINDOW,
        allow_connect=True,
    )


def downstream(*, edge: bool = False) -> HttpProtocolOptions:
    """Clients' connections, whatever their version."""
    if edge:
        return HttpProtocolOptions(idle_timeout=_EDGE_IDLE, max_headers_count=EDGE_HEADERS)
    return HttpProtocolOptions(idle_timeout=FOREVER, max_headers_count=MAX_HEADERS)


def upstream(
    http_filters: tuple[HttpFilter, ...] = (),
    pool: ConnectionPool | None = None,
    version: Version = "client",
    *,
    sni_from_host: bool = False,
    verified: bool = True,
) -> dict[str, Any]:
    """`typed_extension_protocol_options` of a cluster: `version` is spoken, unless the connection pool of a
    DestinationRule says otherwise (istio/api, HTTPSettings). With `sni_from_host` TLS is for the request's
    Host, which certificates must be of where they are `verified`."""
    found = pool or ConnectionPool()
    common = HttpProtocolOptions(max_headers_count=MAX_HEADERS, max_response_headers_kb=MAX_HEADERS_KB)
    if found.idle_ms is not None:
        common.idle_timeout = timedelta(milliseconds=found.idle_ms)
    if found.requests_per_connection:
        common.max_requests_per_connection = found.requests_per_connection
    if found.connection_lifetime_ms is not None:
        common.max_connection_duration = timedelta(milliseconds=found.connection_lifetime_ms)
    http2_options = http2()
    if found.max_streams:
        http2_options.max_concurrent_streams = found.max_streams
    if found.pings:
        interval, timeout = (timedelta(milliseconds=ms) for ms in found.pings)
        http2_options.connection_keepalive = KeepaliveSettings(interval=interval, timeout=timeout)
    options = UpstreamOptions(common_http_protocol_options=common, http_filters=list(http_filters))
    if sni_from_host:
        options.upstream_http_protocol_options = UpstreamHttpProtocolOptions(
            auto_sni=True, auto_san_validation=verified
        )
    http1_options = Http1ProtocolOptions(enable_trailers=True)
    if found.use_client_protocol or (version == "client" and found.upgrade != "UPGRADE"):
        options.use_downstream_protocol_config = HttpProtocolOptionsUseDownstreamHttpConfig(
            http_protocol_options=http1_options, http2_protocol_options=http2_options
        )
    elif found.upgrade == "UPGRADE" or version == "http/2":
        options.explicit_http_config = HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=http2_options
        )
    else:
        options.explicit_http_config = HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=http1_options
        )
    return {naming.HTTP_PROTOCOL_OPTIONS: typed(options)}


def fixed(*, http2: bool) -> dict[str, Any]:
    """`typed_extension_protocol_options` of a cluster to which Envoy itself speaks, in one version."""
    explicit = HttpProtocolOptionsExplicitHttpConfig()
    if http2:
        explicit.http2_protocol_options = Http2ProtocolOptions()
    else:
        explicit.http_protocol_options = Http1ProtocolOptions()
    return {naming.HTTP_PROTOCOL_OPTIONS: typed(UpstreamOptions(explicit_http_config=explicit))}


def connect_after_first_byte(proxy: TcpProxy) -> None:
    """The backend gets a connection when the client has sent something."""
    _connect(proxy, UpstreamConnectMode.ON_DOWNSTREAM_DATA)


def connect_after_handshake(proxy: TcpProxy) -> None:
    """The backend gets a connection when the client has shown its certificate, if it must."""
    _connect(proxy, UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE)


def _connect(proxy: TcpProxy, mode: UpstreamConnectMode) -> None:
    proxy.upstream_connect_mode = mode
    proxy.max_early_data_bytes = _EARLY_BYTES
