"""What a DestinationRule says: subsets of a service, and how connections to it are balanced, bounded,
watched and secured. None is "not said" everywhere, so that the next level up counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mesh.model.names import ObjectRef
from mesh.model.selection import Callers

Simple = Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"]
#: How connections begin: with the addresses of the client's, as text or binary.
ProxyProtocol = Literal["V1", "V2"]


@dataclass(frozen=True, slots=True)
class HashKey:
    """What consistent hashing looks at: a header or query parameter by `name`, a cookie (`ttl_ms` 0 is a
    session cookie, None: only one that is there) at `path`, or the caller's address."""

    kind: Literal["header", "cookie", "query", "source_ip"]
    name: str = ""
    path: str = ""
    ttl_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of what callers in `origin` send, this many hundredths go to each of these places; other places get
    nothing. Both are patterns: `region/zone/subzone`, of which `*` or what is left out is any."""

    origin: str
    to: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LocalitySetting:
    """Which backends a caller prefers by where both are: shares for places (`distribute`), or the nearest
    first. How near a backend is say the labels of `priority` (`key`: it has the caller's value; `key=value`:
    that one), of which the first that differs counts, or else region, zone and subzone. From a region that
    `failover` names the next one after the own is (from, to)."""

    enabled: bool = True
    distribute: tuple[Distribution, ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    priority: tuple[str, ...] = ()


#: The nearest first, where an Envoy can tell that those fail.
NO_ORDER = LocalitySetting()


@dataclass(frozen=True, slots=True)
class Balancer:
    """`hash` None: `simple` counts. A ring has at least `ring_size` entries, a Maglev table `table_size`
    (0: not Maglev). A new backend gets its full share after `warmup_ms`, beginning with `warmup_percent`.
    `locality` None: that of the Service or of the mesh."""

    simple: Simple = "LEAST_REQUEST"
    hash: HashKey | None = None
    ring_size: int = 1024
    table_size: int = 0
    warmup_ms: int = 0
    warmup_percent: int = 10
    warmup_aggression: float = 1.0
    locality: LocalitySetting | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits; None is none. Times are milliseconds; `keepalive` are probes, idle time and interval, 0 the
    system's; `pings` (HTTP/2) the interval and how long the answer may take."""

    max_connections: int | None = None
    connect_timeout_ms: int | None = None
    keepalive: tuple[int, int, int] | None = None
    connection_lifetime_ms: int | None = None
    tcp_idle_ms: int | None = None
    max_pending: int | None = None
    max_requests: int | None = None
    requests_per_connection: int | None = None
    max_retries: int | None = None
    idle_ms: int | None = None
    max_streams: int | None = None
    upgrade: Literal["DEFAULT", "UPGRADE", "DO_NOT_UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    pings: tuple[int, int] | None = None

    @property
    def of_requests(self) -> bool:
        """Does it say anything that only who sees requests can do?"""
        said = (self.max_pending, self.max_requests, self.requests_per_connection, self.max_retries)
        return (
            any(v is not None for v in (*said, self.max_streams, self.idle_ms)) or self.upgrade == "UPGRADE"
        )


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """So many of the requests that are on their way may be tried again at once, and `at_least` so many: those
    of this moment, or of the last `interval_ms`. In place of `ConnectionPool.max_retries`."""

    percent: float = 20.0
    at_least: int = 3
    interval_ms: int = 0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What is no request goes to `authority` by way of the backend, which is asked for that with CONNECT or
    `post`."""

    authority: str
    post: bool = False


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When a backend is left out for a while. Times are milliseconds; None is Istio's default, 0 errors
    switch a kind of error off."""

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    local_errors: int | None = None
    split_local_errors: bool = False
    interval_ms: int = 10_000
    ejection_ms: int = 30_000
    max_ejection_percent: int = 10
    min_health_percent: int = 0


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How an Envoy secures what it sends. Files are paths on the proxy. The other end's certificate must hold
    one of `names` (or, without any, the name that is asked for) and come from `authorities`: a file, PEM, or
    "" for the system's, and not be among what those have `revoked`: likewise, "" for nothing. With a
    `credential`, the name of a Secret in the namespace of who sends, all of that stands there: for Gateways,
    and for the workloads that a rule selects (`selected`). ISTIO_MUTUAL has it from the mesh, as far as it is
    not said."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
    sni: str = ""
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    authorities: str | bytes = ""
    revoked: str | bytes = ""
    verify: bool = True
    credential: str = ""
    selected: bool = False


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    balancer: Balancer | None = None
    pool: ConnectionPool | None = None
    outliers: OutlierDetection | None = None
    tls: ClientTls | None = None
    retry_budget: RetryBudget | None = None
    proxy_protocol: ProxyProtocol | None = None
    tunnel: Tunnel | None = None

    def over(self, below: TrafficPolicy) -> TrafficPolicy:
        """This one where it says something, else the one below."""
        return TrafficPolicy(
            self.balancer or below.balancer,
            self.pool or below.pool,
            self.outliers or below.outliers,
            self.tls or below.tls,
            self.retry_budget or below.retry_budget,
            self.proxy_protocol or below.proxy_protocol,
            self.tunnel or below.tunnel,
        )


#: Where nobody has said anything.
NO_TRAFFIC_POLICY = TrafficPolicy()


@dataclass(frozen=True, slots=True)
class Subset:
    """The backends whose pods have these labels. `ports` are port-level settings, as below."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    policy: TrafficPolicy = NO_TRAFFIC_POLICY
    ports: tuple[tuple[int, TrafficPolicy], ...] = ()


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """`host` is the full name of a service, or a pattern (`*`, `*.example.com`). `ports` say it of one port,
    and what they leave out is the default, not what stands above (istio/api, portLevelSettings).
    `exported` as for routes; with `callers` it is for those only."""

    ref: ObjectRef
    created: str
    host: str
    policy: TrafficPolicy = NO_TRAFFIC_POLICY
    ports: tuple[tuple[int, TrafficPolicy], ...] = ()
    subsets: tuple[Subset, ...] = ()
    exported: tuple[str, ...] = ("*",)
    callers: Callers | None = None

    def policy_for(self, subset: str, port: int) -> TrafficPolicy:
        """What counts for a port of a subset ("": the whole service): the subset's over the rule's, and of
        either its port-level settings in place of the others. Those of a subset are all there is. Beside any
        stands a tunnel, for which Istio does not ask ports."""
        chosen = next((found for found in self.subsets if found.name == subset), None)
        own, tunnel = dict(self.ports).get(port, self.policy), self.policy.tunnel
        if chosen is not None:
            own = dict(chosen.ports).get(port) or chosen.policy.over(own)
            tunnel = chosen.policy.tunnel or tunnel
        return own if own.tunnel == tunnel else replace(own, tunnel=tunnel)

    @property
    def policies(self) -> tuple[TrafficPolicy, ...]:
        """All that it says, of whatever subset and port."""
        found = [self.policy, *(policy for _, policy in self.ports)]
        for subset in self.subsets:
            found += [subset.policy, *(policy for _, policy in subset.ports)]
        return tuple(found)
