"""Where Envoy connects to: one cluster for each service port and egress verdict, and the pass-throughs.

A cluster whose backends an egress L7 class judges denies every request for which the route brings no rules:
its RBAC stands on the upstream side, after routing, and so judges what the backend will read.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    BindConfig,
    ConfigSource,
    ExtraSourceAddress,
    SocketAddress,
)
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from mesh.listener import INGRESS_SOURCES
from mesh.model import Direction
from xds.render import naming, protocol
from xds.render.encoding import encode, typed
from xds.render.rbac import deny_all

CONNECT_TIMEOUT = timedelta(seconds=10)
_UNLIMITED = (1 << 32) - 1


@lru_cache(maxsize=65536)
def service_cluster(name: str, judged: bool) -> bytes:
    """A service port's backends, over EDS; `judged` says that an egress L7 class applies to them."""
    return encode(
        Cluster(
            name=name,
            type=ClusterDiscoveryType.EDS,
            eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads(), service_name=name),
            connect_timeout=CONNECT_TIMEOUT,
            lb_policy=ClusterLbPolicy.LEAST_REQUEST,
            circuit_breakers=no_breakers(),
            typed_extension_protocol_options=protocol.upstream(_judging_filters() if judged else ()),
        )
    )


@cache
def passthrough_cluster(direction: Direction) -> bytes:
    """To the original destination. Inbound, from addresses that the kernel knows to be Envoy's."""
    cluster = Cluster(
        name=naming.passthrough(direction),
        type=ClusterDiscoveryType.ORIGINAL_DST,
        connect_timeout=CONNECT_TIMEOUT,
        lb_policy=ClusterLbPolicy.CLUSTER_PROVIDED,
        circuit_breakers=no_breakers(),
        typed_extension_protocol_options=protocol.upstream(),
    )
    if direction == "ingress":
        v4, v6 = (SocketAddress(address=address, port_value=0) for address in INGRESS_SOURCES)
        cluster.upstream_bind_config = BindConfig(
            source_address=v4, extra_source_addresses=[ExtraSourceAddress(address=v6)]
        )
    return encode(cluster)


@cache
def nowhere() -> bytes:
    """A cluster without any endpoint."""
    return encode(
        Cluster(name=naming.NOWHERE, type=ClusterDiscoveryType.STATIC, connect_timeout=CONNECT_TIMEOUT)
    )


def ads() -> ConfigSource:
    """Over the stream that everything comes by."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


@cache
def _judging_filters() -> tuple[HttpFilter, ...]:
    return deny_all(), HttpFilter(name=naming.UPSTREAM_CODEC, typed_config=typed(UpstreamCodec()))


def no_breakers() -> CircuitBreakers:
    """Nobody asked for limits (rule 22), and Envoy's defaults are low ones."""
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=_UNLIMITED,
                max_pending_requests=_UNLIMITED,
                max_requests=_UNLIMITED,
                max_retries=_UNLIMITED,
            )
        ]
    )
