"""What the Envoy of one pod has to do, without a word of Envoy.

`mesh.datapath` makes a `ProxyView` for each pod that needs one, `xds.render` Envoy's resources of it.
A view holds everything that shapes them, so equal views mean equal resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from mesh.hashed import Hashed
from mesh.model import (
    NO_TRAFFIC_POLICY,
    AccessLogProvider,
    AuthorizationProvider,
    AuthorizationRule,
    Backend,
    ConnectionMatch,
    ConnectionRule,
    CustomTag,
    Direction,
    EnvoyPatch,
    FailStrategy,
    HttpMatch,
    IngressListener,
    JwtRule,
    Limit,
    Locality,
    Mirror,
    MutualTlsPort,
    NamePattern,
    ObjectRef,
    PathNormalization,
    PluginPhase,
    Protocol,
    RateLimitService,
    RouteBackend,
    RouteMatch,
    RouteRule,
    Secret,
    ServerTls,
    ServiceName,
    TracingProvider,
    TrafficPolicy,
    Transport,
    TrustBundle,
    WorkloadName,
)
from mesh.node import Canonical
from mesh.protocols import Version

#: The number of the listener that routes; L7 classes are numbered from FIRST_CLASS up.
ROUTING_LISTENER = 1
FIRST_CLASS = 256


@dataclass(frozen=True, slots=True)
class HttpRule:
    """The HTTP part of one policy rule: a request that any of `matches` fits is allowed."""

    origin: ObjectRef
    field: str
    matches: tuple[HttpMatch, ...]

    @property
    def key(self) -> str:
        """Such as `CiliumNetworkPolicy shop/web ingress[0].toPorts[0]`."""
        return f"{self.origin} {self.field}"


@dataclass(frozen=True, slots=True)
class ServerNameRule:
    """The SNI part of one policy rule: a TLS hello that names one of `patterns` is allowed."""

    origin: ObjectRef
    field: str
    patterns: tuple[NamePattern, ...]

    @property
    def key(self) -> str:
        return f"{self.origin} {self.field}"


@dataclass(frozen=True, slots=True)
class AuthorizationPart:
    """What is left of one AuthorizationPolicy for some callers and one port: terms about the
    connection are decided, rules that cannot fit are left out, so what remains is Envoy's to ask.

    A rule without any term fits every request. A part of action `allow` without rules allows none.
    """

    origin: ObjectRef
    action: Literal["allow", "deny", "audit", "custom"]
    rules: tuple[AuthorizationRule, ...]
    provider: AuthorizationProvider | None = None
    audit: bool = False


@dataclass(frozen=True, slots=True)
class AuthenticationPart:
    """One rule of a RequestAuthentication with its keys in place; without any it believes no token."""

    origin: ObjectRef
    rule: JwtRule

    @property
    def key(self) -> str:
        """Such as `RequestAuthentication shop/web jwtRules[0]`."""
        return f"{self.origin} {self.rule.field}"


@dataclass(frozen=True, slots=True)
class IngressPart:
    """What of a Sidecar is about one port."""

    origin: ObjectRef
    listener: IngressListener

    @property
    def key(self) -> str:
        """Such as `Sidecar shop/web ingress[0]`."""
        return f"{self.origin} {self.listener.field}"


@dataclass(frozen=True, slots=True)
class RateLimitPart:
    """The limits of one RateLimit, and who counts for all proxies (None: this one for itself)."""

    origin: ObjectRef
    limits: tuple[Limit, ...]
    counted_by: RateLimitService | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Such as `RateLimit shop/web limits[0]`."""
        return tuple(f"{self.origin} {limit.field}" for limit in self.limits)


@dataclass(frozen=True, slots=True)
class FilterPart:
    """What one EnvoyFilter changes of an Envoy."""

    origin: ObjectRef
    patches: tuple[EnvoyPatch, ...]


