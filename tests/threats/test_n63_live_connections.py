"""N63, R19: a tightening ends the connections that it forbids, whatever state they are in, and no other.

Two thousand connections: established and idle, established and talking, established and never accepted, half
open at either end, and connected datagram sockets, over both families. Then half of them are forbidden, at
either end, also by the first policy that selects a pod at all (aws-network-policy-agent#650 forgot that) and
by another label of the peer. `--long`: as many of 50,000 as file descriptors allow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.dialects import read
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef, WorkloadName
from tests.agreement.actor import Actor
from tests.agreement.crowd import STATES, TALKING, Crowd, State
from tests.agreement.town import Town
from tests.node.mesh import until

CLIENT, SERVER = WorkloadName("town", "client"), WorkloadName("town", "server")
ADDRESSES = {
    CLIENT: ("10.64.0.10", "fd51:ce00:0:1::a"),
    SERVER: ("10.64.0.11", "fd51:ce00:0:1::b"),
}
#: Of a hundred connections.
SHARES: dict[State, int] = {
    "idle": 56, "active": 20, "unaccepted": 12, "half-opened": 4, "opening": 2, "datagrams": 6
}  # fmt: skip
KEPT, CUT = 8000, 9000
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Connections of one kind; those to ports from CUT on are what a tightening forbids."""

    state: State
    address: str
    port: int
    count: int

    @property
    def name(self) -> str:
        return f"{self.state} to {self.address} port {self.port}"

    @property
    def cut(self) -> bool:
        return self.port >= CUT


def pod(name: WorkloadName, role: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name.name, "namespace": "town", "labels": {"app": name.name, "role": role}},
        "spec": {"nodeName": "here", "containers": [{"name": "main", "command": ["true"]}]},
        "status": {
            "podIPs": [{"ip": address} for address in ADDRESSES[name]],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def ports(first: int) -> list[Object]:
    return [{"port": first, "endPort": first + 999, "protocol": protocol} for protocol in ("TCP", "UDP")]


def policy(subject: str, direction: str, *rules: Object) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "ports", "namespace": "town"},
        "spec": {
            "podSelector": {"matchLabels": {"app": subject}},
            "policyTypes": [direction],
            direction.lower(): list(rules),
        },
    }


FRIENDS = {"ports": ports(CUT), "from": [{"podSelector": {"matchLabels": {"role": "friend"}}}]}
NARROW, WIDE = {"ports": ports(KEPT)}, {"ports": ports(CUT)}
#: What is written before and after: a policy, or what the client is to others.
TIGHTENINGS: dict[str, tuple[Object | None, Object | None]] = {
    "the first policy selects the server": (None, policy("server", "Ingress", NARROW)),
    "the first policy selects the client": (None, policy("client", "Egress", NARROW)),
    "a rule is taken away": (policy("server", "Ingress", NARROW, WIDE), policy("server", "Ingress", NARROW)),
    "the client is another": (policy("server", "Ingress", NARROW, FRIENDS), pod(CLIENT, "stranger")),
}


