"""What the Envoy of one pod has to do, without a word of Envoy.

`mesh.datapath` makes a `ProxyView` for each pod that needs one, `xds.render` Envoy's resources of it.
A view holds everything that shapes them, so equal views mean equal resources.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.model import (
    Backend,
    Direction,
    HttpMatch,
    ObjectRef,
    RouteMatch,
    RouteRule,
    ServiceName,
    WorkloadName,
)

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
class L7Class:
    """The set of HTTP rules that apply to some callers and ports (rule 5). `number` names the
    set, not its content: an edit of a rule in place keeps it, so it binds live connections."""

    number: int
    direction: Direction
    rules: tuple[HttpRule, ...]


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
class ProxyView:
    """Everything that the Envoy of `pod` serves. All tuples are sorted."""

    pod: WorkloadName
    routed: tuple[RoutedPort, ...] = ()
    destinations: tuple[Destination, ...] = ()
    egress: tuple[L7Class, ...] = ()
    ingress: tuple[L7Class, ...] = ()
    reasons: tuple[str, ...] = ()
