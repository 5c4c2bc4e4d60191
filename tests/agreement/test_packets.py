"""What the reference says of a connection happens to its packets, service translation included.

A town of twelve pods gets one random mesh after another. Applications, their Envoys, sockets that no hook
of ours sees, the node and the world call pods, services and one another; each call is then held against
`judge`, by what its socket met, what the servers took in, and what the kernel told of just that call.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from bpf.layout import DropReason, Event, EventFlags, EventType, Verdict, address_text
from mesh.datapath import Node
from mesh.model import WorkloadName
from tests.agreement.actor import Arrival, Attempt, Called, Kind, Outcome
from tests.agreement.expectation import ICMP, Fate, Question, Reference, Told
from tests.agreement.generate import NODE, REMOTE, WORLD, World, generate
from tests.agreement.kinds import PORTS
from tests.agreement.town import HOST, OUTSIDE, Role, Town, Who, until

T = TypeVar("T")

pytestmark = pytest.mark.root

#: Two towns, for a town has source ports for so many calls only.
TOWNS = (range(38), range(38, 76))
CALLS = 270
#: Attempts have numbers from here on, below the ports that the kernel gives out itself.
FIRST = 20_000
KINDS: tuple[tuple[Kind, int], ...] = (
    ("tcp", 12), ("udp", 2), ("udp-connected", 2), ("icmp", 2), ("icmp-connected", 1)
)  # fmt: skip
ROLES: tuple[tuple[Role, int], ...] = (("app", 10), ("stranger", 6), ("envoy", 4))
BORDERS = sorted({port + d for port in (*PORTS, 1, 1024) for d in (-1, 1) if 0 < port + d < 65536} - {*PORTS})


class Mismatch(Exception):
    """Something happened that the reference does not say."""


@dataclass(slots=True)
class Evidence:
    """As it is gathered."""

    called: Called
    events: list[Event] = field(default_factory=list)
    outcome: Outcome = "silence"
    taken: list[tuple[str, Arrival]] = field(default_factory=list)

    def complete(self, question: Question) -> bool:
        """Is everything told that will be?"""
        if self.called.error or any(event.type == EventType.DROP for event in self.events):
            return True
        if question.protocol == "UDP" or self.outcome == "connected":
            return bool(self.taken)
        return self.outcome != "silence"

    def fate(self) -> Fate:
        told = {
            Told(EventType(e.type), Verdict(e.verdict), DropReason(e.reason), EventFlags(e.flags), e.cookie)
            for e in self.events
        }
        return Fate(self.called.error, frozenset(told), self.outcome, tuple(self.taken))

    def target(self, question: Question) -> tuple[str, int]:
        """Address and port that the kernel chose, port 0 for an echo request."""
        echo = question.protocol in ICMP
        found = {(address_text(e.dst), 0 if echo else e.dst_port) for e in self.events}
        if not found and question.service is not None:
            # Rule 10: within one pod the hook is silent, so the server must say it.
            own = str(question.caller.workload)
            found = {(question.caller.address, arrival.port) for place, arrival in self.taken if place == own}
        if not found:
            return question.dialled, question.attempt.port
        if len(found) > 1:
            raise Mismatch(f"one call was told of as several: {found}")
        return found.pop()


class Asker:
    """Random calls; every third of them where the reference denies, allows and steers, if it can be had."""

    def __init__(self, seed: int, world: World, reference: Reference) -> None:
        self._rng = random.Random(f"packets of {seed}")
        self._reference = reference
        self._parties = reference.parties
        self._pods = [p for p in self._parties.values() if p.workload]
        self._rest = [p for p in self._parties.values() if not p.workload]
        self._services = {
            (vip, port.port, str(port.protocol)): frozenset(
                (backend.address, backend.port)
                for backend in world.mesh.backends[name].get((port.port, port.protocol), ())
                if (":" in backend.address) == (":" in vip)
            )
            for name, vips in sorted(world.mesh.vips.items())
            for vip in vips
            for port in world.mesh.services[name].ports
        }

    def questions(self, first: int, count: int) -> Iterator[Question]:
        for index in range(count):
            wanted = ("deny", "allow", "steer")[index % 3]
            for _ in range(60):
                question = self._draw(first + index)
                if self._guess(question) == wanted:
                    break
            yield question

    def _guess(self, question: Question) -> str:
        target = (question.dialled, question.attempt.port)
        if question.service:
            target = self._rng.choice(sorted(question.service))
        return self._reference.fate(question, target)[0]

    def _draw(self, number: int) -> Question:
        rng = self._rng
        kind = _weighted(rng, KINDS)
        caller = rng.choice(self._pods if rng.random() < 0.85 else self._rest)
        six = ":" in caller.address
        protocol = {"tcp": "TCP", "udp": "UDP"}.get(kind.partition("-")[0], "ICMPv6" if six else "ICMP")
        who: Who = (HOST if caller.host else OUTSIDE, "stranger")
        source = caller.address
        backends: frozenset[tuple[str, int]] | None = None
        if caller.workload is not None:
            who, source = (str(caller.workload), _weighted(rng, ROLES)), ""
        offered = True
        if caller.workload is not None and rng.random() < 0.4:
            dialled, port, backends = self._service(protocol, six)
            if backends is None:
                backends, offered = frozenset(), False
        else:
            others = self._pods if caller.workload is None or rng.random() < 0.7 else self._rest
            dialled = rng.choice([p.address for p in others if (":" in p.address) == six])
            port = rng.choice(PORTS if protocol == "UDP" or rng.random() < 0.85 else BORDERS)
        host = dialled
        if protocol in ICMP:
            port = 0
        elif not six and rng.random() < 0.25:
            host = f"::ffff:{dialled}"
            source = f"::ffff:{source}" if source else ""
        attempt = Attempt(number, kind, source, host, port)
        return Question(attempt, who, caller, protocol, dialled, backends, offered)

    def _service(self, protocol: str, six: bool) -> tuple[str, int, frozenset[tuple[str, int]] | None]:
        """Address and port of a service, and its backends: None where it has no such port."""
        vip, port = self._rng.choice([(v, n) for v, n, _ in self._services if (":" in v) == six])
        backends = self._services.get((vip, port, protocol))
        if backends is not None and self._rng.random() < 0.03:
            port, backends = 7, None
        return vip, port, backends


def _weighted(rng: random.Random, choices: Sequence[tuple[T, int]]) -> T:
    return rng.choices([item for item, _ in choices], [weight for _, weight in choices])[0]


def carry_out(town: Town, questions: list[Question]) -> Mapping[int, Evidence]:
    """Lets everybody call at once and waits until what became of each call is known, 5 s at most."""
    town.events()
    by_who: dict[Who, list[Attempt]] = {}
    for question in questions:
        by_who.setdefault(question.who, []).append(question.attempt)
    answers = town.ask("call", {who: (attempts,) for who, attempts in by_who.items()})
    called = {number: done for answer in answers.values() for number, done in answer.items()}
    evidence = {question.attempt.number: Evidence(called[question.attempt.number]) for question in questions}
    book = _Book(questions, called)
    for _ in until(5):
        for answer in town.ask("outcomes", dict.fromkeys(by_who, ())).values():
            for number, outcome in answer.items():
                evidence[number].outcome = outcome
        for who, answer in town.ask("arrivals", dict.fromkeys(town.actors, ())).items():
            for number, arrivals in answer.items():
                evidence[number].taken += [(who[0], arrival) for arrival in arrivals]
        # Last, for an event is written before what it tells of happens.
        for event in town.events():
            number = book.number_of(event)
            assert number in evidence, f"nobody asked for {event}"
            evidence[number].events.append(event)
        if all(evidence[q.attempt.number].complete(q) for q in questions):
            break
    town.ask("rest", dict.fromkeys(town.actors, ()))
    return evidence


class _Book:
    """Which call an event is of. At tc the source port says it; a hook's caller has none yet, but makes one
    call at a time."""

    def __init__(self, questions: list[Question], called: Mapping[int, Called]) -> None:
        self._returns: dict[tuple[str, bool], list[tuple[int, int]]] = {}
        owners = {q.who: q.caller.workload for q in questions if q.who[1] != "stranger"}
        addresses: dict[WorkloadName | None, set[str]] = {}
        for question in questions:
            addresses.setdefault(question.caller.workload, set()).add(question.caller.address)
        for who, workload in owners.items():
            numbers = [q.attempt.number for q in questions if q.who == who]
            returns = sorted((called[number].at_ns, number) for number in numbers)
            for address in addresses[workload]:
                self._returns[address, who[1] == "envoy"] = returns

    def number_of(self, event: Event) -> int:
        if event.type != EventType.CONNECT:
            return event.src_port
        returns = self._returns[address_text(event.src), bool(event.flags & EventFlags.BY_PROXY)]
        return returns[bisect_left(returns, (event.time_ns, 0))][1]


def check(reference: Reference, question: Question, evidence: Evidence) -> tuple[str, tuple[str, int]]:
    """Verdict and backend of a call that went as it must. Raises Mismatch."""
    target = evidence.target(question)
    asked = (question.dialled, question.attempt.port)
    translated = bool(question.service) and question.hooked
    if target not in (question.service or ()) if translated else target != asked:
        raise Mismatch(f"{target} is not where {asked} leads")
    for event in evidence.events:
        if (address_text(event.vip), event.vip_port) != (asked if translated else ("", 0)):
            raise Mismatch(f"the service is said to be {address_text(event.vip)} port {event.vip_port}")
    word, wanted = reference.fate(question, target)
    if evidence.fate() != wanted:
        raise Mismatch(f"seen:   {evidence.fate()}\nwanted: {wanted}")
    return word, target


@pytest.fixture
def town() -> Iterator[Town]:
    pods = {name: w.addresses for name, w in sorted(generate(0).mesh.workloads.items())}
    made = Town(pods, NODE, (*WORLD, REMOTE))
    try:
        made.open(PORTS)
        yield made
    finally:
        made.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seeds", TOWNS)
def test_reference_and_packets_agree_on_ten_thousand_calls(town: Town, seeds: range) -> None:
    seen: Counter[str] = Counter()
    backends: dict[tuple[int, str, int, str], set[tuple[str, int]]] = {}
    mismatches: list[str] = []
    number = FIRST
    for seed in seeds:
        world = generate(seed, services=True)
        node = Node(world.mesh, "recorded")
        town.settle(node)
        reference = Reference(world, node)
        questions = list(Asker(seed, world, reference).questions(number, CALLS))
        number += CALLS
        for question, evidence in zip(questions, carry_out(town, questions).values(), strict=True):
            try:
                word, target = check(reference, question, evidence)
            except Mismatch as error:
                mismatches.append(f"seed {seed}, {question}\n{error}")
                continue
            seen.update(
                [word, question.who[1], question.attempt.kind, f"IPv{6 if ':' in question.dialled else 4}"]
            )
            if "::ffff" in question.attempt.host:
                seen["mapped"] += 1
            if question.service and question.hooked:
                seen["translated"] += 1
                backends.setdefault(
                    (seed, question.dialled, question.attempt.port, question.protocol), set()
                ).add(target)
    assert not mismatches, f"{len(mismatches)} of {number - FIRST}\n\n" + "\n\n".join(mismatches[:5])
    total = sum(seen[word] for word in ("deny", "allow", "steer"))
    several = sum(len(chosen) > 1 for chosen in backends.values())
    print(f"{total} calls: {dict(seen)}; {several} of {len(backends)} service ports led to several backends")
    assert town.lost() == 0
    assert total >= 10_000
    assert all(seen[word] * 5 >= total for word in ("deny", "allow", "steer")), seen
    assert all(seen[what] * 10 >= total for what in ("app", "envoy", "stranger", "translated")), seen
    assert all(seen[kind] * 50 >= total for kind, _ in (*KINDS, ("mapped", 0))), seen
    assert several * 10 >= len(backends)