class Written:
    """Objects in the order in which they are written, and the town that obeys them."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._mesh = Mesh(Allocations(["10.128.0.0/16"]), hosts=["10.64.0.1"])
        self._node = Node(self._mesh, "here")
        self.write(pod(CLIENT, "friend"), pod(SERVER, "server"))

    def write(self, *documents: Object) -> None:
        found = [read(document) for document in documents]
        assert not any(fragment.problems for fragment in found)
        self._apply({fragment.ref: fragment for fragment in found})

    def delete(self, document: Object) -> None:
        self._apply({read(document).ref: None})

    def _apply(self, fragments: dict[ObjectRef, Fragment | None]) -> None:
        self._node.update(self._mesh.apply(fragments))
        self._town.enforce(self._node.state)


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town(ADDRESSES, "10.64.0.1", ("192.0.2.2",))
    try:
        made.build()
        yield made
    finally:
        made.close()


def groups(total: int) -> list[Group]:
    return [
        Group(state, address, first + 10 * number + six, total * SHARES[state] // 400)
        for number, state in enumerate(STATES)
        for six, address in enumerate(ADDRESSES[SERVER])
        for first in (KEPT, CUT)
    ]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tightening", TIGHTENINGS)
def test_a_tightening_ends_what_it_forbids_and_nothing_else(town: Town, tightening: str, long: bool) -> None:
    before, after = TIGHTENINGS[tightening]
    assert after is not None
    written = Written(town)
    if before is not None:
        written.write(before)
    else:
        # The last policy that selects anybody goes: nothing is asked any more.
        written.write(after)
        written.delete(after)
    # A client's end and a server's end of each connection, in processes that may hold so many.
    share = 17_000 if long else 2_000
    crowds = [
        (town.act(CLIENT, Crowd), town.act(SERVER, Crowd), number) for number in range(3 if long else 1)
    ]
    everything: list[tuple[Any, Any, list[Group]]] = []
    for client, server, number in crowds:
        made = [Group(g.state, g.address, g.port + 100 * number, g.count) for g in groups(share)]
        for group in made:
            server.tell("listen", group.name, group.state, group.address, group.port)
        for group in made:
            client.tell("open", group.name, group.state, group.address, group.port, group.count)
            server.tell("accept")
        waiting = sum(group.count for group in made if group.state == "half-opened")
        until(lambda: server.tell("half_opened") == waiting, "SYNs have come")  # noqa: B023
        standing = client.tell("established")
        assert all(standing[g.name] == g.count for g in made if g.state in (*TALKING, "unaccepted"))
        everything.append((client, server, made))
        assert talking(client, server) == {g.name: g.count for g in made if g.state in TALKING}
    count = sum(group.count for _, _, made in everything for group in made)
    # A loosening ends nothing.
    assert all(alive(c) == {g.name: g.count for g in made} for c, _, made in everything)

    for client, _, _ in everything:
        client.begin("speak")
    begun = time.monotonic()
    written.write(after)
    enforced = time.monotonic() - begun
    for client, _, _ in everything:
        client.finish()
    for client, server, made in everything:
        server.tell("echo")
        client.tell("heard")
        wanted = {g.name: 0 if g.cut and g.state != "datagrams" else g.count for g in made}
        until(lambda: alive(client) == wanted, "the forbidden have ended")  # noqa: B023
    ended = time.monotonic() - begun
    for client, server, made in everything:
        kept = {g.name: 0 if g.cut else g.count for g in made if g.state in TALKING}
        assert talking(client, server) == kept
        # A kernel may be unable to take a request away; the next test shows that it comes to nothing.
        waiting = sum(g.count for g in made if g.state == "half-opened" and not g.cut)
        assert server.tell("half_opened") >= waiting
    forbidden = sum(g.count for _, _, made in everything for g in made if g.cut)
    print(
        f"{tightening}: of {count} connections {forbidden} were forbidden; enforced after"
        f" {enforced * 1e3:.0f} ms, seen to have ended after {ended * 1e3:.0f} ms"
    )


def alive(client: Actor) -> dict[str, int]:
    found: dict[str, int] = client.tell("living")
    return found


def talking(client: Actor, server: Actor) -> dict[str, int]:
    """By group that can talk, on how many connections an answer comes to a word."""
    found: dict[str, int] = {}
    client.tell("speak")
    silent = 0
    while silent < 10:
        time.sleep(0.02)
        server.tell("echo")
        heard: dict[str, int] = client.tell("heard")
        silent = 0 if any(heard.values()) else silent + 1
        for name, count in heard.items():
            found[name] = found.get(name, 0) + count
    return {name: count for name, count in found.items() if name.startswith(TALKING)}


def test_a_half_open_connection_that_is_forbidden_is_never_completed(town: Town) -> None:
    written = Written(town)
    server, client = town.act(SERVER, Crowd), town.act(None, Crowd)
    address = ADDRESSES[SERVER][0]
    made = [Group("half-opened", address, port, 20) for port in (KEPT, CUT)]
    for group in made:
        server.tell("listen", group.name, "half-opened", address, group.port)
        client.tell("open", group.name, "half-opened", address, group.port, group.count)
    until(lambda: server.tell("half_opened") == 40, "SYNs have come")
    written.write(policy("server", "Ingress", NARROW))
    client.tell("listen_again")
    kept, cut = made
    until(lambda: client.tell("established")[kept.name] == 20, "SYN-ACKs come again")
    assert client.tell("established")[cut.name] == 0
    written.delete(policy("server", "Ingress", NARROW))
    until(lambda: client.tell("established")[cut.name] == 20, "it was the policy")
