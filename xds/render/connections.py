"""Where Envoy sends connections of a routed port that it does not look into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    TcpProxyTunnelingConfig,
    TcpProxyWeightedCluster,
    TcpProxyWeightedClusterClusterWeight,
)

from mesh.model import NO_TRAFFIC_POLICY, ConnectionRule, TrafficPolicy, Tunnel
from mesh.proxy import AccessLog, Target
from xds.render import access_log, balancing, naming, protocol
from xds.render.encoding import typed

#: How targets are reached, where somebody says something of that.
Policies = Mapping[Target, TrafficPolicy]


def onward(
    rule: ConnectionRule,
    policies: Policies,
    listener: str,
    logs: tuple[AccessLog, ...] = (),
    *,
    ends_tls: bool = False,
) -> Filter:
    """Backends that an egress class judges by requests get nothing here: there are none to judge. Where TLS
    ends they get a connection when the handshake is over, so that nobody reaches them who shows no
    certificate."""
    tunnel = _tunnel(rule, policies)
    found = list(_weighted(rule, policies, tunnel))
    name = naming.NO_BACKEND if not found else found[0].name
    # Of several destinations the first that says something counts: a connection has one idle time.
    told = [policies[target] for target in map(Target.of, rule.backends) if target and target in policies]
    keys = (policy.balancer.hash for policy in told if policy.balancer)
    idle = (policy.pool.tcp_idle_ms for policy in told if policy.pool)
    proxy = TcpProxy(
        stat_prefix=name,
        idle_timeout=timedelta(milliseconds=next(filter(None, idle), 0)),
        hash_policy=balancing.connection_hash(next(filter(None, keys), None)),
    )
    if tunnel:
        proxy.tunneling_config = TcpProxyTunnelingConfig(hostname=tunnel.authority, use_post=tunnel.post)
    access_log.tell(proxy, listener, logs)
    if ends_tls:
        protocol.connect_after_handshake(proxy)
    if len(found) > 1:
        proxy.weighted_clusters = TcpProxyWeightedCluster(clusters=found)
    else:
        proxy.cluster = name
    return Filter(name=naming.TCP_PROXY, typed_config=typed(proxy))


def _tunnel(rule: ConnectionRule, policies: Policies) -> Tunnel | None:
    """A connection has one, and begins before a destination is chosen: that of the first one."""
    targets = (Target.of(backend) for backend in rule.backends if backend.weight)
    first = next(filter(None, targets), None)
    return policies[first].tunnel if first and first in policies else None


def _weighted(
    rule: ConnectionRule, policies: Policies, tunnel: Tunnel | None
) -> Iterator[TcpProxyWeightedClusterClusterWeight]:
    """A destination with another tunnel, or without, gets nothing: it would not understand what it heard."""
    for backend in rule.backends:
        if backend.weight:
            target = Target.of(backend)
            alike = target and policies.get(target, NO_TRAFFIC_POLICY).tunnel == tunnel
            name = naming.cluster(target, 0) if target and alike else naming.NO_BACKEND
            yield TcpProxyWeightedClusterClusterWeight(name=name, weight=backend.weight)
