"""Short forms for the views that tests render."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from mesh.model import (
    AuthorizationRule,
    Backend,
    CidrPeer,
    Direction,
    HttpMatch,
    ObjectRef,
    PathMatch,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    Term,
    TextMatch,
    WorkloadName,
)
from mesh.proxy import (
    AuthorizationPart,
    ConnectionEntry,
    Destination,
    HttpRule,
    L7Class,
    Part,
    ProxyView,
    RoutedPort,
    RouteEntry,
    Target,
)

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


def routed(
    name: str, *entries: RouteEntry, port: int = 80, connections: tuple[ConnectionEntry, ...] = ()
) -> RoutedPort:
    return RoutedPort(service(name), port, ("10.128.0.7", "fd51:ce:0:2::7"), entries, connections)


def destination(name: str, *parts: Part) -> Destination:
    return Destination(Target(service(name), 80), parts)


def part(*ports: int, l7: int = 0, address: str = "127.0.0.1") -> Part:
    return Part(l7, tuple(Backend(address, port) for port in ports))


def l7(number: int, direction: Direction, *matches: HttpMatch, field: str = "") -> L7Class:
    rule = HttpRule(POLICY, field or f"{direction}[0].toPorts[0]", matches)
    return L7Class(number, direction, (rule,))


def part_of(
    action: Literal["allow", "deny", "audit", "custom"],
    *rules: AuthorizationRule,
    name: str = "",
    **fields: Any,
) -> AuthorizationPart:
    numbered = tuple(replace(rule, field=f"rules[{index}]") for index, rule in enumerate(rules))
    return AuthorizationPart(
        ObjectRef("AuthorizationPolicy", "shop", name or action), action, numbered, **fields
    )


def when(*terms: Term) -> AuthorizationRule:
    """Fits if every term does."""
    return AuthorizationRule("", conditions=terms)


def term(
    attribute: Any, *values: str, negated: bool = False, key: str = "", path: Sequence[str] = ()
) -> Term:
    """Values as in AuthorizationPolicy: with `*` before or behind them, alone, or in braces; or blocks."""
    read = _block if attribute.endswith("_ip") else _text
    return Term(attribute, tuple(map(read, values)), negated, key, tuple(path))


def _block(value: str) -> CidrPeer:
    cidr, *exceptions = value.split("!")
    return CidrPeer(cidr, tuple(exceptions), "anyone")


def _text(value: str) -> TextMatch:
    if "{" in value:
        return TextMatch("template", value)
    if value == "*":
        return TextMatch("present")
    if value.startswith("*"):
        return TextMatch("suffix", value[1:])
    return TextMatch("prefix", value[:-1]) if value.endswith("*") else TextMatch("exact", value)


def authorized(number: int, *parts: AuthorizationPart, **fields: Any) -> L7Class:
    return L7Class(number, "ingress", authorization=parts, **fields)


def view(**fields: Any) -> ProxyView:
    return ProxyView(POD, **fields)
