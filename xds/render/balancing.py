"""Load balancing of a DestinationRule (istio/api, LoadBalancerSettings) in Envoy's terms: the policy of a
cluster, and what a route or a connection is hashed by."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterCommonLbConfigLocalityWeightedLbConfig,
    ClusterLbPolicy,
    ClusterLeastRequestLbConfig,
    ClusterMaglevLbConfig,
    ClusterRingHashLbConfig,
    ClusterRoundRobinLbConfig,
    ClusterSlowStartConfig,
)
from envoy_data_plane.envoy.config.core.v3 import RuntimeDouble
from envoy_data_plane.envoy.config.route.v3 import (
    RouteActionHashPolicy,
    RouteActionHashPolicyConnectionProperties,
    RouteActionHashPolicyCookie,
    RouteActionHashPolicyHeader,
    RouteActionHashPolicyQueryParameter,
)
from envoy_data_plane.envoy.type.v3 import HashPolicy, HashPolicySourceIp, Percent

from mesh.model import Balancer, HashKey

_SOURCE = HashKey("source_ip")
#: Envoy's default size of a Maglev table.
_TABLE = 65537

_POLICIES = {
    "LEAST_REQUEST": ClusterLbPolicy.LEAST_REQUEST,
    "ROUND_ROBIN": ClusterLbPolicy.ROUND_ROBIN,
    "RANDOM": ClusterLbPolicy.RANDOM,
    "PASSTHROUGH": ClusterLbPolicy.CLUSTER_PROVIDED,
}


def to_the_dialled_address(balancer: Balancer | None) -> bool:
    """PASSTHROUGH: Envoy dials the service address, behind which the kernel chooses."""
    return balancer is not None and balancer.simple == "PASSTHROUGH" and balancer.hash is None


def of_datagrams(balancer: Balancer | None) -> Balancer:
    """What UDP makes of it: of a client only the address is known, and nothing tells how loaded a backend
    is: what is neither RANDOM nor ROUND_ROBIN goes by the address."""
    found = balancer or Balancer()
    if found.hash is not None or found.simple in ("RANDOM", "ROUND_ROBIN"):
        return found
    return replace(found, hash=_SOURCE, table_size=_TABLE)


def balance(cluster: Cluster, balancer: Balancer | None) -> None:
    """Istio's default is LEAST_REQUEST."""
    found = balancer or Balancer()
    if found.hash is not None:
        if found.table_size:
            cluster.lb_policy = ClusterLbPolicy.MAGLEV
            cluster.maglev_lb_config = ClusterMaglevLbConfig(table_size=found.table_size)
        else:
            cluster.lb_policy = ClusterLbPolicy.RING_HASH
            cluster.ring_hash_lb_config = ClusterRingHashLbConfig(minimum_ring_size=found.ring_size)
        return
    cluster.lb_policy = _POLICIES[found.simple]
    if found.warmup_ms and found.simple in ("LEAST_REQUEST", "ROUND_ROBIN"):
        slow_start = ClusterSlowStartConfig(
            slow_start_window=timedelta(milliseconds=found.warmup_ms),
            min_weight_percent=Percent(value=float(found.warmup_percent)),
        )
        if found.warmup_aggression != 1:
            slow_start.aggression = RuntimeDouble(
                default_value=found.warmup_aggression, runtime_key="sluice.warmup_aggression"
            )
        if found.simple == "ROUND_ROBIN":
            cluster.round_robin_lb_config = ClusterRoundRobinLbConfig(slow_start_config=slow_start)
        else:
            cluster.least_request_lb_config = ClusterLeastRequestLbConfig(slow_start_config=slow_start)


def share_by_place(cluster: Cluster) -> None:
    """The weights of localities count."""
    if cluster.common_lb_config is None:
        cluster.common_lb_config = ClusterCommonLbConfig()
    cluster.common_lb_config.locality_weighted_lb_config = ClusterCommonLbConfigLocalityWeightedLbConfig()


def route_hash(key: HashKey) -> RouteActionHashPolicy:
    """What requests of a route are hashed by."""
    match key.kind:
        case "header":
            return RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=key.name))
        case "query":
            return RouteActionHashPolicy(query_parameter=RouteActionHashPolicyQueryParameter(name=key.name))
        case "cookie":
            cookie = RouteActionHashPolicyCookie(name=key.name, path=key.path)
            if key.ttl_ms is not None:
                cookie.ttl = timedelta(milliseconds=key.ttl_ms)
            return RouteActionHashPolicy(cookie=cookie)
        case "source_ip":
            return RouteActionHashPolicy(
                connection_properties=RouteActionHashPolicyConnectionProperties(source_ip=True)
            )


def connection_hash(key: HashKey | None) -> list[HashPolicy]:
    """The same for whole connections, of which only the address is known."""
    return [HashPolicy(source_ip=HashPolicySourceIp())] if key and key.kind == "source_ip" else []
