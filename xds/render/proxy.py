"""All resources of one proxy, each made from just the part of the view that shapes it and remembered by it,
so that rendering a changed view costs about what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import Literal

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from mesh.model import (
    DEFAULT_CONFIG,
    NO_TRAFFIC_POLICY,
    Direction,
    ObjectRef,
    PathNormalization,
    Secret,
    TrafficPolicy,
)
from mesh.proxy import (
    AccessLog,
    Destination,
    GatewayPort,
    L7Class,
    Part,
    ProxyView,
    RoutedPort,
    Target,
    Tracing,
)
from xds.render import (
    access_logging,
    clusters,
    downstream_tls,
    endpoints,
    gateways,
    listeners,
    naming,
    plugins,
    providers,
    routes,
    tracing,
)
from xds.render.balancing import to_the_dialled_address
from xds.render.patches.application import patched
from xds.render.plugins import Slot
from xds.render.resource import EnvoyResource, Rendered
from xds.render.routes import Reached, Share

#: Name and port of a provider, and what it is spoken to in.
Host = tuple[str, int]
Protocol = Literal["grpc", "http"]


def resources(view: ProxyView) -> Rendered:
    """See `xds.render.render`."""
    routing = _routing(view)
    others = (
        *_classes(view),
        *_keyless(view),
        *_providers(view),
        *_gateway(view),
        *map(plugins.resource, view.plugins),
    )
    if view.patches:
        return _in_order(patched((*routing, *others), view))
    return _in_order((*routing, *others)) if others else routing


def _in_order(found: Iterable[EnvoyResource]) -> Rendered:
    return tuple(sorted(found, key=attrgetter("order")))


def _routing(view: ProxyView) -> tuple[EnvoyResource, ...]:
    return _routed(
        view.routed,
        view.destinations,
        view.gateway,
        view.egress,
        _normalization(view),
        view.egress_tracing,
        view.egress_logs,
        plugins.slots(view.plugins, "SIDECAR_OUTBOUND"),
    )


@lru_cache(maxsize=256)
def _routed(
    ports: tuple[RoutedPort, ...],
    destinations: tuple[Destination, ...],
    gateway: tuple[GatewayPort, ...],
    egress: tuple[L7Class, ...],
    normalization: PathNormalization,
    spans: Tracing | None,
    logs: tuple[AccessLog, ...],
    standing: tuple[Slot, ...],
) -> tuple[EnvoyResource, ...]:
    """Pods for which the same is routed share it. Made of parts that are remembered, so that a change of one
    route, or of what stands behind one, costs about one."""
    made = _making(ports, gateway, egress, spans)
    shaped = made.shaped(destinations)
    found = [resource for one in shaped for resource in one.resources]
    if ports:
        policies = tuple(one.policy for one in shaped if one.policy)
        found.append(_listener(ports, policies, normalization, tracing.structure(spans), logs, standing))
        found.extend(made.routes([one.reached for one in shaped]))
    return _in_order(found)


@dataclass(frozen=True, slots=True)
class _Shaped:
    """What one destination shapes: its own resources, what routes know of it, and the listener, if somebody
    says something of it."""

    resources: tuple[EnvoyResource, ...]
    reached: Reached
    policy: tuple[Target, TrafficPolicy] | None


class _Making:
    """What is made where the same is routed, kept as long as what it is made of stays."""

    def __init__(
        self,
        ports: tuple[RoutedPort, ...],
        senders: Mapping[Target, tuple[ObjectRef, ...]],
        egress: tuple[L7Class, ...],
        spans: Tracing | None,
    ) -> None:
        self._ports, self._senders, self._spans = ports, senders, spans
        self._judges = {found.number: found for found in egress}
        self._shaped: dict[Destination, _Shaped] = {}
        self._reached: list[Reached] | None = None
        self._routes: tuple[EnvoyResource, ...] = ()

    def shaped(self, destinations: Iterable[Destination]) -> list[_Shaped]:
        known = self._shaped
        self._shaped = {one: known.get(one) or self._shape(one) for one in destinations}
        return [*self._shaped.values()]

    def _shape(self, destination: Destination) -> _Shaped:
        target, policy = destination.target, destination.policy
        return _Shaped(
            _reaching(destination, self._senders.get(target, ())),
            _reached(destination, self._judges),
            (target, policy) if policy != NO_TRAFFIC_POLICY else None,
        )

    def routes(self, reached: list[Reached]) -> tuple[EnvoyResource, ...]:
        """Where requests go is mostly the same, whatever stands behind it."""
        if reached != self._reached:
            known = {one.target: one for one in reached}
            self._reached = reached
            self._routes = tuple(
                _routes(routed, tuple(known[to] for to in sorted(routed.targets) if to in known), self._spans)
                for routed in self._ports
                if routed.entries
            )
        return self._routes


@lru_cache(maxsize=256)
def _making(
    ports: tuple[RoutedPort, ...],
    gateway: tuple[GatewayPort, ...],
    egress: tuple[L7Class, ...],
    spans: Tracing | None,
) -> _Making:
    return _Making(ports, _senders(ports, gateway), egress, spans)


@lru_cache(maxsize=256)
def _listener(
    ports: tuple[RoutedPort, ...],
    policies: tuple[tuple[Target, TrafficPolicy], ...],
    normalization: PathNormalization,
    spans: Tracing | None,
    logs: tuple[AccessLog, ...],
    standing: tuple[Slot, ...],
) -> EnvoyResource:
    named = dict(policies)
    chains = tuple(_chain(routed, named, standing) for routed in ports)
    body = listeners.routing_listener(chains, normalization, spans, logs)
    blame = _unique(origin for routed in ports for origin in routed.origins)
    return EnvoyResource(LISTENER, naming.ROUTING_LISTENER, body, blame)


@lru_cache(maxsize=65536)
def _reaching(destination: Destination, senders: tuple[ObjectRef, ...]) -> tuple[EnvoyResource, ...]:
    if destination.target.protocol == "UDP":
        return _datagrams(destination, senders)
    found = []
    for part in _parts(destination):
        name = naming.cluster(destination.target, part.l7)
        shared = any(place.weight for place in part.places)
        body = clusters.service_cluster(
            name, part.l7 != 0, destination.policy, destination.version, shared=shared
        )
        found.append(EnvoyResource(CLUSTER, name, body, senders))
        if not to_the_dialled_address(destination.policy.balancer):
            body = endpoints.endpoints(name, part.backends, part.places)
            found.append(EnvoyResource(ENDPOINTS, name, body, senders))
    return tuple(found)


def _datagrams(destination: Destination, senders: tuple[ObjectRef, ...]) -> tuple[EnvoyResource, ...]:
    """Backends that an egress class would judge by requests get nothing: there are none to judge."""
    name = naming.cluster(destination.target, 0)
    part = next((part for part in destination.parts if not part.l7), Part(0, ()))
    shared = any(place.weight for place in part.places)
    body = clusters.datagram_cluster(name, destination.policy, shared=shared)
    return (
        EnvoyResource(CLUSTER, name, body, senders),
        EnvoyResource(ENDPOINTS, name, endpoints.endpoints(name, part.backends, part.places), senders),
    )


@lru_cache(maxsize=65536)
def _routes(routed: RoutedPort, reached: tuple[Reached, ...], spans: Tracing | None) -> EnvoyResource:
    judges = (share.l7 for found in reached for share in found.shares if share.l7)
    body = routes.routed_port(routed, reached, spans)
    blame = _unique((*routed.origins, *_rule_origins(judges)))
    return EnvoyResource(ROUTES, naming.routed_port(routed.service, routed.port), body, blame)


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
            CLUSTER, naming.NO_BACKEND, clusters.nowhere(), _unique(part.origin for part in lacking)
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
        in_mesh, blame = known.get((host, port)), _unique(origins[name])
        yield EnvoyResource(CLUSTER, name, providers.cluster(host, port, kind, in_mesh is not None), blame)
        if in_mesh is not None:
            backends = tuple(backend for part in in_mesh.parts if not part.l7 for backend in part.backends)
            yield EnvoyResource(ENDPOINTS, name, endpoints.endpoints(name, backends), blame)


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


def _gateway(view: ProxyView) -> Iterator[EnvoyResource]:
    if not view.gateway:
        return
    judges = {found.number: found for found in view.egress}
    reached = {found.target: _reached(found, judges) for found in view.destinations}
    policies = tuple((d.target, d.policy) for d in view.destinations if d.policy != NO_TRAFFIC_POLICY)
    standing = plugins.slots(view.plugins, "GATEWAY")
    for port in view.gateway:
        blame = _unique(origin for server in port.servers for origin in server.origins)
        name = naming.gateway_listener(port)
        body = gateways.listener(
            _structure(port),
            _normalization(view),
            policies,
            tracing.structure(view.egress_tracing),
            view.egress_logs,
            plugins.at_port(standing, port.port),
        )
        yield EnvoyResource(LISTENER, name, body, blame)
        for server in port.servers:
            if server.http:
                own = tuple(reached[target] for target in sorted(server.targets) if target in reached)
                tokens = (part.origin for part in server.authentication)
                senders = _unique((*server.origins, *tokens, *(entry.origin for entry in server.all)))
                for judge in (None, *view.ingress):
                    name = naming.judged_routes(server.name, judge.number) if judge else server.name
                    body = gateways.routes(server, port.port, own, view.egress_tracing, judge)
                    blame = _unique((*senders, *judge.origins)) if judge else senders
                    yield EnvoyResource(ROUTES, name, body, blame)
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
        replace(server, hosts=(), https_redirect=False, origins=(), elsewhere=(), authentication=())
        if server.http
        else server
        for server in port.servers
    )
    return replace(port, servers=tuple(servers))


def _normalization(view: ProxyView) -> PathNormalization:
    """Paths are judged behind routes as well, and the mesh has one setting."""
    return next((l7.normalization for l7 in view.egress), DEFAULT_CONFIG.path_normalization)


def _parts(destination: Destination) -> tuple[Part, ...]:
    """At least one, so that a destination without backends answers 503 and not 500."""
    return tuple(part for part in destination.parts if part.backends) or (Part(0, ()),)


def _shares(destination: Destination, egress: Mapping[int, L7Class]) -> tuple[Share, ...]:
    parts = _parts(destination)
    judges = [egress[part.l7] if part.l7 else None for part in parts]
    if len(parts) == 1:
        return (Share(judges[0]),)
    return tuple(Share(judge, part.count) for judge, part in zip(judges, parts, strict=True))


def _reached(destination: Destination, judges: Mapping[int, L7Class]) -> Reached:
    judged = any(part.l7 for part in destination.parts)
    return _judged(destination, judges) if judged else _unjudged(destination)


@lru_cache(maxsize=65536)
def _unjudged(destination: Destination) -> Reached:
    """Of most, for which nothing but they themselves counts."""
    return _judged(destination, {})


def _judged(destination: Destination, judges: Mapping[int, L7Class]) -> Reached:
    balancer = destination.policy.balancer
    return Reached(destination.target, _shares(destination, judges), balancer.hash if balancer else None)


def _chain(
    routed: RoutedPort, policies: Mapping[Target, TrafficPolicy], standing: tuple[Slot, ...]
) -> listeners.Chain:
    named = (Target.of(backend) for entry in routed.connections for backend in entry.rule.backends)
    own = tuple(
        (target, policies[target]) for target in dict.fromkeys(named) if target and target in policies
    )
    return listeners.Chain(
        routed.service,
        routed.port,
        routed.vips,
        bool(routed.entries),
        routed.connections,
        own,
        plugins.at_port(standing, routed.port) if routed.entries else (),
    )


@lru_cache(maxsize=256)
def _senders(
    ports: tuple[RoutedPort, ...], gateway: tuple[GatewayPort, ...]
) -> Mapping[Target, tuple[ObjectRef, ...]]:
    senders: dict[Target, set[ObjectRef]] = {}
    servers = [server for port in gateway for server in port.servers]
    entries = [entry for routed in ports for entry in routed.all]
    entries += [entry for server in servers for entry in server.all]
    for entry in entries:
        for target in entry.targets:
            senders.setdefault(target, set()).add(entry.origin)
    return {key: tuple(sorted(origins)) for key, origins in senders.items()}


def _rule_origins(classes: Iterable[L7Class]) -> tuple[ObjectRef, ...]:
    return _unique(origin for l7 in classes for origin in l7.origins)


def _unique(origins: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
    return tuple(sorted(set(origins)))
