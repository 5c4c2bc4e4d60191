"""All resources of one proxy, each made from just the part of the view that shapes it and remembered by it,
so that rendering a changed view costs about what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from mesh.model import (
    DEFAULT_CONFIG,
    Direction,
    ObjectRef,
    PathNormalization,
    Secret,
)
from mesh.proxy import Destination, GatewayPort, L7Class, Part, ProxyView, RoutedPort, Target
from xds.render import clusters, downstream_tls, endpoints, gateways, listeners, naming, providers, routes
from xds.render.balancing import to_the_dialled_address
from xds.render.resource import EnvoyResource, Rendered
from xds.render.routes import Reached, Share


def resources(view: ProxyView) -> Rendered:
    """See `xds.render.render`."""
    return tuple(
        sorted(
            (*_routing(view), *_classes(view), *_keyless(view), *_providers(view), *_gateway(view)),
            key=lambda resource: resource.order,
        )
    )


def _routing(view: ProxyView) -> Iterator[EnvoyResource]:
    origins = _senders(view)
    for destination in view.destinations:
        blame = origins.get(destination.target, ())
        for part in _parts(destination):
            name = naming.cluster(destination.target, part.l7)
            body = clusters.service_cluster(name, part.l7 != 0, destination.policy)
            yield EnvoyResource(CLUSTER, name, body, blame)
            if not to_the_dialled_address(destination.policy.balancer):
                yield EnvoyResource(ENDPOINTS, name, endpoints.endpoints(name, part.backends), blame)
    if not view.routed:
        return
    reached = {found.target: found for found in _reached(view)}
    chains = tuple(_chain(routed, reached) for routed in view.routed)
    yield EnvoyResource(
        LISTENER,
        naming.ROUTING_LISTENER,
        listeners.routing_listener(chains, _normalization(view)),
        _unique(origin for routed in view.routed for origin in routed.origins),
    )
    for routed in view.routed:
        if not routed.entries:
            continue
        own = tuple(reached[target] for target in sorted(routed.targets) if target in reached)
        judges = (share.l7 for found in own for share in found.shares if share.l7)
        yield EnvoyResource(
            ROUTES,
            naming.routed_port(routed.service, routed.port),
            routes.routed_port(routed, own),
            _unique((*routed.origins, *_rule_origins(judges))),
        )


def _classes(view: ProxyView) -> Iterator[EnvoyResource]:
    both: tuple[tuple[Direction, tuple[L7Class, ...]], ...] = (
        ("egress", view.egress),
        ("ingress", view.ingress),
    )
    for direction, found in both:
        if not found:
            continue
        yield EnvoyResource(
            CLUSTER,
            naming.passthrough(direction),
            clusters.passthrough_cluster(direction),
            _rule_origins(found),
        )
        for l7 in found:
            blame = _rule_origins((l7,))
            name = naming.class_listener(direction, l7.number)
            yield EnvoyResource(LISTENER, name, listeners.class_listener(listeners.structure(l7)), blame)
            name = naming.class_routes(direction, l7.number)
            yield EnvoyResource(ROUTES, name, routes.l7_class(l7), blame)


def _keyless(view: ProxyView) -> Iterator[EnvoyResource]:
    """Where rules about tokens look for keys that are not known."""
    lacking = [part for l7 in view.ingress for part in l7.authentication if not part.rule.keys]
    if lacking:
        yield EnvoyResource(
            CLUSTER, naming.NO_BACKEND, clusters.nowhere(), _unique(part.origin for part in lacking)
        )


def _providers(view: ProxyView) -> Iterator[EnvoyResource]:
    """Services that are asked for consent, or to count. Of one in the mesh the view brings the destination;
    backends that an egress class would have to judge are not asked: it would be behind its back."""
    origins: dict[str, set[ObjectRef]] = {}
    asked: dict[str, providers.Place] = {}  # those of two names may be one service
    for origin, place in _asked(view):
        name = naming.provider(*place)
        asked[name] = place
        origins.setdefault(name, set()).add(origin)
    known = {(d.target.service.host, d.target.port): d for d in view.destinations if not d.target.subset}
    for name, (host, port, kind) in asked.items():
        in_mesh, blame = known.get((host, port)), _unique(origins[name])
        yield EnvoyResource(CLUSTER, name, providers.cluster(host, port, kind, in_mesh is not None), blame)
        if in_mesh is not None:
            backends = tuple(backend for part in in_mesh.parts if not part.l7 for backend in part.backends)
            yield EnvoyResource(ENDPOINTS, name, endpoints.endpoints(name, backends), blame)


def _asked(view: ProxyView) -> Iterator[tuple[ObjectRef, providers.Place]]:
    for l7 in (*view.egress, *view.ingress):
        for part in (*l7.authorization, *(l7.plain or ())):
            if part.provider is not None:
                yield part.origin, providers.place(part.provider)
        for limits in l7.limits:
            if limits.counted_by is not None:
                yield limits.origin, (limits.counted_by.host, limits.counted_by.port, "grpc")


def _gateway(view: ProxyView) -> Iterator[EnvoyResource]:
    reached = {found.target: found for found in _reached(view)}
    hashes = tuple((found.target, found.hash) for found in reached.values() if found.hash)
    for port in view.gateway:
        blame = _unique(origin for server in port.servers for origin in server.origins)
        name = naming.gateway_listener(port.bind, port.port)
        body = gateways.listener(_structure(port), _normalization(view), hashes)
        yield EnvoyResource(LISTENER, name, body, blame)
        for server in port.servers:
            if server.http:
                own = tuple(reached[target] for target in sorted(server.targets) if target in reached)
                senders = _unique((*server.origins, *(entry.origin for entry in server.all)))
                yield EnvoyResource(ROUTES, server.name, gateways.routes(server, port.port, own), senders)
    for found in view.credentials:
        if isinstance(found, Secret) and found.certificate:
            name, body = naming.secret(found.ref), downstream_tls.certificate(found)
            yield EnvoyResource(SECRET, name, body, (found.ref,))
        if found.authorities:
            name, body = naming.authorities(found.ref), downstream_tls.authorities(found)
            yield EnvoyResource(SECRET, name, body, (found.ref,))


def _structure(port: GatewayPort) -> GatewayPort:
    """What of a port its listener is made of: not what requests are asked."""
    servers = (
        replace(server, hosts=(), https_redirect=False, origins=()) if server.http else server
        for server in port.servers
    )
    return replace(port, servers=tuple(servers))


def _normalization(view: ProxyView) -> PathNormalization:
    """Paths are judged behind routes as well, and the mesh has one setting."""
    return next((l7.normalization for l7 in view.egress), DEFAULT_CONFIG.path_normalization)


def _parts(destination: Destination) -> tuple[Part, ...]:
    """At least one, so that a destination without backends answers 503 and not 500."""
    return tuple(part for part in destination.parts if part.backends) or (Part(0, ()),)


def _shares(destination: Destination, egress: dict[int, L7Class]) -> tuple[Share, ...]:
    parts = _parts(destination)
    judges = [egress[part.l7] if part.l7 else None for part in parts]
    if len(parts) == 1:
        return (Share(judges[0]),)
    return tuple(Share(judge, len(part.backends)) for judge, part in zip(judges, parts, strict=True))


def _reached(view: ProxyView) -> Iterator[Reached]:
    egress = {found.number: found for found in view.egress}
    for destination in view.destinations:
        balancer = destination.policy.balancer
        yield Reached(destination.target, _shares(destination, egress), balancer.hash if balancer else None)


def _chain(routed: RoutedPort, reached: Mapping[Target, Reached]) -> listeners.Chain:
    named = (Target.of(backend) for entry in routed.connections for backend in entry.rule.backends)
    found = (reached[target] for target in dict.fromkeys(named) if target and target in reached)
    return listeners.Chain(
        routed.service,
        routed.port,
        routed.vips,
        bool(routed.entries),
        routed.connections,
        tuple((one.target, one.hash) for one in found if one.hash),
    )


def _senders(view: ProxyView) -> dict[Target, tuple[ObjectRef, ...]]:
    senders: dict[Target, set[ObjectRef]] = {}
    servers = [server for port in view.gateway for server in port.servers]
    entries = [entry for routed in view.routed for entry in routed.all]
    entries += [entry for server in servers for entry in server.all]
    for entry in entries:
        for target in map(Target.of, entry.rule.targets):
            if target is not None:
                senders.setdefault(target, set()).add(entry.origin)
    return {key: tuple(sorted(origins)) for key, origins in senders.items()}


def _rule_origins(classes: Iterable[L7Class]) -> tuple[ObjectRef, ...]:
    return _unique(origin for l7 in classes for origin in l7.origins)


def _unique(origins: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
    return tuple(sorted(set(origins)))
