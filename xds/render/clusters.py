"""Where Envoy connects to: one cluster for each target and egress verdict, and the pass-throughs.

A cluster whose backends an egress L7 class judges denies every request for which the route brings no rules:
its RBAC stands on the upstream side, after routing, and so judges what the backend will read.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    BindConfig,
    ExtraSourceAddress,
    Metadata,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Struct, Value

from mesh.listener import INGRESS_SOURCES
from mesh.model import Direction, ObjectRef, OwnEndpoint, TrafficPolicy
from mesh.protocols import Version
from xds.render import balancing, limits, naming, protocol, proxy_protocol, upstream_tls
from xds.render.encoding import encode, typed
from xds.render.mutual_tls import Peers
from xds.render.rbac import deny_all
from xds.render.sources import ads

CONNECT_TIMEOUT = timedelta(seconds=10)


@lru_cache(maxsize=65536)
def service_cluster(
    name: str,
    judged: bool,
    policy: TrafficPolicy,
    version: Version = "client",
    peers: Peers | None = None,
    *,
    shared: bool = False,
    rule: ObjectRef | None = None,
) -> bytes:
    """A target's backends, over EDS; `judged` says that an egress L7 class applies to them, `shared` that
    places have shares, `peers` that some are spoken to in mutual TLS, `rule` which DestinationRule counts."""
    cluster = Cluster(
        name=name,
        connect_timeout=CONNECT_TIMEOUT,
        typed_extension_protocol_options=protocol.upstream(
            _judging_filters() if judged else (),
            policy.pool,
            version,
            sni_from_host=upstream_tls.follows_host(policy),
            verified=policy.tls is None or policy.tls.verify,
        ),
    )
    if balancing.to_the_dialled_address(policy.balancer):
        cluster.type = ClusterDiscoveryType.ORIGINAL_DST
    else:
        cluster.type = ClusterDiscoveryType.EDS
        cluster.eds_cluster_config = ClusterEdsClusterConfig(eds_config=ads(), service_name=name)
    balancing.balance(cluster, policy.balancer)
    limits.limit(cluster, policy.pool, policy.retry_budget)
    limits.watch(cluster, policy.outliers)
    if shared:
        balancing.share_by_place(cluster)
    upstream_tls.secure(cluster, policy.tls, peers)
    proxy_protocol.announce(cluster, policy.proxy_protocol)
    if rule:
        told = Struct(fields={"config": Value(string_value=naming.config(rule))})
        cluster.metadata = Metadata(filter_metadata={"istio": told})
    return encode(cluster)


@lru_cache(maxsize=1024)
def datagram_cluster(name: str, policy: TrafficPolicy, *, shared: bool = False) -> bytes:
    """A target's backends for UDP, over EDS. Of a policy count the balancer and its limit of connections."""
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads(), service_name=name),
        connect_timeout=CONNECT_TIMEOUT,
        circuit_breakers=limits.of_sessions(policy.pool),
    )
    balancing.balance(cluster, balancing.of_datagrams(policy.balancer))
    if shared:
        balancing.share_by_place(cluster)
    return encode(cluster)


@cache
def passthrough_cluster(direction: Direction) -> bytes:
    """To the original destination. Inbound, from addresses that the kernel knows to be Envoy's."""
    cluster = Cluster(
        name=naming.passthrough(direction),
        type=ClusterDiscoveryType.ORIGINAL_DST,
        connect_timeout=CONNECT_TIMEOUT,
        lb_policy=ClusterLbPolicy.CLUSTER_PROVIDED,
        circuit_breakers=limits.no_breakers(),
        typed_extension_protocol_options=protocol.upstream(),
    )
    if direction == "ingress":
        cluster.upstream_bind_config = _from_envoy()
    return encode(cluster)


@lru_cache(maxsize=1024)
def own_endpoint(name: str, endpoint: OwnEndpoint) -> bytes:
    """Where the pod itself listens for its Envoy (Sidecar, `ingress`)."""
    at = Address(pipe=Pipe(path=endpoint.address))
    if endpoint.port:
        at = Address(socket_address=SocketAddress(address=endpoint.address, port_value=endpoint.port))
    one = LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=Endpoint(address=at))])
    return encode(
        Cluster(
            name=name,
            type=ClusterDiscoveryType.STATIC,
            connect_timeout=CONNECT_TIMEOUT,
            circuit_breakers=limits.no_breakers(),
            typed_extension_protocol_options=protocol.upstream(),
            load_assignment=ClusterLoadAssignment(cluster_name=name, endpoints=[one]),
            upstream_bind_config=_from_envoy() if endpoint.port else None,
        )
    )


def _from_envoy() -> BindConfig:
    """Source addresses that the kernel knows to be Envoy's: what comes from them is not for it again."""
    v4, v6 = (SocketAddress(address=address, port_value=0) for address in INGRESS_SOURCES)
    return BindConfig(source_address=v4, extra_source_addresses=[ExtraSourceAddress(address=v6)])


@cache
def nowhere() -> bytes:
    """A cluster without any endpoint."""
    return encode(
        Cluster(name=naming.NO_BACKEND, type=ClusterDiscoveryType.STATIC, connect_timeout=CONNECT_TIMEOUT)
    )


@cache
def _judging_filters() -> tuple[HttpFilter, ...]:
    return deny_all(), HttpFilter(name=naming.UPSTREAM_CODEC, typed_config=typed(UpstreamCodec()))
