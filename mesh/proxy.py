"""What the Envoy of one pod has to do, without a word of Envoy.

`mesh.datapath` makes a `ProxyView` for each pod that needs one, `xds.render` Envoy's resources of it.
A view holds everything that shapes them, so equal views mean equal resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.model import (
    AuthorizationProvider,
    AuthorizationRule,
    Backend,
    CustomTag,
    Direction,
    HttpMatch,
    NamePattern,
    ObjectRef,
    PathNormalization,
    RouteMatch,
    RouteRule,
    ServiceName,
    TracingProvider,
    WorkloadName,
)
from mesh.node import Canonical

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
class L7Class:
    """The set of L7 rules that apply to some callers and ports (rule 5). `number` names the set,
    not its content: an edit of a rule in place keeps it, so it binds live connections.

    A connection that begins as HTTP (where `http`) needs for each request one of `rules` (None:
    none is asked for) and the consent of `authorization`, judged in the order custom, deny, allow.
    A TLS hello needs, where `server_names` are, one of them. Any other connection, and TLS where
    they are not, needs the consent of `plain` (None: it is closed). `audit` are the rules that
    requests would need if policies in audit mode counted; None: the same as now.
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

    @property
    def keys(self) -> frozenset[str]:
        """The rules for which it exists."""
        asked = (f"{part.origin} {rule.field}" for part in self.authorization for rule in part.rules)
        return frozenset({*(rule.key for rule in self._network()), *asked})

    @property
    def origins(self) -> frozenset[ObjectRef]:
        """The policies behind them."""
        authorizations = (part.origin for part in self.authorization)
        return frozenset({*(rule.origin for rule in self._network()), *authorizations})

    def _network(self) -> tuple[HttpRule | ServerNameRule, ...]:
        return (*(self.rules or ()), *(self.server_names or ()), *(self.audit or ()))


@dataclass(frozen=True, slots=True)
class Part:
    """Backends of a service port that share a verdict for this caller: `l7` is the number of the
    egress class that judges requests to them, 0 for none. Denied backends are in no part."""

    l7: int
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """A service port that some route of this proxy sends to."""

    service: ServiceName
    port: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One match of one rule; entries stand in the order of precedence, first match wins."""

    origin: ObjectRef
    match: RouteMatch
    rule: RouteRule


@dataclass(frozen=True, slots=True)
class RoutedPort:
    """A service address:port whose requests this proxy routes; no entry matches: 404."""

    service: ServiceName
    port: int
    vips: tuple[str, ...]
    entries: tuple[RouteEntry, ...]


@dataclass(frozen=True, slots=True)
class Tracing:
    """Spans of the requests that `pod` sends or gets: who takes them, how many of ALL begin a trace here,
    what tags they have, and what the pod is called in them. Whose caller traces is traced."""

    provider: TracingProvider
    sampling: int
    tags: tuple[CustomTag, ...]
    pod: WorkloadName
    service_name: str
    canonical: Canonical


@dataclass(frozen=True, slots=True)
class ProxyView:
    """Everything that the Envoy of `pod` serves. All tuples are sorted."""

    pod: WorkloadName
    routed: tuple[RoutedPort, ...] = ()
    destinations: tuple[Destination, ...] = ()
    egress: tuple[L7Class, ...] = ()
    ingress: tuple[L7Class, ...] = ()
    reasons: tuple[str, ...] = ()
    egress_tracing: Tracing | None = None
    ingress_tracing: Tracing | None = None
