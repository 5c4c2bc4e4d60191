"""Which routes attach to a listener of a Gateway, and what requests for each of its hosts are asked in turn.

A VirtualService is for the hosts that it shares with a server; those for one host are joined, the oldest
first, and what takes every request comes last, as in Istio. Routes of the Gateway API take precedence by host
before anything else (HTTPRouteSpec, hostnames), so that a narrower host's rules come first and a wider one's
after them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mesh.age import age, since
from mesh.assemble import Mesh
from mesh.caller import Caller
from mesh.identity import namespace_labels
from mesh.model import Callers, Gateway, GatewayParent, Listener, ObjectRef, Route, RouteMatch
from mesh.proxy import RouteEntry, VirtualHost
from mesh.routes import delegation
from mesh.routes.gateways import names
from mesh.routes.host_pattern import covering, covers, narrowest, specificity
from mesh.routes.steer import precedence, resolved

#: A listener, and the Gateway that has it.
Source = tuple[Gateway, Listener]
_Ranked = tuple[tuple[object, ...], RouteEntry]

_ANY = RouteMatch()
_EVERY_PATH = frozenset({("prefix", "/"), ("start", "/"), ("regex", ".*")})


def attached(mesh: Mesh, gateway: Gateway, listener: Listener) -> list[Route]:
    """The routes that attach to a listener, wherever their hosts meet. HTTPRoutes and GRPCRoutes have no host
    in common: it is the older one's (GRPCRoute, Gateway API)."""
    found = [
        route
        for route in mesh.routes.all.values()
        if names(route, gateway)
        and (route.in_order or route.ref.kind in listener.kinds)
        and _at(route, gateway, listener)
        and any(shared(mesh, route, listener))
    ]
    if {route.ref.kind for route in found} >= {"HTTPRoute", "GRPCRoute"}:
        return list(_apart(mesh, found, listener))
    return found


def _apart(mesh: Mesh, routes: Iterable[Route], listener: Listener) -> Iterator[Route]:
    """Those that have no host in common with an older one of the other kind."""
    #: By kind the hosts of those that stay, and all patterns that cover one of them.
    taken: defaultdict[str, set[str]] = defaultdict(set)
    above: defaultdict[str, set[str]] = defaultdict(set)
    for route in sorted(routes, key=lambda route: (since(route.created), route.ref[1:], route.ref)):
        hosts = [host for host, _ in shared(mesh, route, listener)]
        other = "GRPCRoute" if route.ref.kind == "HTTPRoute" else "HTTPRoute"
        if not any(host in above[other] or not taken[other].isdisjoint(covering(host)) for host in hosts):
            taken[route.ref.kind].update(hosts)
            above[route.ref.kind].update(pattern for host in hosts for pattern in covering(host))
            yield route


def attaches(parent: GatewayParent, gateway: Gateway, listener: Listener) -> bool:
    """Does a route that names this parent mean the listener?"""
    ref = gateway.ref
    return (
        (parent.gateway.namespace, parent.gateway.name) == (ref.namespace, ref.name)
        and parent.section in ("", listener.name)
        and parent.port in (None, listener.port)
    )


def meets(mesh: Mesh, route: Route, listener: Listener, *, any_host: bool = False) -> bool:
    """Have they a host in common; with `any_host`: may routes of its namespace attach?"""
    wide = replace(route, names=()) if any_host else route
    return any(shared(mesh, wide, listener))


def shared(mesh: Mesh, route: Route, listener: Listener) -> Iterator[tuple[str, str]]:
    """(host, the route's own host that covers it): the hosts that a route and a listener have in common."""
    name = route.ref.namespace
    namespace = namespace_labels(name, mesh.namespaces.get(name))
    for served in listener.hosts:
        if not served.namespaces.matches(namespace):
            continue
        for own in route.names or ("*",):
            if covers(served.host, own):
                yield own, own
            elif covers(own, served.host):
                yield served.host, own


