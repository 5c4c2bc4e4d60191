"""N60, R11: a pod on an address that another pod had never gets what that one was allowed.

Pods die and others with other rights get their addresses, two network namespaces an address, one after the
other. Four events make a reuse (the sandbox file of the old pod goes, that of the new one comes; the control
plane hears of the end of the old pod, and of the address of the new one); they come in every order and with
every delay. After each round of the agent everybody who lives sends real datagrams, from sockets that the
hooks see and from sockets that only tc sees, by the ports that the old pod used. `--long`: 100,000 reuses.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from agent.kernel import Kernel
from agent.workloads import Guarded
from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.dialects import read
from mesh.identity import Allocations
from mesh.model import Fragment, ObjectRef, WorkloadName
from tests.agreement.town import Town
from tests.kernel.host import child

NODE = "10.64.0.1"
SLOTS = 16
VAULT, TELLER = WorkloadName("bank", "vault"), WorkloadName("bank", "teller")
#: Where everybody in a slot has an application's and a stranger's socket, and where the vault listens.
PORTS, VAULT_PORTS = (7001, 7002), (7003, 7004)
#: The order of events: old or new sandbox file, old or new Pod as the control plane knows it.
EVENTS = ("sandbox gone", "sandbox made", "pod gone", "pod placed")
Object = dict[str, Any]


def pod(name: WorkloadName, uid: str, role: str, address: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name.name, "namespace": name.namespace, "uid": uid, "labels": {"role": role}},
        "spec": {"nodeName": "here", "containers": [{"name": "main", "command": ["true"]}]},
        "status": {"podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]},
    }


def only_with_red(subject: str, direction: str, where: str) -> Object:
    """Red pods may reach the vault, the teller may reach red pods."""
    red = [{"podSelector": {"matchLabels": {"role": "red"}}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": subject, "namespace": "bank"},
        "spec": {
            "podSelector": {"matchLabels": {"role": subject}},
            "policyTypes": [direction],
            direction.lower(): [{where: red}],
        },
    }


@dataclass(slots=True)
class Tenant:
    """One pod of a slot. `box` is which of the slot's two namespaces it lives in."""

    name: WorkloadName
    uid: str
    role: str
    box: int
    alive: bool = False


@dataclass(slots=True)
class Slot:
    """An address, its sockets (box -> the application's, the stranger's), and who has it."""

    number: int
    address: str
    sockets: tuple[tuple[socket.socket, socket.socket], ...]
    tenants: list[Tenant] = field(default_factory=list)
    agenda: list[str] = field(default_factory=list)
    order: tuple[str, ...] = ()


class Bank:
    """Control plane, agent and kernel, and datagrams that say who got through."""

    def __init__(self, town: Town, slots: list[Slot], counters: Mapping[str, list[socket.socket]]) -> None:
        self._town = town
        self.slots = slots
        self._vault, self._teller = counters["vault"], counters["teller"]
        self._mesh = Mesh(Allocations(["10.128.0.0/16"]), hosts=[NODE])
        self._pending: dict[ObjectRef, Fragment | None] = {}
        #: Which pod the control plane knows by a name: the end of an earlier one is not its end.
        self._placed: dict[WorkloadName, str] = {}
        self._guarded: dict[WorkloadName, Guarded] = {n: town.guarded[n] for n in (VAULT, TELLER)}
        self._write(pod(VAULT, "", "vault", "10.64.0.2"))
        self._write(pod(TELLER, "", "teller", "10.64.0.3"))
        self._write(only_with_red("vault", "Ingress", "from"))
        self._write(only_with_red("teller", "Egress", "to"))
        self._mesh.apply(self._pending)
        self._node = Node(self._mesh, "here")
        self.round()

    def _write(self, document: Object, *, gone: bool = False) -> None:
        fragment = read(document)
        assert not fragment.problems
        self._pending[fragment.ref] = None if gone else fragment

    def happen(self, slot: Slot, event: str) -> None:
        """One of EVENTS, for the slot's newest tenant and the one before."""
        old, new = ([None, *slot.tenants])[-2:]
        assert new is not None
        tenant = old if event.endswith("gone") else new
        if tenant is None:
            return
        if event == "sandbox gone":
            tenant.alive = False
            if self._guarded[tenant.name].sandbox.uid == tenant.uid:
                del self._guarded[tenant.name]
        elif event == "sandbox made":
            built = self._town.guarded[WorkloadName("box", f"{slot.number}-{tenant.box}")]
            sandbox = replace(built.sandbox, pod=tenant.name, uid=tenant.uid)
            self._guarded[tenant.name] = replace(built, sandbox=sandbox)
            tenant.alive = True
        elif event == "pod placed":
            self._write(pod(tenant.name, tenant.uid, tenant.role, slot.address))
            self._placed[tenant.name] = tenant.uid
        elif self._placed[tenant.name] == tenant.uid:
            self._write(pod(tenant.name, tenant.uid, tenant.role, slot.address), gone=True)

    def round(self) -> None:
        """The control plane's next generation, and the agent's next look at everything."""
        self._node.update(self._mesh.apply(self._pending))
        self._pending = {}
        self._town.enforce(self._node.state, guarded=dict(self._guarded))

    def passes(self) -> set[tuple[str, int, int, int]]:
        """Whose datagrams come through now: (to the vault or from the teller, slot, box, kind of socket)."""
        for slot in self.slots:
            for tenant in slot.tenants:
                if tenant.alive:
                    for kind, made in enumerate(slot.sockets[tenant.box]):
                        self._send(made, bytes((slot.number, tenant.box)), ("10.64.0.2", VAULT_PORTS[kind]))
            for kind, made in enumerate(self._teller):
                self._send(made, b"?", (slot.address, PORTS[kind]))
        found = set()
        for kind, made in enumerate(self._vault):
            found |= {("vault", data[0], data[1], kind) for data in _received(made)}
        for slot in self.slots:
            for box, pair in enumerate(slot.sockets):
                for kind, made in enumerate(pair):
                    found |= {("teller", slot.number, box, kind) for _ in _received(made)}
        return found

    def _send(self, made: socket.socket, data: bytes, target: tuple[str, int]) -> None:
        try:
            made.sendto(data, target)
        except PermissionError:
            return


