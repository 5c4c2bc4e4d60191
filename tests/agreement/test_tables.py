"""`judge` and the compiled tables agree on every kind of policy."""

from __future__ import annotations

import random
from itertools import product

import pytest

from mesh.assemble import Mesh
from mesh.datapath import Node
from mesh.identity import Allocations
from mesh.model import Protocol
from mesh.node import PodRecord
from mesh.policies.policy import Allow, Deny, Party, Steer, Verdict, judge
from tests.agreement.generate import NODE, World, generate
from tests.agreement.kinds import PORTS
from tests.agreement.tally import Tally

PROTOCOLS: tuple[Protocol | int, ...] = (
    *("TCP",) * 12,
    *("UDP", "SCTP", "ICMP", "ICMP", "ICMPv6", "GRE", "ESP", "AH", 136),
)
WORLDS = 60
CASES = 100_000


def words(verdict: Verdict) -> tuple[str, tuple[str, ...]]:
    match verdict:
        case Allow(rules, _):
            return "allow", rules
        case Deny(rules):
            return "deny", rules
        case Steer():
            return "steer", verdict.keys


def tables(
    node: Node, record: PodRecord, direction: str, peer: Party, protocol: str | int, port: int
) -> tuple[str, tuple[str, ...]]:
    """The same question, asked of the tables as the kernel does (rules 10 and 11 come before)."""
    if peer.address in record.addresses or (direction == "ingress" and peer.host):
        return "allow", ()
    number = record.ingress_set if direction == "ingress" else record.egress_set
    found = node.verdict(number, peer.address, protocol, port)
    return found.verdict, found.rules


def compare(world: World, seed: int, cases: int, tally: Tally) -> None:
    rng = random.Random(seed)
    node = Node(world.mesh, "recorded")
    parties = world.parties()
    # Every border of a port range, and the numbers beside it.
    borders = sorted({p + d for p in (*PORTS, 1, 1024) for d in (-1, 0, 1, 2) if 0 < p + d < 65536})
    questions = list(product([p for p in parties if p.workload], parties, ("ingress", "egress")))
    asked = 0
    while asked < cases:
        subject, peer, direction = rng.choice(questions)
        protocol = rng.choice(PROTOCOLS)
        port = rng.choice(PORTS if rng.random() < 0.85 else borders)
        if protocol not in ("TCP", "UDP", "SCTP"):
            port = rng.choice((0, 8, 13, 128)) if protocol in ("ICMP", "ICMPv6") else 0
        policies = world.policies(subject)
        wanted = words(judge(policies, direction, subject, peer, protocol, port, world.mesh.config))
        if not tally.lacks(*wanted) and rng.random() < 0.9:
            continue
        asked += 1
        record = node.state.pods[str(subject.workload)]
        assert tables(node, record, direction, peer, protocol, port) == wanted, (
            seed,
            str(subject.workload),
            direction,
            peer.address,
            protocol,
            port,
        )
        tally.add(*wanted)


@pytest.mark.timeout(300)
def test_reference_and_tables_agree_on_a_hundred_thousand_cases() -> None:
    tally = Tally()
    for seed in range(2 * WORLDS):
        # Half of the worlds are for the kinds that the others have overruled.
        kinds = tally.lacking() if seed >= WORLDS else ()
        compare(generate(seed, kinds=kinds), seed, CASES // WORLDS // 2 + 1, tally)
    print(tally)
    tally.check()


def test_a_mesh_built_step_by_step_equals_one_built_at_once() -> None:
    """Decision 8: incremental results equal a rebuild from scratch, whatever the order."""
    for seed in range(6):
        world = generate(seed)
        fresh = Node(world.mesh, "recorded")  # gives out the numbers that the other must find again
        order = list(world.mesh.fragments().items())
        random.Random(seed).shuffle(order)
        allocations = Allocations(("10.128.0.0/16", "fd51:ce00:0:2::/112"))
        allocations.restore(world.mesh.allocations.to_json())
        stepwise = Mesh(allocations, hosts=(NODE,))
        node = Node(stepwise, "recorded")
        for ref, fragment in order:
            node.update(stepwise.apply({ref: fragment}))
        # Gone and back again leaves nothing behind.
        for ref, fragment in order[::3]:
            node.update(stepwise.apply({ref: None}))
            node.update(stepwise.apply({ref: fragment}))
        assert node.state == fresh.state
        assert node.proxies == fresh.proxies
        assert stepwise.problems == world.mesh.problems
