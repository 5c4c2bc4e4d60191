"""The kernel's verdict function and the reference agree, on tables written by the agent's own
reconciler, generation after generation. `--long` (`make agreement-long`) asks a hundred times as much."""

from __future__ import annotations

import random
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import pytest

from agent import entries
from agent.desired import Desired
from agent.kernel import Kernel
from agent.maglev_array import MaglevArray
from agent.maglev_store import MaglevStore
from agent.reconcile import Reconciler
from bpf import layout
from mesh.datapath import DIRECTIONS, Node
from mesh.model import Direction
from mesh.policies.policy import Party, judge, would_judge
from sluice.cgroups import remove_cgroup
from sluice.mesh_directory import BPFFS, cgroup2_mount
from tests.agreement import bulk
from tests.agreement.bulk import Bulk, Interval
from tests.agreement.generate import World, generate
from tests.agreement.tally import Tally
from tests.agreement.test_tables import PROTOCOLS, words

pytestmark = pytest.mark.root

WORLDS = 40
#: Questions about all ports of a protocol, for each world.
BATCHES = 130
#: Times as many for more than a billion verdicts.
LONG = 8
PORTED = ("TCP", "UDP", "SCTP")
_TYPES = (0, 1, 8, 9, 13, 14, 128, 129, 256, bulk.PORTS)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    name = f"sluice-agree-{uuid.uuid4().hex[:8]}"
    cgroup = cgroup2_mount() / name
    cgroup.mkdir()
    try:
        yield Kernel.open(BPFFS / name, cgroup)
    finally:
        shutil.rmtree(BPFFS / name, ignore_errors=True)
        remove_cgroup(cgroup)


def write(node: Node, desired: Desired, owners: set[str]) -> set[str]:
    """Put who has which address, policy sets and classes in the place of the last world's."""
    state = node.state
    now = {f"workload {name}": entries.workload_entries(record) for name, record in state.workloads.items()}
    now |= {f"block {name}": entries.block_entries(record) for name, record in state.blocks.items()}
    now |= {f"set {name}": entries.set_entries(record) for name, record in state.sets.items()}
    now |= {f"class {name}": entries.class_entries(record) for name, record in state.classes.items()}
    for owner in owners - now.keys():
        desired.replace(owner, ())
    for owner, found in now.items():
        desired.replace(owner, found)
    return set(now)


def questions_of(world: World, seed: int) -> Iterator[tuple[Direction, Party, Party, str | int]]:
    """Whom to ask about whom; each is then asked about every port."""
    rng = random.Random(seed)
    parties = world.parties()
    pairs = [
        (direction, subject, peer)
        for subject, peer in product([p for p in parties if p.workload], parties)
        for direction in DIRECTIONS
        # Rules 10 and 11 never ask a policy.
        if subject.workload != peer.workload and not (direction == "ingress" and peer.host)
    ]
    for direction, subject, peer in rng.choices(pairs, k=BATCHES):
        yield direction, subject, peer, rng.choice(PROTOCOLS)


def wanted(
    world: World,
    direction: Direction,
    subject: Party,
    peer: Party,
    protocol: str | int,
    borders: Sequence[int],
) -> Iterator[tuple[Interval, str, tuple[str, ...]]]:
    """What the reference says of every port; between two borders it says the same."""
    policies = [policy for policy in world.policies(subject) if policy.subject.matches(subject.labels)]
    # Types of ICMP stand where others have ports, and end at 255; what has no ports is asked about 0.
    for first, after in pairwise(borders if protocol in PORTED else _TYPES):
        question = (policies, direction, subject, peer, protocol, first, world.mesh.config)
        verdict, rules = words(judge(*question))  # type: ignore[arg-type]
        would, audit_rules = words(would_judge(*question))  # type: ignore[arg-type]
        audit = (layout.Audit.SAME, 0)
        if would != verdict:
            audit = (layout.Audit[would.upper()], entries.rules_cookie(audit_rules))
        answer = (layout.Verdict[verdict.upper()], audit[0], entries.rules_cookie(rules), audit[1])
        yield Interval(first, after - 1, answer), verdict, rules


@pytest.mark.timeout(7200)
def test_reference_and_kernel_agree_on_every_port(kernel: Kernel, long: bool) -> None:
    """More than ten million verdicts."""
    desired, owners = Desired(), set[str]()
    table = kernel.table("sl_maglev")
    reconciler = Reconciler(kernel, MaglevStore(MaglevArray(table.fd, table.max_entries)))
    reconciler.adopt()
    program = Bulk(kernel, {"verdict": 1, "audit": 1, "cookie": 4, "audit_cookie": 4})
    tally = Tally()
    verdicts = Counter[str]()
    worlds = WORLDS * LONG if long else WORLDS
    for seed in range(2 * worlds):
        # Half of the worlds are for the kinds that the others have overruled.
        world = generate(seed, kinds=tally.lacking() if seed >= worlds else ())
        node = Node(world.mesh, "recorded")
        owners = write(node, desired, owners)
        reconciler.apply(desired, lambda: 0)
        borders, rng = world.borders(), random.Random(seed)
        for direction, subject, peer, protocol in questions_of(world, seed):
            record = node.state.pods[str(subject.workload)]
            number = record.ingress_set if direction == "ingress" else record.egress_set
            found = list(wanted(world, direction, subject, peer, protocol, borders))
            outcomes = {(verdict, rules) for _, verdict, rules in found}
            if not any(tally.lacks(*outcome) for outcome in outcomes) and rng.random() < 0.96:
                continue
            identity, cidrs = node.shared.peer_of(peer.address)
            code = entries.PROTOCOL_NUMBERS[protocol] if isinstance(protocol, str) else protocol
            port = program.ask(number, (identity, cidrs), code, [interval for interval, _, _ in found])
            if port is not None:
                said = next(f for f in found if f[0].first <= port <= f[0].last)
                who = f"{direction} of {subject.workload} with {peer.workload or peer.address}"
                pytest.fail(f"seed {seed}: {who}, {protocol} {port}: {said}, but {program.answer(port)}")
            for interval, verdict, _ in found:
                verdicts[verdict] += interval.last - interval.first + 1
            for outcome in outcomes:
                tally.add(*outcome)
    print(f"{verdicts.total():,} verdicts: {dict(verdicts)}; {tally}")
    assert verdicts.total() >= 10_000_000
    tally.check()
