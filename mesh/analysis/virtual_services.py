"""VirtualServices that do not route what they seem to. Codes are those of Istio's own messages, wherever what
they warn of is so here (istio.io, Configuration Analysis Messages)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

from mesh.age import age
from mesh.analysis.finding import Check, Trap, some
from mesh.analysis.view import View
from mesh.model import (
    MESH_GATEWAY,
    ConnectionMatch,
    ConnectionRule,
    Gateway,
    PathMatch,
    Route,
    RouteMatch,
    RouteRule,
    ServiceName,
)
from mesh.routes.gateway_hosts import attached

_ANY_REQUESTS = (RouteMatch(), RouteMatch(PathMatch("start", "/")))
_ANY_CONNECTION = ConnectionMatch()

Match = RouteMatch | ConnectionMatch
Rule = RouteRule | ConnectionRule


def one_host_twice(view: View) -> Iterator[Trap]:
    """Of VirtualServices of one namespace for one host callers in the mesh obey the oldest alone."""
    named: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in sorted(filter(_for_mesh, _virtual_services(view)), key=age):
        for host in route.names:
            named[route.ref.namespace, host].append(route)
    for (_, host), (oldest, *others) in sorted(named.items()):
        for other in others:
            if _meet(oldest.exported, other.exported):
                yield Trap(
                    other.ref,
                    "spec.hosts",
                    f"{oldest.ref} has {host} too, and is the older one: callers in the mesh obey it alone",
                    "put the routes into one VirtualService",
                )


def port_is_left_open(view: View) -> Iterator[Trap]:
    """Without a port of its own a destination is meant at the port that was dialled. If that is none of the
    Service's, and it has several, nobody is there."""
    for route in _virtual_services(view):
        dialled = _dialled(view, route)
        for rule in route.all_rules:
            for target in rule.targets:
                meant = view.mesh.aliases.meant(target.service) if target.service else None
                ports = _tcp_ports(view, meant)
                lacking = sorted(dialled - set(ports))
                if target.service and not target.port and len(ports) > 1 and lacking:
                    yield Trap(
                        route.ref,
                        f"spec.{rule.field}",
                        f"sends to {target.service.host} and names no port; it has {some(ports)}, and who "
                        f"dials {some(lacking)} finds nobody",
                        "name the destination's port",
                    )


def never_used(view: View) -> Iterator[Trap]:
    """Rules are asked in their order, so that one behind all whose matches stand before is never used."""
    for route, rule, matches, before in _in_order(view):
        if all(any(_covers(earlier, match) for earlier, _ in before) for match in matches):
            hidden = next(other for earlier, other in before if _covers(earlier, matches[0]))
            yield Trap(
                route.ref,
                f"spec.{rule.field}",
                f"is never used: {hidden.field} comes first and takes all that it matches",
                "put what is more specific first, and a rule without matches last",
            )


def match_stands_before(view: View) -> Iterator[Trap]:
    """Some matches of a rule are taken by earlier rules; its others are not."""
    for route, rule, matches, before in _in_order(view):
        hiding = [next((other for earlier, other in before if _covers(earlier, m)), None) for m in matches]
        hidden = [other.field for other in hiding if other is not None]
        if hidden and len(hidden) < len(matches):
            yield Trap(
                route.ref,
                f"spec.{rule.field}.match",
                f"{len(hidden)} of its {len(matches)} matches are never used: {some(dict.fromkeys(hidden))} "
                "comes first and takes all that they match",
                "take one of the two out",
            )


def host_is_not_the_gateways(view: View) -> Iterator[Trap]:
    """A VirtualService counts at a Gateway for the hosts that they have in common."""
    for route in _virtual_services(view):
        for gateway in _gateways(view, route):
            if not any(route in attached(view.mesh, gateway, server) for server in gateway.listeners):
                yield Trap(
                    route.ref,
                    "spec.gateways",
                    f"no server of {gateway.ref} has {some(route.names)} for namespace {route.ref.namespace}",
                    "add the host to the Gateway, or correct it",
                )


