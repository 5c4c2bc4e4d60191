"""All resources of one proxy, each made from just the part of the view that shapes it and remembered by it,
so that rendering a changed view costs about what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from mesh.model import DEFAULT_CONFIG, Direction, ObjectRef, PathNormalization
from mesh.proxy import Destination, L7Class, Part, ProxyView, RoutedPort
from xds.render import clusters, endpoints, listeners, naming, providers, routes, tracing
from xds.render.resource import EnvoyResource, Rendered
from xds.render.routes import Share, Shares, Target

#: Name and port of a provider, and what it is spoken to in.
Host = tuple[str, int]
Protocol = Literal["grpc", "http"]


def resources(view: ProxyView) -> Rendered:
    """See `xds.render.render`."""
    return tuple(
        sorted((*_routing(view), *_classes(view), *_providers(view)), key=lambda resource: resource.order)
    )


def _routing(view: ProxyView) -> Iterator[EnvoyResource]:
    origins = _senders(view.routed)
    for destination in view.destinations:
        blame = origins.get((destination.service, destination.port), ())
        for part in _parts(destination):
            name = naming.cluster(destination.service, destination.port, part.l7)
            yield EnvoyResource(CLUSTER, name, clusters.service_cluster(name, part.l7 != 0), blame)
            yield EnvoyResource(ENDPOINTS, name, endpoints.endpoints(name, part.backends), blame)
    if not view.routed:
        return
    chains = tuple((routed.service, routed.port, routed.vips) for routed in view.routed)
    yield EnvoyResource(
        LISTENER,
        naming.ROUTING_LISTENER,
        listeners.routing_listener(chains, _normalization(view), tracing.structure(view.egress_tracing)),
        _unique(entry.origin for routed in view.routed for entry in routed.entries),
    )
    egress = {found.number: found for found in view.egress}
    shares = {(d.service, d.port): _shares(d, egress) for d in view.destinations}
    for routed in view.routed:
        reached: Shares = tuple((key, shares[key]) for key in sorted(_targets(routed)) if key in shares)
        judges = (share.l7 for _, found in reached for share in found if share.l7)
        yield EnvoyResource(
            ROUTES,
            naming.routed_port(routed.service, routed.port),
            routes.routed_port(routed, reached, view.egress_tracing),
            _unique((*(entry.origin for entry in routed.entries), *_rule_origins(judges))),
        )


def _classes(view: ProxyView) -> Iterator[EnvoyResource]:
    both: tuple[tuple[Direction, tuple[L7Class, ...]], ...] = (
        ("egress", view.egress),
        ("ingress", view.ingress),
    )
    for direction, found in both:
        if not found:
            continue
        spans = view.egress_tracing if direction == "egress" else view.ingress_tracing
        yield EnvoyResource(
            CLUSTER,
            naming.passthrough(direction),
            clusters.passthrough_cluster(direction),
            _rule_origins(found),
        )
        for l7 in found:
            blame = _rule_origins((l7,))
            name = naming.class_listener(direction, l7.number)
            shape, kept = listeners.structure(l7), tracing.structure(spans)
            yield EnvoyResource(LISTENER, name, listeners.class_listener(shape, kept), blame)
            name = naming.class_routes(direction, l7.number)
            yield EnvoyResource(ROUTES, name, routes.l7_class(l7, spans), blame)


def _providers(view: ProxyView) -> Iterator[EnvoyResource]:
    """Services that are asked for consent, and those that take spans. Of one in the mesh the view brings the
    destination; backends that an egress class would have to judge are not asked, for they would be asked
    behind its back."""
    origins: dict[str, set[ObjectRef]] = {}
    asked: dict[str, tuple[Host, Protocol]] = {}  # providers of two names may be one service
    for spans in (view.egress_tracing, view.ingress_tracing):
        if spans is not None:
            to = spans.provider
            name = tracing.cluster_name(to)
            asked[name] = (tracing.host(to), to.port), to.protocol
            origins.setdefault(name, set())
    for l7 in (*view.egress, *view.ingress):
        for part in (*l7.authorization, *(l7.plain or ())):
            if part.provider is not None:
                name = providers.cluster_name(part.provider)
                asked[name] = (providers.host(part.provider), part.provider.port), part.provider.kind
                origins.setdefault(name, set()).add(part.origin)
    known = {(naming.host(found.service), found.port): found for found in view.destinations}
    for name, (service, kind) in asked.items():
        in_mesh, blame = known.get(service), _unique(origins[name])
        yield EnvoyResource(CLUSTER, name, providers.cluster(*service, kind, in_mesh is not None), blame)
        if in_mesh is not None:
            backends = tuple(backend for part in in_mesh.parts if not part.l7 for backend in part.backends)
            yield EnvoyResource(ENDPOINTS, name, endpoints.endpoints(name, backends), blame)


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


def _targets(routed: RoutedPort) -> set[Target]:
    return {
        (backend.service, backend.port)
        for entry in routed.entries
        for backend in entry.rule.backends
        if backend.service is not None
    }


def _senders(ports: Iterable[RoutedPort]) -> dict[Target, tuple[ObjectRef, ...]]:
    senders: dict[Target, set[ObjectRef]] = {}
    for routed in ports:
        for entry in routed.entries:
            for backend in entry.rule.backends:
                if backend.service is not None:
                    senders.setdefault((backend.service, backend.port), set()).add(entry.origin)
    return {key: tuple(sorted(origins)) for key, origins in senders.items()}


def _rule_origins(classes: Iterable[L7Class]) -> tuple[ObjectRef, ...]:
    return _unique(origin for l7 in classes for origin in l7.origins)


def _unique(origins: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
    return tuple(sorted(set(origins)))