@dataclass(frozen=True, slots=True)
class PluginPart:
    """A filter that one WasmPlugin inserts where its patches say, and the module that it runs (empty: there
    is none, and `on_failure` decides)."""

    origin: ObjectRef
    patches: tuple[EnvoyPatch, ...]
    phase: PluginPhase
    on_failure: FailStrategy
    code: bytes = field(repr=False)
    name: str = ""
    config: str = ""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PatchKey:
    """A patch of an EnvoyFilter that is for the ports of a class; does it bring an Envoy?"""

    origin: ObjectRef
    field: str
    steers: bool

    def __str__(self) -> str:
        """Such as `EnvoyFilter shop/web configPatches[0]`."""
        return f"{self.origin} {self.field}"


@dataclass(frozen=True, slots=True)
class L7Class:
    """The set of L7 rules that apply to some callers and ports (rule 5). `number` names the set,
    not its content: an edit of a rule in place keeps it, so it binds live connections.

    A connection that begins as HTTP (where `http`) needs for each request that no token is bad
    (`authentication`), one of `rules` (None: none is asked for) and the consent of `authorization`,
    judged in the order custom, deny, allow, and a place in each of `limits`.
    A TLS hello needs, where `server_names` are, one of them. Any other connection, and TLS where
    they are not, needs the consent of `plain` (None: it is closed). Where there is `mutual`, all of that may
    come in mutual TLS, or must. `audit` are the rules that
    requests would need if policies in audit mode counted; None: the same as now. `ingress` says where it is
    handed on; None: where it was sent.
    """

    number: int
    direction: Direction
    rules: tuple[HttpRule, ...] | None = None
    server_names: tuple[ServerNameRule, ...] | None = None
    authorization: tuple[AuthorizationPart, ...] = ()
    plain: tuple[AuthorizationPart, ...] | None = None
    http: bool = True
    audit: tuple[HttpRule, ...] | None = None
    normalization: PathNormalization = "MERGE_SLASHES"
    authentication: tuple[AuthenticationPart, ...] = ()
    limits: tuple[RateLimitPart, ...] = ()
    #: Patches that are told apart by port.
    patches: tuple[PatchKey, ...] = ()
    mutual: MutualTlsPort | None = None
    ingress: IngressPart | None = None

    def at(self, addresses: Sequence[str]) -> L7Class:
        """The same for a workload with these addresses."""
        taken = self.ingress
        if taken is None or taken.listener.endpoint is None:
            return self
        listener = replace(taken.listener, endpoint=taken.listener.endpoint.of(addresses))
        return replace(self, ingress=replace(taken, listener=listener))

    @property
    def keys(self) -> frozenset[str]:
        """The rules for which it exists."""
        asked = (f"{part.origin} {rule.field}" for part in self.authorization for rule in part.rules)
        tokens = (part.key for part in self.authentication)
        limits = (key for part in self.limits for key in part.keys)
        patches = (str(key) for key in self.patches if key.steers)
        mutual = self.mutual.keys if self.mutual else ()
        taken = (self.ingress.key,) if self.ingress else ()
        return frozenset(
            {*(rule.key for rule in self._network()), *asked, *tokens, *limits, *patches, *mutual, *taken}
        )

    @property
    def origins(self) -> frozenset[ObjectRef]:
        """The policies behind them."""
        parts: tuple[AuthorizationPart | AuthenticationPart | RateLimitPart | PatchKey | IngressPart, ...]
        steering = (key for key in self.patches if key.steers)
        taken = (self.ingress,) if self.ingress else ()
        parts = (*self.authorization, *self.authentication, *self.limits, *steering, *taken)
        mutual = (ref for ref, _ in self.mutual.origins) if self.mutual else ()
        return frozenset(
            {*(rule.origin for rule in self._network()), *(part.origin for part in parts), *mutual}
        )

    def _network(self) -> tuple[HttpRule | ServerNameRule, ...]:
        return (*(self.rules or ()), *(self.server_names or ()), *(self.audit or ()))