def visible(mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener) -> list[Route]:
    """The routes that attach for a pod that serves, the oldest first. A VirtualService must be exported to
    where the pod is."""
    found = attached(mesh, gateway, listener)
    own = {"*", caller.namespace}
    return sorted((route for route in found if not route.in_order or own & set(route.exported)), key=age)


def is_for(caller: Caller, callers: Callers, gateway: ObjectRef) -> bool:
    """Does a match count for a pod that serves the Gateway?"""
    name = f"{gateway.namespace}/{gateway.name}"
    return caller.is_among(callers) and (callers.gateways is None or name in callers.gateways)


def virtual_hosts(mesh: Mesh, caller: Caller, sources: Sequence[Source]) -> tuple[VirtualHost, ...]:
    """Of listeners whose connections cannot be told apart, so that the host that a request asks for decides.

    A listener of the Gateway API answers for a host that no other one names more closely, if only with 404
    (listener isolation). Istio's have what they have in common, and one of them that redirects is enough."""
    found: defaultdict[str, list[_Ranked]] = defaultdict(list)
    redirected: set[str] = set()
    isolated = {served.host for gateway, one in sources if gateway.subject is None for served in one.hosts}
    for gateway, listener in sources:
        own = {served.host for served in listener.hosts}
        entries = dict(_entries(mesh, caller, gateway, listener))
        if listener.https_redirect or (gateway.subject is None and len(sources) > 1):
            entries = {host: [] for host in own} | entries
        for host, ranked in entries.items():
            if gateway.subject is not None or narrowest(isolated, host) in own:
                found[host] += ranked
                if listener.https_redirect:
                    redirected.add(host)
    return tuple(
        VirtualHost(host, _in_order(found[host]), host in redirected)
        for host in sorted(found, key=lambda host: (specificity(host), host))
    )


def _entries(
    mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener
) -> Iterator[tuple[str, list[_Ranked]]]:
    """For each host that the listener shares with some route."""
    routes = visible(mesh, caller, gateway, listener)
    #: By host the routes that name it, by their place, and the own hosts by which they do.
    named: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for place, route in enumerate(routes):
        for host, mine in shared(mesh, route, listener):
            named[host][place].append(mine)
    for host in named:
        # A VirtualService counts for its own hosts only; of a Gateway API route wider hosts count, too.
        fitting: defaultdict[int, list[str]] = defaultdict(list)
        for name in covering(host):
            for place, own in named[name].items() if name in named else ():
                if name == host or not routes[place].in_order:
                    fitting[place] += own
        ranked: list[_Ranked] = []
        for place, own in sorted(fitting.items()):
            narrow = min(own, key=specificity)
            ranked += _of_route(mesh, caller, gateway, listener, routes[place], narrow)
        yield host, ranked


def _of_route(
    mesh: Mesh, caller: Caller, gateway: Gateway, listener: Listener, route: Route, host: str
) -> Iterator[_Ranked]:
    """What stands in a VirtualService behind a match of every request is never asked."""
    for index, rule in enumerate(delegation.expanded(route, mesh.routes.all)):
        for match in rule.matches or (_ANY,):
            if match.port in (0, listener.port) and is_for(caller, match.callers, gateway.ref):
                entry = RouteEntry(route.ref, match, resolved(mesh, caller, route, rule, listener.port))
                if not route.in_order:
                    yield (specificity(host), precedence(match), age(route), index), entry
                    continue
                last = _takes_everything(match)
                yield ((last,),), entry
                if last:
                    return


def _in_order(ranked: Sequence[_Ranked]) -> tuple[RouteEntry, ...]:
    """Each once: a route may attach by several listeners."""
    return tuple(dict.fromkeys(entry for _, entry in sorted(ranked, key=lambda found: found[0])))


def _takes_everything(match: RouteMatch) -> bool:
    path = match.path
    return (path.kind, path.value) in _EVERY_PATH and not (match.headers or match.query or match.claims)


def _at(route: Route, gateway: Gateway, listener: Listener) -> bool:
    """By section and port, where a route names them."""
    return gateway.subject is not None or any(
        attaches(parent, gateway, listener) for parent in route.attached
    )
