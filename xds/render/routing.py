"""Where a pod's requests and connections go by its routes: clusters, endpoints, the listener that takes what
is steered, and its routes. Each is made from just what shapes it and remembered by it, so that a change of
one route, or of what stands behind one, costs about one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from mesh.model import NO_TRAFFIC_POLICY, Backend, ObjectRef, PathNormalization, TrafficPolicy
from mesh.proxy import (
    AccessLog,
    Destination,
    GatewayPort,
    L7Class,
    Part,
    RoutedPort,
    Target,
    Tracing,
)
from xds.render import clusters, endpoints, listeners, mutual_tls, naming, plugins, routes, tracing
from xds.render.balancing import to_the_dialled_address
from xds.render.plugins import Slot
from xds.render.resource import EnvoyResource, blamed, in_order
from xds.render.routes import Reached, Share


@lru_cache(maxsize=256)
def resources(
    ports: tuple[RoutedPort, ...],
    destinations: tuple[Destination, ...],
    gateway: tuple[GatewayPort, ...],
    egress: tuple[L7Class, ...],
    normalization: PathNormalization,
    spans: Tracing | None,
    logs: tuple[AccessLog, ...],
    standing: tuple[Slot, ...],
) -> tuple[EnvoyResource, ...]:
    """Pods for which the same is routed share it."""
    made = _making(ports, gateway, egress, spans)
    shaped = made.shaped(destinations)
    found = [resource for one in shaped for resource in one.resources]
    if ports:
        policies = tuple(one.policy for one in shaped if one.policy)
        found.append(_listener(ports, policies, normalization, tracing.structure(spans), logs, standing))
        found.extend(made.routes([one.reached for one in shaped]))
    return in_order(found)


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
            reach(destination, self._judges),
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
    blame = blamed(origin for routed in ports for origin in routed.origins)
    return EnvoyResource(LISTENER, naming.ROUTING_LISTENER, body, blame)


@lru_cache(maxsize=65536)
def _reaching(destination: Destination, senders: tuple[ObjectRef, ...]) -> tuple[EnvoyResource, ...]:
    if destination.target.protocol == "UDP":
        return _datagrams(destination, senders)
    dialled = to_the_dialled_address(destination.policy.balancer)
    peers = mutual_tls.peers(destination)
    if dialled and destination.mutual and not set(_backends(destination)) <= set(destination.mutual):
        # Nobody would know which of them was dialled.
        peers = None
    found = []
    for part in _parts(destination):
        name = naming.cluster(destination.target, part.l7)
        shared = any(place.weight for place in part.places)
        body = clusters.service_cluster(
            name,
            part.l7 != 0,
            destination.policy,
            destination.version,
            peers,
            shared=shared,
            rule=destination.rule,
        )
        found.append(EnvoyResource(CLUSTER, name, body, senders))
        if not dialled:
            body = endpoints.endpoints(name, part.backends, part.places, destination.mutual)
            found.append(EnvoyResource(ENDPOINTS, name, body, senders))
    return tuple(found)


def _backends(destination: Destination) -> Iterator[Backend]:
    return (backend for part in destination.parts for backend in part.backends)


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
    blame = blamed((*routed.origins, *(origin for l7 in judges for origin in l7.origins)))
    name = naming.routed_port(routed.service, routed.port, routed.address)
    return EnvoyResource(ROUTES, name, body, blame)


def _parts(destination: Destination) -> tuple[Part, ...]:
    """At least one, so that a destination without backends answers 503 and not 500."""
    return tuple(part for part in destination.parts if part.backends) or (Part(0, ()),)


def _shares(destination: Destination, egress: Mapping[int, L7Class]) -> tuple[Share, ...]:
    parts = _parts(destination)
    judges = [egress[part.l7] if part.l7 else None for part in parts]
    if len(parts) == 1:
        return (Share(judges[0]),)
    return tuple(Share(judge, part.count) for judge, part in zip(judges, parts, strict=True))


def reach(destination: Destination, judges: Mapping[int, L7Class]) -> Reached:
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
        naming.routed_port(routed.service, routed.port, routed.address),
        routed.service.host,
        routed.dialled,
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