class Place(NamedTuple):
    """Where a backend is, and how a caller likes that: those of the least `priority` are asked while any of
    them can be. Of places with a `weight` each gets its share, whatever the number of its backends."""

    priority: int
    locality: Locality
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Backends of a service port that share a verdict for this caller: `l7` is the number of the
    egress class that judges requests to them, 0 for none. Denied backends are in no part. `places` are those
    of the backends; without any all are alike."""

    l7: int
    backends: tuple[Backend, ...]
    places: tuple[Place, ...] = ()

    @property
    def count(self) -> int:
        """Its share beside other parts: the weight of its places, or its backends of the first priority."""
        if not self.places:
            return len(self.backends)
        weights = {place.locality: place.weight for place in self.places}
        return sum(weights.values()) or sum(not place.priority for place in self.places)


class Target(NamedTuple):
    """Where a route of this proxy sends: a service port, a subset of what stands behind it, or what stands
    there at one `address`."""

    service: ServiceName
    port: int
    subset: str = ""
    protocol: Protocol = "TCP"
    address: str = ""

    @classmethod
    def of(cls, named: RouteBackend | Mirror, protocol: Protocol = "TCP") -> Target | None:
        """What a rule names; None if it names nothing that could be reached."""
        if named.service is None:
            return None
        address = named.address if isinstance(named, RouteBackend) else ""
        return cls(named.service, named.port, named.subset, protocol, address)


@dataclass(frozen=True, slots=True)
class Destination(Hashed):
    """What stands behind a target for this proxy, and how it is to be reached: those of `mutual` in mutual
    TLS, whose hello asks for `server_name` ("": Istio's name of the target), and their certificates hold one
    of `names`, if there are any. `rule` is the DestinationRule that counts, if one does."""

    target: Target
    parts: tuple[Part, ...]
    policy: TrafficPolicy = NO_TRAFFIC_POLICY
    mutual: tuple[Backend, ...] = ()
    names: tuple[str, ...] = ()
    server_name: str = ""
    version: Version = "client"
    rule: ObjectRef | None = None

    __hash__ = Hashed.__hash__


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One match of one rule; entries stand in the order in which they are asked, the first that fits wins.
    Backends and mirrors of the rule have their ports."""

    origin: ObjectRef
    match: RouteMatch
    rule: RouteRule

    @property
    def targets(self) -> Iterator[Target]:
        """Everything to which it sends."""
        return _reachable(map(Target.of, self.rule.targets))


@dataclass(frozen=True, slots=True)
class ConnectionEntry:
    """One match of one rule about whole connections, likewise."""

    origin: ObjectRef
    match: ConnectionMatch
    rule: ConnectionRule

    @property
    def targets(self) -> Iterator[Target]:
        protocol = self.rule.protocol
        return _reachable(Target.of(backend, protocol) for backend in self.rule.backends)


@dataclass(frozen=True, slots=True)
class RoutedPort(Hashed):
    """A service address:port whose requests this proxy routes; no entry fits: 404. Connections that are not
    HTTP take `connections`; without any there are none such: what is not HTTP gets 400. Without `entries`
    nobody looks for HTTP. Of a headless service each `backend` is one, at its own address and port."""

    service: ServiceName
    port: int
    vips: tuple[str, ...]
    entries: tuple[RouteEntry, ...] = ()
    connections: tuple[ConnectionEntry, ...] = ()
    backend: Backend | None = None
    #: Everything to which it sends.
    targets: frozenset[Target] = field(init=False, compare=False, repr=False)
    #: The rules for which it exists, such as `HTTPRoute shop/api rules[0]`.
    keys: frozenset[str] = field(init=False, compare=False, repr=False)

    __hash__ = Hashed.__hash__

    def __post_init__(self) -> None:
        named = (f"{entry.origin} {entry.rule.field}" for entry in self.all if entry.rule.field)
        object.__setattr__(self, "targets", _targets(self.all))
        object.__setattr__(self, "keys", frozenset(named))

    @property
    def dialled(self) -> int:
        """The port that callers dial."""
        return self.backend.port if self.backend else self.port

    @property
    def address(self) -> str:
        """Of the backend, if it is of one."""
        return self.backend.address if self.backend else ""

    @property
    def all(self) -> tuple[RouteEntry | ConnectionEntry, ...]:
        return (*self.entries, *self.connections)

    @property
    def origins(self) -> frozenset[ObjectRef]:
        """The objects behind them."""
        return frozenset(entry.origin for entry in self.all)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """What requests for a host (a DNS name, `*.` and one, or `*`), or one of its other `names`, are asked, in
    order; with `https_redirect` every one is answered 301."""

    host: str
    entries: tuple[RouteEntry, ...]
    https_redirect: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayServer:
    """What a Gateway does with some connections to a port: those whose TLS hello asks for one of
    `server_names` (() any, or none). `name` is what Envoy calls its routes; with `tls` TLS ends here.
    Hosts of `elsewhere` are other servers' at the port: who asks for one here is on the wrong connection.
    Tokens of requests are judged by `authentication` before a route is chosen, which may ask for claims."""

    name: str
    origins: tuple[ObjectRef, ...]
    server_names: tuple[str, ...] = ()
    tls: ServerTls | None = None
    hosts: tuple[VirtualHost, ...] = ()
    connections: tuple[ConnectionEntry, ...] = ()
    http: bool = True
    elsewhere: tuple[str, ...] = ()
    authentication: tuple[AuthenticationPart, ...] = ()

    @property
    def all(self) -> tuple[RouteEntry | ConnectionEntry, ...]:
        return (*(entry for host in self.hosts for entry in host.entries), *self.connections)

    @property
    def targets(self) -> frozenset[Target]:
        """Everything to which it sends."""
        return _targets(self.all)


@dataclass(frozen=True, slots=True)
class GatewayPort:
    """A port of the pod at which it serves Gateways; `bind` is the one address ("": each). The servers of UDP
    have `connections` only. One that is `bound_by` a rule of a Sidecar is on loopback, for the pod itself."""

    port: int
    bind: str
    servers: tuple[GatewayServer, ...]
    transport: Transport = "TCP"
    bound_by: str = ""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Spans of the requests that `pod` sends or gets: who takes them, how many of ALL begin a trace here,
    what tags they have, and what the pod is called in them. Whose caller traces is traced. Unless sampling is
    `by_request_id` the tracer decides alone; tags of Istio's are among them if `istio_tags`."""

    provider: TracingProvider
    sampling: int
    tags: tuple[CustomTag, ...]
    pod: WorkloadName
    service_name: str
    canonical: Canonical
    by_request_id: bool = True
    istio_tags: bool = True


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One log of what a pod sends or gets: `filter` (CEL) says of what, "" of everything, `resource` what its
    records say of the pod."""

    provider: AccessLogProvider
    filter: str = ""
    resource: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyView:
    """Everything that the Envoy of `pod` serves. All tuples are sorted."""

    pod: WorkloadName
    routed: tuple[RoutedPort, ...] = ()
    destinations: tuple[Destination, ...] = ()
    egress: tuple[L7Class, ...] = ()
    ingress: tuple[L7Class, ...] = ()
    reasons: tuple[str, ...] = ()
    gateway: tuple[GatewayPort, ...] = ()
    credentials: tuple[Secret | TrustBundle, ...] = ()
    egress_tracing: Tracing | None = None
    ingress_tracing: Tracing | None = None
    egress_logs: tuple[AccessLog, ...] = ()
    ingress_logs: tuple[AccessLog, ...] = ()
    #: In the order in which they are applied.
    patches: tuple[FilterPart, ...] = ()
    #: In the order in which requests meet them.
    plugins: tuple[PluginPart, ...] = ()
    #: Secrets that DestinationRules name for what it sends.
    sent_with: tuple[Secret, ...] = ()
    #: Who it is in mutual TLS, such as `spiffe://cluster.local/ns/shop/sa/web`; "": it speaks none.
    identity: str = ""
    #: Of its loopback, at which its Envoy listens for it.
    bound: tuple[GatewayPort, ...] = ()


def _targets(entries: Iterable[RouteEntry | ConnectionEntry]) -> frozenset[Target]:
    return frozenset(target for entry in entries for target in entry.targets)


def _reachable(named: Iterable[Target | None]) -> Iterator[Target]:
    return (target for target in named if target is not None)
