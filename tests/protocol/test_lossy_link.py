"""Both ends of the machine over a link that loses what is under way: whatever changes and breaks, in
whatever order, the client ends with the snapshot, and with whole generations on the way there."""

from __future__ import annotations

import random
from collections import deque

import pytest

from mesh.discovery.resource import Resource, Snapshot
from mesh.discovery.session import Session
from mesh.discovery.subscriber import Subscriber, Update
from mesh.discovery.wire import DeltaRequest
from tests.protocol.served import resource

TYPES = ("type.googleapis.com/test.A", "type.googleapis.com/test.B", "type.googleapis.com/test.C")
LAST = "type.googleapis.com/test.Generation"
NAMES = [f"n{n}" for n in range(6)]
SEEDS = range(150)


class Link:
    """A server, a client, and what is under way between them. The client applies an update at once
    and answers it any time later, or, of the last type, when it pleases."""

    def __init__(self, rng: random.Random, order: tuple[str, ...] = (*TYPES, LAST)) -> None:
        self.rng = rng
        self.order = order
        self.snapshot: Snapshot = {}
        self.history: list[Snapshot] = []
        self.held: dict[str, dict[str, Resource]] = {type_url: {} for type_url in order}
        self.subscriber = Subscriber("node", order)
        self.sent = 0
        self.generations: list[int] = []
        self.change()
        self.connect()

    def change(self) -> None:
        """Change a few resources of a few types; types that do not change keep their mapping."""
        snapshot = dict(self.snapshot)
        for type_url in self.rng.sample(TYPES, self.rng.randint(0, len(TYPES))):
            resources = dict(snapshot.get(type_url, {}))
            for name in self.rng.sample(NAMES, self.rng.randint(1, 3)):
                if self.rng.random() < 0.4:
                    resources.pop(name, None)
                else:
                    resources[name] = resource(type_url, name, str(self.rng.randint(0, 3)))
            snapshot[type_url] = resources
        snapshot[LAST] = {"generation": resource(LAST, "generation", str(len(self.history)))}
        self.snapshot = snapshot
        self.history.append(snapshot)

    def connect(self) -> None:
        self.session = Session(self.order, delta=True)
        self.requests = deque(self.subscriber.connect())
        self.responses: deque[bytes] = deque()
        self.unanswered: list[Update] = []

    def step(self) -> None:
        match self.rng.choice(("change", "break", *["request", "update", "send", "receive", "answer"] * 5)):
            case "change":
                self.change()
            case "break":
                self.connect()
            case "update":
                self.session.update(self.snapshot)
            case action:
                getattr(self, action)()

    def request(self) -> bool:
        if not self.requests:
            return False
        self.session.receive(self.requests.popleft())
        return True

    def send(self) -> bool:
        response = self.session.send()
        if response is None:
            return False
        self.sent += 1
        self.responses.append(response)
        return True

    def receive(self) -> bool:
        if not self.responses:
            return False
        update = self.subscriber.receive(self.responses.popleft())
        self.held[update.type_url].update(update.changed)
        for name in update.removed:
            self.held[update.type_url].pop(name, None)
        if update.type_url == LAST and update.changed:
            self.check_generation()
        self.unanswered.append(update)
        return True

    def check_generation(self) -> None:
        number = next(
            number
            for number, snapshot in enumerate(self.history)
            if snapshot[LAST]["generation"] == self.held[LAST]["generation"]
        )
        self.generations.append(number)
        for type_url in TYPES:
            assert self.held[type_url] == self.history[number].get(type_url, {}), (number, type_url)

    def answer(self) -> bool:
        if not self.unanswered:
            return False
        update = self.unanswered.pop(self.rng.randrange(len(self.unanswered)))
        self.requests.append(self.subscriber.ack(update))
        return True

    def settle(self) -> None:
        self.session.update(self.snapshot)
        while any([self.request(), self.send(), self.receive(), self.answer()]):
            pass


@pytest.mark.parametrize("seed", SEEDS)
def test_the_client_ends_with_the_snapshot(seed: int) -> None:
    link = Link(random.Random(seed))
    for _ in range(300):
        link.step()
    link.settle()
    for type_url in link.order:
        assert link.held[type_url] == link.snapshot.get(type_url, {})
        expected = {name: each.version for name, each in link.snapshot.get(type_url, {}).items()}
        assert link.session.acked(type_url) == expected
    assert link.session.settled()


def test_after_it_settled_a_reconnect_costs_no_response_but_the_same_snapshot_in_new_objects_neither() -> (
    None
):
    link = Link(random.Random(1))
    for _ in range(20):
        link.change()
    link.settle()
    link.sent = 0
    link.connect()
    link.settle()
    link.snapshot = {
        type_url: {name: Resource(r.name, r.version, r.any) for name, r in resources.items()}
        for type_url, resources in link.snapshot.items()
    }
    link.settle()
    assert link.sent == 0


def test_the_links_of_these_tests_saw_whole_generations_in_the_midst_of_changes() -> None:
    seen = 0
    for seed in SEEDS:
        link = Link(random.Random(seed))
        for _ in range(300):
            link.step()
        seen += len(link.generations)
    assert seen > len(SEEDS)


def test_a_late_answer_to_an_update_of_an_earlier_connection_says_nothing() -> None:
    link = Link(random.Random(2))
    link.session.update(link.snapshot)
    while link.request() or link.send():
        pass
    link.receive()
    (update,) = link.unanswered
    link.connect()
    assert link.subscriber.ack(update) == b""
    assert link.subscriber.nack(update, "late") == b""


def test_what_was_delivered_but_never_accepted_is_removed_when_it_vanished_meanwhile() -> None:
    link = Link(random.Random(3), (TYPES[0],))
    link.snapshot = {TYPES[0]: {"a": resource(TYPES[0], "a")}}
    link.session.update(link.snapshot)
    link.request()
    link.send()
    link.receive()
    assert set(link.held[TYPES[0]]) == {"a"}
    link.connect()
    link.snapshot = {}
    link.settle()
    assert link.held[TYPES[0]] == {}


def test_only_the_first_request_of_a_connection_says_who_asks() -> None:
    subscriber = Subscriber("node", TYPES)
    for _ in range(2):
        assert [DeltaRequest.decode(request).node_id for request in subscriber.connect()] == [
            "node",
            None,
            None,
        ]