def _received(made: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield made.recv(16)
        except BlockingIOError:
            return


def rightful(slots: list[Slot]) -> set[tuple[str, int, int, int]]:
    """What those who live now may do, and no other."""
    return {
        (who, slot.number, tenant.box, kind)
        for slot in slots
        for tenant in slot.tenants
        if tenant.alive and tenant.role == "red"
        for who in ("vault", "teller")
        for kind in (0, 1)
    }


@pytest.fixture
def bank(short_grace: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    # Datagrams have no sockets to sweep, and a walk over every namespace costs more than all the rest.
    monkeypatch.setattr(Kernel, "sweep", lambda kernel, netns: 0)
    addresses = [f"10.64.1.{number}" for number in range(SLOTS)]
    boxes = {
        WorkloadName("box", f"{n}-{box}"): (address,) for n, address in enumerate(addresses) for box in (0, 1)
    }
    town = Town({VAULT: ("10.64.0.2",), TELLER: ("10.64.0.3",)} | boxes, NODE, ("192.0.2.2",))
    with ExitStack() as stack:
        stack.callback(town.close)
        town.build()

        def sockets(name: WorkloadName, ports: tuple[int, int]) -> tuple[socket.socket, socket.socket]:
            netns, cgroup = town.place_of(name)
            made = [_socket(netns, of, port) for of, port in zip((cgroup, None), ports, strict=True)]
            for each in made:
                stack.callback(each.close)
            return made[0], made[1]

        counters = {"vault": [*sockets(VAULT, VAULT_PORTS)], "teller": [*sockets(TELLER, PORTS)]}
        slots = [
            Slot(n, address, tuple(sockets(WorkloadName("box", f"{n}-{box}"), PORTS) for box in (0, 1)))
            for n, address in enumerate(addresses)
        ]
        yield Bank(town, slots, counters)


def _socket(netns: Path, cgroup: Path | None, port: int) -> socket.socket:
    def make() -> list[int]:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.bind(("", port))
        return [made.detach()]

    return socket.socket(fileno=child(netns, cgroup, make)[0])


class Landlord:
    """Lets every slot again and again."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._orders = list(permutations(EVENTS))
        self._serial = 0
        self.orders = Counter[tuple[str, ...]]()

    def let(self, slot: Slot) -> None:
        """Another tenant with other rights moves in; nothing of it has happened yet."""
        rng = self._rng
        self._serial += 1
        old = slot.tenants[-1] if slot.tenants else None
        role = rng.choice(("red", "blue")) if old is None else "blue" if old.role == "red" else "red"
        # The first by name has an address that several claim: sometimes it is the old, sometimes the new.
        name = WorkloadName("bank", f"{rng.choice('az')}{self._serial}")
        if old is not None and rng.random() < 0.25:
            name = old.name  # as a StatefulSet's pods, but with other labels
        box = 0 if old is None else 1 - old.box
        slot.tenants = [*slot.tenants[-1:], Tenant(name, f"uid-{self._serial}", role, box)]
        slot.order = rng.choice(self._orders)
        self.orders[slot.order] += 1
        slot.agenda = list(slot.order)

    def due(self, slot: Slot) -> list[str]:
        """What happens to the slot before the agent looks again: nothing, or some events at once."""
        count = self._rng.choice((0, 1, 1, 1, 2, 4))
        events, slot.agenda = slot.agenda[:count], slot.agenda[count:]
        return events


@pytest.mark.timeout(7200)
def test_a_new_pod_on_an_old_address_inherits_nothing(bank: Bank, long: bool) -> None:
    landlord = Landlord(11)
    wanted = 100_000 if long else 5_000
    done = rounds = seen = 0
    for slot in bank.slots:
        landlord.let(slot)
    while done < wanted:
        moved_in = [slot for slot in bank.slots if not slot.agenda]
        for slot in bank.slots:
            for event in landlord.due(slot):
                bank.happen(slot, event)
        bank.round()
        rounds += 1
        passes, allowed = bank.passes(), rightful(bank.slots)
        seen += len(passes)
        stolen = {
            (what, next(slot.order for slot in bank.slots if slot.number == what[1]))
            for what in passes - allowed
        }
        assert not stolen, f"after {done} reuses and {rounds} rounds"
        # Where all is said and done, whoever may, can.
        settled = {slot.number for slot in moved_in}
        assert {what for what in allowed - passes if what[1] in settled} == set()
        for slot in moved_in:
            landlord.let(slot)
            done += 1
    orders = len(landlord.orders)
    print(f"{done} reuses in {rounds} rounds, {seen} datagrams came through, {orders} orders of events")
    assert orders == 24
    assert seen >= done