def subsets_count_inside_only(view: View) -> Iterator[Trap]:
    """What a Gateway sends to a Service goes to its pods, past the routes of callers in the mesh."""
    inside = [route for route in _virtual_services(view) if _for_mesh(route)]
    for route in _virtual_services(view):
        if not _gateways(view, route):
            continue
        for rule in route.rules:
            whole = {backend.service for backend in rule.backends if backend.service and not backend.subset}
            for other in inside:
                own = {parent.service for parent in other.parents}
                named = {b.service for r in other.rules for b in r.backends if b.subset and b.service in own}
                for service in sorted((whole & named) - {None}, key=str):
                    if other.ref != route.ref:
                        yield Trap(
                            route.ref,
                            f"spec.{rule.field}",
                            f"sends to all of {service}: the subsets of {other.ref} are for callers in "
                            "the mesh",
                            "name the subsets here too",
                        )


# --- what is looked at -----------------------------------------------------------------------------


def _virtual_services(view: View) -> list[Route]:
    return [route for _, route in sorted(view.mesh.routes.all.items()) if route.in_order]


def _for_mesh(route: Route) -> bool:
    return MESH_GATEWAY in route.gateways


def _gateways(view: View, route: Route) -> list[Gateway]:
    """Those of Istio for which a VirtualService is."""
    found = view.mesh.gateways.all.values()
    return [g for g in found if g.subject and f"{g.ref.namespace}/{g.ref.name}" in route.gateways]


def _meet(first: Sequence[str], second: Sequence[str]) -> bool:
    return bool(set(first) & set(second)) or "*" in first or "*" in second


def _tcp_ports(view: View, service: ServiceName | None) -> list[int]:
    found = view.mesh.services.get(service) if service else None
    return sorted(port.port for port in found.ports if port.protocol == "TCP") if found else []


def _dialled(view: View, route: Route) -> set[int]:
    """The ports at which a route can be asked."""
    inside = {port for parent in route.parents for port in _tcp_ports(view, parent.service)}
    outside = {server.port for gateway in _gateways(view, route) for server in gateway.listeners}
    return (inside if _for_mesh(route) else set()) | outside


# --- the order of rules ------------------------------------------------------------------------------

Before = list[tuple[Match, Rule]]


def _in_order(view: View) -> Iterator[tuple[Route, Rule, tuple[Match, ...], Before]]:
    """Each rule with its matches, and those of the rules that are asked before it."""
    for route in _virtual_services(view):
        lists: list[list[Rule]] = [list(route.rules)]
        lists += [[rule for rule in route.connections if rule.kind == kind] for kind in ("tls", "tcp")]
        for rules in lists:
            before: Before = []
            for _, parts in groupby(rules, lambda rule: rule.field):
                # What stands in one place may be several rules, alike but for their matches.
                written = list(parts)
                matches = tuple(match for rule in written for match in _matches(rule))
                if before:
                    yield route, written[0], matches, before
                before = [*before, *((match, written[0]) for match in matches)]


def _matches(rule: Rule) -> tuple[Match, ...]:
    return rule.matches or ((RouteMatch(),) if isinstance(rule, RouteRule) else (_ANY_CONNECTION,))


def _covers(earlier: Match, later: Match) -> bool:
    return earlier in (later, _ANY_CONNECTION, *_ANY_REQUESTS)


CHECKS = (
    Check("IST0109", "Error", "VirtualServices of one namespace have one host", one_host_twice),
    Check("IST0112", "Error", "a VirtualService does not say which port it means", port_is_left_open),
    Check("IST0130", "Warning", "a rule of a VirtualService is never used", never_used),
    Check("IST0131", "Info", "a match of a VirtualService is never used", match_stands_before),
    Check("IST0132", "Warning", "a VirtualService has no host of its Gateway", host_is_not_the_gateways),
    Check("IST0140", "Warning", "a Gateway goes past the subsets of a route", subsets_count_inside_only),
)
