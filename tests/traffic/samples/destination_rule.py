"""Every field of DestinationRule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.traffic.samples.sample import Sample, new, put, same_but_for
from tests.traffic.shop import Object, destination_rule, placed, to, versions, virtual_service

_WATCHED = destination_rule(trafficPolicy={"outlierDetection": {"consecutive5xxErrors": 3}})
_RANDOM = destination_rule(trafficPolicy={"loadBalancer": {"simple": "RANDOM"}})
_HASHED = destination_rule(trafficPolicy={"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}})
_PORT_LEVEL = [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}]
_POOL = "trafficPolicy.connectionPool"
_BALANCER = "trafficPolicy.loadBalancer"
_PLACES = f"{_BALANCER}.localityLbSetting"
_HASH = "trafficPolicy.loadBalancer.consistentHash"


def _policy(field: str, value: Any) -> Object:
    """A DestinationRule with one field."""
    for name in reversed(field.split(".")):
        value = {name: value}
    return destination_rule(**value)


def _pooled(field: str, value: Any) -> Sample:
    """Beside something that brings an Envoy."""
    name = f"{_POOL}.{field}"
    kind, _, own = field.partition(".")
    beside = put(_WATCHED, f"spec.{_POOL}", {kind: {own: value}})
    return Sample((_WATCHED,), (beside,), (_policy(name, value),))


def _balanced(field: str, value: Any) -> Sample:
    beside = put(_WATCHED, "spec.trafficPolicy.loadBalancer", {field: value})
    return Sample((_WATCHED,), (beside,), (_policy(f"trafficPolicy.loadBalancer.{field}", value),))


def _hashed(field: str, value: Any) -> Sample:
    by_address = _policy(f"{_HASH}.useSourceIp", True)
    return same_but_for(
        _HASHED, f"spec.{_HASH}.{field}", value, (put(by_address, f"spec.{_HASH}.{field}", value),)
    )


def _by_place(base: Object, field: str, value: Any) -> Sample:
    """Among pods in two regions."""
    there = placed(client="east.a", one="east.a", two="west.b")
    name = f"{_PLACES}.{field}"
    alone = (*there, _policy(name, value))
    beside = put(base, f"spec.{_BALANCER}", {"localityLbSetting": {field: value}})
    return Sample((*there, base), (*there, beside), alone)


def _subset(field: str, value: Any) -> Sample:
    routed = virtual_service({"route": [to(subset="v1")]})
    plain = virtual_service(tcp=[{"route": [to(subset="v1")]}])
    changed = put(versions(), f"spec.subsets[].{field}", value)
    return Sample((versions(), routed), (changed, routed), (changed, plain))


SAMPLES: Mapping[str, Sample] = {
    "host": same_but_for(_WATCHED, "spec.host", "shadow", (destination_rule(host="shadow"),)),
    "exportTo": same_but_for(_WATCHED, "spec.exportTo", ["far"], (destination_rule(exportTo=["."]),)),
    "workloadSelector": same_but_for(
        _WATCHED, "spec.workloadSelector", {"matchLabels": {"team": "b"}}, (destination_rule(),)
    ),
    "subsets[].name": _subset("name", "other"),
    "subsets[].labels": _subset("labels", {"version": "v2"}),
    "subsets[].trafficPolicy": _subset("trafficPolicy", {"loadBalancer": {"simple": "RANDOM"}}),
    "trafficPolicy.portLevelSettings": same_but_for(
        _WATCHED,
        "spec.trafficPolicy.portLevelSettings",
        _PORT_LEVEL,
        (destination_rule(trafficPolicy={"portLevelSettings": _PORT_LEVEL}),),
    ),
    "trafficPolicy.loadBalancer.simple": _balanced("simple", "RANDOM"),
    "trafficPolicy.loadBalancer.warmup": new(
        _policy("trafficPolicy.loadBalancer", {"simple": "ROUND_ROBIN", "warmup": {"duration": "60s"}})
    ),
    "trafficPolicy.loadBalancer.warmupDurationSecs": new(
        _policy("trafficPolicy.loadBalancer", {"simple": "ROUND_ROBIN", "warmupDurationSecs": "60s"})
    ),
    f"{_PLACES}.distribute": _by_place(
        _RANDOM, "distribute", [{"from": "east", "to": {"east": 80, "west": 20}}]
    ),
    f"{_PLACES}.failover": _by_place(_RANDOM, "failover", [{"from": "east", "to": "west"}]),
    f"{_PLACES}.failoverPriority": _by_place(_RANDOM, "failoverPriority", ["topology.kubernetes.io/region"]),
    f"{_PLACES}.enabled": _by_place(_WATCHED, "enabled", False),
    f"{_HASH}.httpHeaderName": new(_HASHED),
    f"{_HASH}.httpCookie": new(_policy(f"{_HASH}.httpCookie", {"name": "user", "ttl": "0s"})),
    f"{_HASH}.httpQueryParameterName": new(_policy(f"{_HASH}.httpQueryParameterName", "user")),
    f"{_HASH}.useSourceIp": new(_policy(f"{_HASH}.useSourceIp", True)),
    f"{_HASH}.minimumRingSize": _hashed("minimumRingSize", 4096),
    f"{_HASH}.ringHash": _hashed("ringHash", {"minimumRingSize": 4096}),
    f"{_HASH}.maglev": _hashed("maglev", {"tableSize": 251}),
    f"{_POOL}.tcp.maxConnections": new(_policy(f"{_POOL}.tcp.maxConnections", 10)),
    f"{_POOL}.tcp.connectTimeout": _pooled("tcp.connectTimeout", "30ms"),
    f"{_POOL}.tcp.tcpKeepalive": _pooled("tcp.tcpKeepalive", {"probes": 3}),
    f"{_POOL}.tcp.idleTimeout": _pooled("tcp.idleTimeout", "30s"),
    f"{_POOL}.tcp.maxConnectionDuration": _pooled("tcp.maxConnectionDuration", "1h"),
    f"{_POOL}.http.http1MaxPendingRequests": new(_policy(f"{_POOL}.http.http1MaxPendingRequests", 1)),
    f"{_POOL}.http.http2MaxRequests": new(_policy(f"{_POOL}.http.http2MaxRequests", 1)),
    f"{_POOL}.http.maxRequestsPerConnection": new(_policy(f"{_POOL}.http.maxRequestsPerConnection", 1)),
    f"{_POOL}.http.maxRetries": new(_policy(f"{_POOL}.http.maxRetries", 1)),
    f"{_POOL}.http.maxConcurrentStreams": new(_policy(f"{_POOL}.http.maxConcurrentStreams", 1)),
    f"{_POOL}.http.idleTimeout": new(_policy(f"{_POOL}.http.idleTimeout", "5s")),
    f"{_POOL}.http.h2UpgradePolicy": new(_policy(f"{_POOL}.http.h2UpgradePolicy", "UPGRADE")),
    f"{_POOL}.http.http2KeepAlive": _pooled("http.http2KeepAlive", {"interval": "5s", "timeout": "1s"}),
    f"{_POOL}.http.useClientProtocol": _pooled("http.useClientProtocol", True),
    "trafficPolicy.outlierDetection": new(_WATCHED),
    "trafficPolicy.proxyProtocol": new(_policy("trafficPolicy.proxyProtocol", {"version": "V2"})),
    "trafficPolicy.tunnel": new(
        _policy("trafficPolicy.tunnel", {"targetHost": "db.example", "targetPort": 5432})
    ),
    "trafficPolicy.retryBudget": new(_policy("trafficPolicy.retryBudget", {"percent": 10})),
    "trafficPolicy.tls": new(_policy("trafficPolicy.tls", {"mode": "SIMPLE"})),
}
