"""Envoy's reference rules as a small model: what warms, what an ACK waits for, what is in use.

A changed cluster warms until its endpoints come, and the ACK of clusters waits for that; it is not
asked for again. A changed listener takes over from the old one when all its routes are there.
Whatever is in use must be there: `check` says what is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES, referred
from mesh.discovery.resource import Resource
from mesh.discovery.wire import DeltaRequest, DeltaResponse, DiscoveryRequest, DiscoveryResponse, fields, text


def body(resource: Resource) -> bytes:
    return next((data for number, _, data in fields(resource.any) if number == 2), b"")


def targets(route: Resource) -> set[str]:
    """Clusters of a route configuration: field 98 of these tests' messages."""
    return {text(data) for number, _, data in fields(body(route)) if number == 98}


@dataclass
class WarmingClient:
    delta: bool
    clusters: dict[str, Resource] = field(default_factory=dict)
    warm: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)
    endpoints: dict[str, Resource] = field(default_factory=dict)
    listeners: dict[str, Resource] = field(default_factory=dict)
    pending: dict[str, Resource] = field(default_factory=dict)
    routes: dict[str, Resource] = field(default_factory=dict)
    asked: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINTS: set(), ROUTES: set()})
    held: tuple[str, str] | None = None
    nonces: dict[str, str] = field(default_factory=dict)
    requests: deque[bytes] = field(default_factory=deque)

    def connect(self) -> None:
        """Begin a stream: clusters and listeners by legacy wildcard, the rest by name."""
        self.requests.clear()
        self.nonces.clear()
        self.held = None
        known: dict[str, Mapping[str, Resource]] = {
            CLUSTER: self.clusters, ENDPOINTS: self.endpoints,
            LISTENER: self.listeners | self.pending, ROUTES: self.routes,
        }  # fmt: skip
        for index, (type_url, resources) in enumerate(known.items()):
            names = tuple(sorted(self.asked.get(type_url, ())))
            node = None if index else "node"
            versions = {name: resource.version for name, resource in resources.items()}
            if type_url in self.asked and not names:
                continue
            if self.delta:
                self.requests.append(DeltaRequest(type_url, node, names, (), versions).encode())
            else:
                self.requests.append(DiscoveryRequest(type_url, node, names).encode())

    def receive(self, message: bytes) -> None:
        type_url, nonce, changed, removed = self._read(message)
        self.nonces[type_url] = nonce
        match type_url:
            case t if t == CLUSTER:
                self._take_clusters(changed, removed, nonce)
                return
            case t if t == ENDPOINTS:
                self.endpoints.update({n: e for n, e in changed.items() if n in self.asked[ENDPOINTS]})
                self.awaited -= {*changed, *removed}
            case t if t == LISTENER:
                for name in removed:
                    self.listeners.pop(name, None)
                    self.pending.pop(name, None)
                self.pending.update(changed)
                self._subscribe_to_routes()
            case t if t == ROUTES:
                self.routes.update({n: r for n, r in changed.items() if n in self.asked[ROUTES]})
        self._ack(type_url, nonce)
        self._warm()

    def check(self) -> Iterator[str]:
        """What is in use and not there."""
        for name, listener in self.listeners.items():
            for route in referred(listener):
                if route not in self.routes:
                    yield f"listener {name} has no route {route}"
                else:
                    yield from (
                        f"route {route} leads to cluster {target}, which is cold or gone"
                        for target in targets(self.routes[route]) - self.warm
                    )

    def _read(self, message: bytes) -> tuple[str, str, dict[str, Resource], set[str]]:
        if self.delta:
            delta = DeltaResponse.decode(message)
            changed = {name: Resource(name, version, any_) for name, version, any_ in delta.resources}
            return delta.type_url, delta.nonce, changed, set(delta.removed)
        world = DiscoveryResponse.decode(message)
        resources = {}
        for any_ in world.resources:
            resource = Resource.packed("", any_)
            name = next(text(data) for number, _, data in fields(body(resource)) if number == 1)
            resources[name] = Resource(name, resource.version, any_)
        have = {CLUSTER: self.clusters, LISTENER: self.listeners | self.pending}.get(world.type_url, {})
        changed = {n: r for n, r in resources.items() if n not in have or have[n].version != r.version}
        return world.type_url, world.nonce, changed, set(have) - set(resources)

    def _take_clusters(self, changed: Mapping[str, Resource], removed: set[str], nonce: str) -> None:
        for name in removed:
            self.clusters.pop(name, None)
            self.warm.discard(name)
        self.clusters.update(changed)
        self._subscribe(ENDPOINTS, set(self._referred(self.clusters)))
        self.endpoints = {n: e for n, e in self.endpoints.items() if n in self.asked[ENDPOINTS]}
        self.awaited = (self.awaited & self.asked[ENDPOINTS]) | set(self._referred(changed))
        self.held = (CLUSTER, nonce)
        self._warm()

    def _warm(self) -> None:
        self.warm |= {n for n, cluster in self.clusters.items() if not referred(cluster) & self.awaited}
        if self.held and not self.awaited:
            self._ack(*self.held)
            self.held = None
        for name, listener in list(self.pending.items()):
            if referred(listener) <= self.routes.keys():
                self.listeners[name] = self.pending.pop(name)
        self._subscribe_to_routes()

    def _subscribe_to_routes(self) -> None:
        self._subscribe(ROUTES, {*self._referred(self.listeners), *self._referred(self.pending)})
        self.routes = {n: r for n, r in self.routes.items() if n in self.asked[ROUTES]}

    def _referred(self, resources: Mapping[str, Resource]) -> Iterator[str]:
        for resource in resources.values():
            yield from referred(resource)

    def _subscribe(self, type_url: str, names: set[str]) -> None:
        asked, self.asked[type_url] = self.asked[type_url], names
        if names == asked:
            return
        if self.delta:
            added, dropped = tuple(sorted(names - asked)), tuple(sorted(asked - names))
            self.requests.append(DeltaRequest(type_url, None, added, dropped).encode())
        else:
            self._ack(type_url, self.nonces.get(type_url, ""))

    def _ack(self, type_url: str, nonce: str) -> None:
        if self.delta:
            self.requests.append(DeltaRequest(type_url, nonce=nonce).encode())
        else:
            names = tuple(sorted(self.asked.get(type_url, ())))
            self.requests.append(DiscoveryRequest(type_url, None, names, "v", nonce).encode())
