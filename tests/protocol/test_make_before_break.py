"""However snapshots follow each other and messages interleave, a client that warms as Envoy does
never uses what is not there, never waits for what does not come, and ends with the snapshot."""

from __future__ import annotations

import random
from collections import deque

import pytest

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, ENVOY_TYPES, LISTENER, ROUTES
from mesh.discovery.resource import Resource, Snapshot
from mesh.discovery.session import Session
from mesh.discovery.wire import text_field
from tests.protocol.served import cluster, listener, resource
from tests.protocol.warming_client import WarmingClient

SEEDS = range(50)
SERVICES = [f"s{n}" for n in range(5)]


def route(name: str, targets: list[str]) -> Resource:
    return Resource.of(ROUTES, name, text_field(1, name) + b"".join(text_field(98, t) for t in targets))


def snapshot(rng: random.Random) -> Snapshot:
    """A consistent snapshot, but that some endpoints may be missing."""
    services = rng.sample(SERVICES, rng.randint(1, len(SERVICES)))
    clusters = [
        cluster(name, str(rng.randint(0, 1)), service=rng.choice(("", "", "shared"))) for name in services
    ]
    routes = [
        route(f"r{n}", rng.sample(services, rng.randint(0, min(2, len(services)))))
        for n in range(rng.randint(1, 3))
    ]
    listeners = [
        listener(f"l{n}", *rng.sample([r.name for r in routes], rng.randint(1, len(routes))))
        for n in range(rng.randint(0, 2))
    ]
    endpoints = [
        resource(ENDPOINTS, name, str(rng.randint(0, 2)))
        for name in (*services, "shared")
        if rng.random() < 0.9
    ]
    content = {CLUSTER: clusters, ENDPOINTS: endpoints, LISTENER: listeners, ROUTES: routes}
    return {type_url: {each.name: each for each in found} for type_url, found in content.items()}


class World:
    def __init__(self, rng: random.Random, *, delta: bool) -> None:
        self.rng = rng
        self.client = WarmingClient(delta)
        self.snapshot = snapshot(rng)
        self.connect()

    def connect(self) -> None:
        self.session = Session(ENVOY_TYPES, delta=self.client.delta)
        self.session.update(self.snapshot)
        self.responses: deque[bytes] = deque()
        self.client.connect()

    def change(self) -> None:
        self.snapshot = snapshot(self.rng)
        self.session.update(self.snapshot)

    def request(self) -> bool:
        if not self.client.requests:
            return False
        self.session.receive(self.client.requests.popleft())
        return True

    def send(self) -> bool:
        response = self.session.send()
        if response is not None:
            self.responses.append(response)
        return response is not None

    def receive(self) -> bool:
        if not self.responses:
            return False
        self.client.receive(self.responses.popleft())
        assert list(self.client.check()) == []
        return True

    def settle(self) -> None:
        while any([self.request(), self.send(), self.receive()]):
            pass


@pytest.mark.parametrize("variant", ["delta", "state of the world"])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_dangles_nothing_stalls_and_the_snapshot_arrives(seed: int, variant: str) -> None:
    world = World(random.Random(seed), delta=variant == "delta")
    for _ in range(400):
        getattr(world, world.rng.choice(["change", *["request", "send", "receive"] * 6]))()
    world.settle()
    client, wanted = world.client, world.snapshot
    assert client.held is None, f"the ACK of clusters waits for {client.awaited}"
    assert client.pending == {}
    assert world.session.settled()
    for type_url, held in ((CLUSTER, client.clusters), (LISTENER, client.listeners)):
        assert {n: r.any for n, r in held.items()} == {n: r.any for n, r in wanted[type_url].items()}
    for type_url, held in ((ENDPOINTS, client.endpoints), (ROUTES, client.routes)):
        for name, each in held.items():
            if name in wanted[type_url]:
                assert each.any == wanted[type_url][name].any


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_dangles_over_reconnects_in_delta(seed: int) -> None:
    world = World(random.Random(seed), delta=True)
    for _ in range(400):
        action = world.rng.choice(["connect", "change", *["request", "send", "receive"] * 8])
        # What warms when the stream breaks waits for Envoy's own timeout: it claims to hold what it
        # holds, and no version says that it is cold.
        if action != "connect" or not world.client.awaited:
            getattr(world, action)()
    world.settle()
    assert world.client.pending == {}
    assert {n: r.any for n, r in world.client.clusters.items()} == {
        n: r.any for n, r in world.snapshot[CLUSTER].items()
    }
