"""Connection pools and outlier detection of a DestinationRule in Envoy's terms.

Nobody asked for limits unless a rule says so (rule 22), and Envoy's defaults are low ones. Of outlier
detection what a rule leaves out is as in Istio: success rates eject nobody.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    CircuitBreakersThresholdsRetryBudget,
    Cluster,
    ClusterCommonLbConfig,
    OutlierDetection,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import TcpKeepalive
from envoy_data_plane.envoy.type.v3 import Percent

from mesh.model import ConnectionPool, RetryBudget
from mesh.model import OutlierDetection as Outliers

_UNLIMITED = (1 << 32) - 1
#: Of the sessions with a destination, where nobody says one.
_SESSIONS = 4096


@cache
def no_breakers() -> CircuitBreakers:
    return _breakers(ConnectionPool())


def limit(cluster: Cluster, pool: ConnectionPool | None, budget: RetryBudget | None = None) -> None:
    """What of a pool stands at the cluster; the rest is in its protocol options."""
    found = pool or ConnectionPool()
    cluster.circuit_breakers = _breakers(found, budget)
    if found.connect_timeout_ms is not None:
        cluster.connect_timeout = timedelta(milliseconds=found.connect_timeout_ms)
    if found.keepalive is not None:
        probes, *times = found.keepalive
        time, interval = (milliseconds // 1000 or None for milliseconds in times)
        cluster.upstream_connection_options = UpstreamConnectionOptions(
            tcp_keepalive=TcpKeepalive(
                keepalive_probes=probes or None, keepalive_time=time, keepalive_interval=interval
            )
        )


def of_sessions(pool: ConnectionPool | None) -> CircuitBreakers:
    """Of UDP: each session has a socket until nobody has spoken for a while, anybody can begin thousands from
    made-up ports, and an Envoy that gets no more sockets dies. So that there is always a limit."""
    said = pool.max_connections if pool else None
    return _breakers(ConnectionPool(max_connections=_SESSIONS if said is None else said))


def watch(cluster: Cluster, outliers: Outliers | None) -> None:
    if outliers is None:
        return
    found = OutlierDetection(
        interval=timedelta(milliseconds=outliers.interval_ms),
        base_ejection_time=timedelta(milliseconds=outliers.ejection_ms),
        max_ejection_percent=outliers.max_ejection_percent,
        enforcing_success_rate=0,
    )
    if outliers.consecutive_5xx is not None:
        found.consecutive_5xx = outliers.consecutive_5xx or None
        found.enforcing_consecutive_5xx = 100 if outliers.consecutive_5xx else 0
    if outliers.consecutive_gateway_errors is not None:
        found.consecutive_gateway_failure = outliers.consecutive_gateway_errors or None
        found.enforcing_consecutive_gateway_failure = 100 if outliers.consecutive_gateway_errors else 0
    if outliers.split_local_errors:
        found.split_external_local_origin_errors = True
        if outliers.local_errors is not None:
            found.consecutive_local_origin_failure = outliers.local_errors or None
            found.enforcing_consecutive_local_origin_failure = 100 if outliers.local_errors else 0
        found.enforcing_local_origin_success_rate = 0
    cluster.outlier_detection = found
    panic = Percent(value=float(outliers.min_health_percent))
    cluster.common_lb_config = ClusterCommonLbConfig(healthy_panic_threshold=panic)


def _breakers(pool: ConnectionPool, budget: RetryBudget | None = None) -> CircuitBreakers:
    def or_none(limit: int | None) -> int:
        return _UNLIMITED if limit is None else limit

    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=or_none(pool.max_connections),
                max_pending_requests=or_none(pool.max_pending),
                max_requests=or_none(pool.max_requests),
                max_retries=or_none(pool.max_retries),
                retry_budget=_budget(budget) if budget else None,
            )
        ]
    )


def _budget(budget: RetryBudget) -> CircuitBreakersThresholdsRetryBudget:
    """Beside it Envoy does not look at `max_retries`."""
    return CircuitBreakersThresholdsRetryBudget(
        budget_percent=Percent(value=budget.percent),
        min_retry_concurrency=budget.at_least,
        budget_interval=timedelta(milliseconds=budget.interval_ms) if budget.interval_ms else None,
    )
