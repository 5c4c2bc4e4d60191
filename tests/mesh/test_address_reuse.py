"""N60: in whatever order pods end and begin, an address is of nobody but a pod that has it."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.dialects import read, ref_of
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef, WorkloadName

ADDRESSES = ("10.64.0.10", "10.64.0.11", "10.64.0.12")
Object = dict[str, Any]
#: A pod as it stands, or that it is gone.
Event = tuple[str, Object | None]


def pod(name: str, role: str, *addresses: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "town", "labels": {"role": role}},
        "spec": {"nodeName": "here", "containers": [{"name": "main", "command": ["true"]}]},
        "status": {
            "podIPs": [{"ip": address} for address in addresses],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def fragments(events: list[Event]) -> dict[ObjectRef, Fragment | None]:
    return {ref_of(pod(name, "")): None if document is None else read(document) for name, document in events}


def check(mesh: Mesh, node: Node, standing: dict[str, Object]) -> None:
    """Who has an address, by the records that agents get, against who says it has."""
    claims: dict[str, set[str]] = {}
    for name, document in standing.items():
        for entry in document["status"]["podIPs"]:
            claims.setdefault(entry["ip"], set()).add(name)
    told: dict[str, str] = {}
    for record in node.state.workloads.values():
        assert record.security_id == mesh.identities.of[record.name]
        labels = mesh.identities.all[record.security_id].mapping
        assert labels["role"] == standing[record.name.name]["metadata"]["labels"]["role"]
        for address, _ in record.addresses:
            assert address not in told, "one owner at a time"
            told[address] = record.name.name
    assert told == {address: min(names) for address, names in claims.items()}
    for address in ADDRESSES:
        owner = told.get(address)
        expected = 2 if owner is None else mesh.identities.of[WorkloadName("town", owner)]
        assert node.shared.peer_of(address)[0] == expected
    placed = {name.rpartition("/")[2]: record for name, record in node.state.pods.items()}
    for name, local in placed.items():
        assert set(local.addresses) == {address for address, owner in told.items() if owner == name}


def play(mesh: Mesh, node: Node, standing: dict[str, Object], events: list[Event]) -> None:
    """Together, as one generation."""
    for name, document in events:
        standing.pop(name, None)
        if document is not None:
            standing[name] = document
    node.update(mesh.apply(fragments(events)))
    check(mesh, node, standing)


@pytest.mark.parametrize("names", [("old", "new"), ("a-old", "z-new")])
def test_every_order_of_a_hand_over_between_two_pods_and_a_third(names: tuple[str, str]) -> None:
    old, new = names
    address, other = ADDRESSES[:2]
    events: list[Event] = [
        (old, None),
        (new, pod(new, "blue")),
        (new, pod(new, "blue", address)),
        ("third", pod("third", "red", other)),
        ("third", None),
    ]
    for order in permutations(events):
        mesh = Mesh(Allocations(["10.128.0.0/16"]))
        standing: dict[str, Object] = {}
        node = Node(mesh, "here")
        play(mesh, node, standing, [(old, pod(old, "red", address))])
        for event in order:
            play(mesh, node, standing, [event])


@pytest.mark.timeout(7200)
def test_five_thousand_hand_overs_in_any_order_leave_each_address_with_who_has_it(long: bool) -> None:
    rng = random.Random(5)
    mesh = Mesh(Allocations(["10.128.0.0/16"]))
    node, standing = Node(mesh, "here"), dict[str, Object]()
    for _ in range(100_000 if long else 5_000):
        events: list[Event] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            name = rng.choice("abcdef")
            if rng.random() < 0.4:
                events.append((name, None))
            else:
                # Now and then the same name comes back as somebody else, on the address that it had.
                count = rng.choice((0, 1, 1, 2))
                events.append((name, pod(name, rng.choice(("red", "blue")), *rng.sample(ADDRESSES, count))))
        play(mesh, node, standing, list(dict(events).items()))
    scratch = Mesh(mesh.allocations.copy())
    scratch.apply(fragments(list(standing.items())))
    assert Node(scratch, "here").state == node.state
