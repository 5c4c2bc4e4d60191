"""Envoy's HTTP connection manager: what becomes of a connection on which requests come."""

from __future__ import annotations

from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerForwardClientCertDetails,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerSetCurrentClientCertDetails,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)

from mesh.model import PathNormalization
from mesh.proxy import AccessLog, Tracing
from xds.render import naming, protocol
from xds.render.access_log import access_log
from xds.render.access_logging import asked_for
from xds.render.encoding import typed
from xds.render.sources import ads
from xds.render.tracing import trace

#: Upgrades that pass; Envoy answers 403 to others.
UPGRADES = ("websocket",)

_SLASHES = HttpConnectionManagerPathWithEscapedSlashesAction


def http(
    routes: str,
    listener: str,
    default_host: str,
    http_filters: tuple[HttpFilter, ...],
    normalization: PathNormalization,
    tracing: Tracing | None = None,
    logs: tuple[AccessLog, ...] = (),
    *,
    edge: bool = False,
    mutual: bool = False,
) -> Filter:
    """The filter that serves the route configuration `routes`; at the `edge` of the mesh, where a Gateway is,
    the address of the peer is the client's, and is added to X-Forwarded-For, and limits are tighter. Of
    `tracing` only its `structure` counts; `logs` are those besides the agent's. Of clients that may come in
    `mutual` TLS the server is told who they are, and by nobody else."""
    decode = normalization == "DECODE_AND_MERGE_SLASHES"
    manager = HttpConnectionManager(
        stat_prefix=routes,
        rds=Rds(config_source=ads(), route_config_name=routes),
        http_filters=list(http_filters),
        access_log=[access_log(listener, traced=tracing is not None), *asked_for(logs)],
        common_http_protocol_options=protocol.downstream(edge=edge),
        http_protocol_options=protocol.downstream_http1(default_host),
        http2_protocol_options=protocol.http2(edge=edge),
        max_request_headers_kb=protocol.EDGE_HEADERS_KB if edge else protocol.MAX_HEADERS_KB,
        request_headers_timeout=protocol.EDGE_HEADERS_TIMEOUT if edge else None,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type=name) for name in UPGRADES],
        stream_idle_timeout=protocol.FOREVER,
        # Paths are judged as the backend will read them (`mesh.request_path`).
        normalize_path=normalization != "NONE",
        merge_slashes=decode or normalization == "MERGE_SLASHES",
        path_with_escaped_slashes_action=_SLASHES.UNESCAPE_AND_FORWARD if decode else _SLASHES.KEEP_UNCHANGED,
        # Nothing is added to the client's headers. Its address (`remote.ip`) is the last one that
        # X-Forwarded-For names, as with Istio's numTrustedProxies 0, else the peer's. Whoever that is, no
        # `internal_address_config` means that nobody is internal and may tell Envoy what to do by `x-envoy-*`
        # (threat N10); an empty one would mean all private addresses.
        use_remote_address=edge,
        generate_request_id=False,
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
    )
    if mutual:
        manager.forward_client_cert_details = HttpConnectionManagerForwardClientCertDetails.SANITIZE_SET
        manager.set_current_client_cert_details = HttpConnectionManagerSetCurrentClientCertDetails(
            subject=True, uri=True
        )
    return Filter(name=naming.HTTP_CONNECTION_MANAGER, typed_config=typed(trace(manager, tracing)))
