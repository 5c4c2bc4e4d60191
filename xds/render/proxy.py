"""All resources of one proxy, each made from just the part of the view that shapes it and remembered by it,
so that rendering a changed view costs about what has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from mesh.model import (
    DEFAULT_CONFIG,
    NO_TRAFFIC_POLICY,
    Direction,
    ObjectRef,
    PatchContext,
    PathNormalization,
    Secret,
)
from mesh.proxy import GatewayPort, GatewayServer, L7Class, ProxyView, Tracing
from xds.render import (
    access_logging,
    clusters,
    downstream_tls,
    endpoints,
    gateways,
    listeners,
    mutual_tls,
    naming,
    plugins,
    providers,
    routes,
    routing,
    tracing,
)
from xds.render.patches.application import patched
from xds.render.resource import EnvoyResource, Rendered, blamed, in_order

#: Name and port of a provider, and what it is spoken to in.
Host = tuple[str, int]
Protocol = Literal["grpc", "http"]


def resources(view: ProxyView) -> Rendered:
    """See `xds.render.render`."""
    outward = _routing(view)
    others = (
        *_classes(view),
        *_keyless(view),
        *_providers(view),
        *_served(view),
        *_credentials(view),
        *_sent_with(view),
        *map(plugins.resource, view.plugins),
    )
    if view.patches:
        return in_order(patched((*outward, *others), view))
    return in_order((*outward, *others)) if others else outward


def _routing(view: ProxyView) -> tuple[EnvoyResource, ...]:
    return routing.resources(
        view.routed,
        view.destinations,
        (*view.gateway, *view.bound),
        view.egress,
        _normalization(view),
        view.egress_tracing,
        view.egress_logs,
        plugins.slots(view.plugins, "SIDECAR_OUTBOUND"),
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
        logs = view.egress_logs if direction == "egress" else view.ingress_logs
        behind: dict[str, list[L7Class]] = {}
        for l7 in found:
            behind.setdefault(naming.behind(l7), []).append(l7)
        for name, classes in behind.items():
            taken = classes[0].ingress and classes[0].ingress.listener.endpoint
            body = clusters.own_endpoint(name, taken) if taken else clusters.passthrough_cluster(direction)
            yield EnvoyResource(CLUSTER, name, body, blamed(o for l7 in classes for o in l7.origins))
        for l7 in found:
            blame = blamed(l7.origins)
            name = naming.class_listener(direction, l7.number)
            shape, kept = listeners.structure(l7), tracing.structure(spans)
            met = () if view.gateway else plugins.of_class(view.plugins, l7)
            served = _judged_chains(view, l7) if direction == "ingress" else b""
            body = listeners.class_listener(shape, kept, logs, met, served)
            yield EnvoyResource(LISTENER, name, body, blame)
            name = naming.class_routes(direction, l7.number)
            yield EnvoyResource(ROUTES, name, routes.l7_class(l7, spans), blame)


def _judged_chains(view: ProxyView, judge: L7Class) -> bytes:
    """Where the pod serves Gateways, requests are judged as they are served."""
    standing = plugins.slots(view.plugins, "GATEWAY")
    found = (
        gateways.judged_chains(
            _structure(port),
            judge.number,
            judge.normalization,
            tracing.structure(view.egress_tracing),
            view.egress_logs,
            plugins.at_port(standing, port.port),
        )
        for port in view.gateway
        if any(server.http for server in port.servers)
    )
    return b"".join(found)


def _keyless(view: ProxyView) -> Iterator[EnvoyResource]:
    """Where rules about tokens look for keys that are not known."""
    servers = (server for port in view.gateway for server in port.servers)
    parts = [part for l7 in view.ingress for part in l7.authentication]
    parts += [part for server in servers for part in server.authentication]
    lacking = [part for part in parts if not part.rule.keys]
    if lacking:
        yield EnvoyResource(
            CLUSTER, naming.NO_BACKEND, clusters.nowhere(), blamed(part.origin for part in lacking)
        )


def _providers(view: ProxyView) -> Iterator[EnvoyResource]:
    """Services asked for consent or to count, and those that take spans and logs. Of one in the mesh the view
    brings the destination; backends that an egress class would have to judge are not asked: it would be
    behind its back."""
    origins: dict[str, set[ObjectRef]] = {}
    asked: dict[str, providers.Place] = {}  # those of two names may be one service
    for origin, place in _asked(view):
        name = naming.provider(*place)
        asked[name] = place
        origins.setdefault(name, set()).update(origin)
    if not asked:
        return
    known = {
        (d.target.service.host, d.target.port): d
        for d in view.destinations
        if (d.target.subset, d.target.protocol) == ("", "TCP")
    }
    for name, (host, port, kind) in asked.items():
        in_mesh, blame = known.get((host, port)), blamed(origins[name])
        peers = mutual_tls.peers(in_mesh) if in_mesh else None
        body = providers.cluster(host, port, kind, in_mesh is not None, peers)
        yield EnvoyResource(CLUSTER, name, body, blame)
        if in_mesh is not None:
            backends = tuple(backend for part in in_mesh.parts if not part.l7 for backend in part.backends)
            body = endpoints.endpoints(name, backends, (), in_mesh.mutual)
            yield EnvoyResource(ENDPOINTS, name, body, blame)


def _asked(view: ProxyView) -> Iterator[tuple[tuple[ObjectRef, ...], providers.Place]]:
    for spans in (view.egress_tracing, view.ingress_tracing):
        if spans is not None:
            yield (), tracing.place(spans.provider)
    for log in (*view.egress_logs, *view.ingress_logs):
        if log.provider.service:
            yield (), access_logging.place(log.provider)
    for l7 in (*view.egress, *view.ingress):
        for part in (*l7.authorization, *(l7.plain or ())):
            if part.provider is not None:
                yield (part.origin,), providers.place(part.provider)
        for limits in l7.limits:
            if limits.counted_by is not None:
                yield (limits.origin,), (limits.counted_by.host, limits.counted_by.port, "grpc")


def _served(view: ProxyView) -> Iterator[EnvoyResource]:
    """Ports of Gateways and of loopback."""
    if not (view.gateway or view.bound):
        return
    egress = {found.number: found for found in view.egress}
    reached = {found.target: routing.reach(found, egress) for found in view.destinations}
    policies = tuple((d.target, d.policy) for d in view.destinations if d.policy != NO_TRAFFIC_POLICY)
    sides: tuple[tuple[PatchContext, tuple[GatewayPort, ...], tuple[L7Class, ...]], ...] = (
        ("GATEWAY", view.gateway, view.ingress),
        ("SIDECAR_OUTBOUND", view.bound, ()),
    )
    for side, ports, judges in sides:
        standing = plugins.slots(view.plugins, side)
        for port in ports:
            blame = blamed(origin for server in port.servers for origin in server.origins)
            body = gateways.listener(
                _structure(port),
                _normalization(view),
                policies,
                tracing.structure(view.egress_tracing),
                view.egress_logs,
                plugins.at_port(standing, port.port),
            )
            yield EnvoyResource(LISTENER, naming.gateway_listener(port), body, blame)
            for server in port.servers:
                own = tuple(reached[target] for target in sorted(server.targets) if target in reached)
                yield from _server_routes(server, port.port, own, judges, view.egress_tracing)


def _server_routes(
    server: GatewayServer,
    port: int,
    reached: tuple[routes.Reached, ...],
    judges: tuple[L7Class, ...],
    spans: Tracing | None,
) -> Iterator[EnvoyResource]:
    if not server.http:
        return
    tokens = (part.origin for part in server.authentication)
    senders = blamed((*server.origins, *tokens, *(entry.origin for entry in server.all)))
    for judge in (None, *judges):
        name = naming.judged_routes(server.name, judge.number) if judge else server.name
        body = gateways.routes(server, port, reached, spans, judge)
        yield EnvoyResource(ROUTES, name, body, blamed((*senders, *judge.origins)) if judge else senders)


def _credentials(view: ProxyView) -> Iterator[EnvoyResource]:
    for found in view.credentials:
        if isinstance(found, Secret) and found.certificate:
            name = naming.secret(found.ref)
            body = downstream_tls.certificate(name, found.certificate, found.key)
            yield EnvoyResource(SECRET, name, body, (found.ref,))
        if found.authorities:
            name = naming.authorities(found.ref)
            body = downstream_tls.authorities(name, found.authorities, found.revoked)
            yield EnvoyResource(SECRET, name, body, (found.ref,))


def _sent_with(view: ProxyView) -> Iterator[EnvoyResource]:
    for found in view.sent_with:
        name = naming.own_secret(found.ref.name)
        body = downstream_tls.certificate(name, found.certificate, found.key)
        yield EnvoyResource(SECRET, name, body, (found.ref,))


def _structure(port: GatewayPort) -> GatewayPort:
    """What of a port its listener is made of: not what requests are asked."""
    servers = (
        replace(server, hosts=(), origins=(), elsewhere=(), authentication=()) if server.http else server
        for server in port.servers
    )
    return replace(port, servers=tuple(servers))


def _normalization(view: ProxyView) -> PathNormalization:
    """Paths are judged behind routes as well, and the mesh has one setting."""
    return next((l7.normalization for l7 in view.egress), DEFAULT_CONFIG.path_normalization)
