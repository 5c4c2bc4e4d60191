"""Short forms for the views that tests render."""

from __future__ import annotations

from typing import Any

from mesh.model import (
    Backend,
    Direction,
    HttpMatch,
    ObjectRef,
    PathMatch,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    WorkloadName,
)
from mesh.proxy import Destination, HttpRule, L7Class, Part, ProxyView, RoutedPort, RouteEntry

POD = WorkloadName("shop", "web")
ROUTE = ObjectRef("HTTPRoute", "shop", "api")
POLICY = ObjectRef("CiliumNetworkPolicy", "shop", "web")


def service(name: str) -> ServiceName:
    return ServiceName("shop", name)


def to(name: str, weight: int = 1, **fields: Any) -> RouteBackend:
    return RouteBackend(service(name), 80, weight, **fields)


def nowhere(weight: int = 1) -> RouteBackend:
    return RouteBackend(None, 80, weight)


def prefix(path: str, **fields: Any) -> RouteMatch:
    return RouteMatch(PathMatch("prefix", path), **fields)


def exact(path: str, **fields: Any) -> RouteMatch:
    return RouteMatch(PathMatch("exact", path), **fields)


def regex(path: str, **fields: Any) -> RouteMatch:
    return RouteMatch(PathMatch("regex", path), **fields)


def entry(match: RouteMatch, *backends: RouteBackend, field: str = "rules[0]", **fields: Any) -> RouteEntry:
    return RouteEntry(ROUTE, match, RouteRule(field, (match,), backends, **fields))


def routed(name: str, *entries: RouteEntry, port: int = 80) -> RoutedPort:
    return RoutedPort(service(name), port, ("10.128.0.7", "fd51:ce:0:2::7"), entries)


def destination(name: str, *parts: Part) -> Destination:
    return Destination(service(name), 80, parts)


def part(*ports: int, l7: int = 0, address: str = "127.0.0.1") -> Part:
    return Part(l7, tuple(Backend(address, port) for port in ports))


def l7(number: int, direction: Direction, *matches: HttpMatch, field: str = "") -> L7Class:
    rule = HttpRule(POLICY, field or f"{direction}[0].toPorts[0]", matches)
    return L7Class(number, direction, (rule,))


def view(**fields: Any) -> ProxyView:
    return ProxyView(POD, **fields)
