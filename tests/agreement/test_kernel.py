"""The kernel's verdict function and the reference agree, on tables written by the agent's own
reconciler, generation after generation."""

from __future__ import annotations

import mmap
import random
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from agent import entries
from agent.desired import Desired
from agent.kernel import Kernel, libbpf
from agent.maglev_array import MaglevArray
from agent.maglev_store import MaglevStore
from agent.reconcile import Reconciler
from bpf import layout
from mesh.datapath import Node
from mesh.policy import judge
from sluice.cgroups import remove_cgroup
from sluice.mesh_directory import BPFFS, cgroup2_mount
from tests.agreement.generate import KINDS, PORTS, World, generate, kind_of
from tests.agreement.test_tables import PROTOCOLS, words

pytestmark = pytest.mark.root

WORLDS = 25
CASES = 100_000
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1}


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


class Bulk:
    """Asks the program `bulk_verdict`, which nothing attaches, many questions at once."""

    def __init__(self, kernel: Kernel) -> None:
        self._program = kernel.program("bulk_verdict")
        table = kernel.table("sl_bulk")
        self.room = table.max_entries
        self._memory = mmap.mmap(table.fd, -(-table.max_entries * table.value_size // 4096) * 4096)

    def ask(self, questions: list[layout.Bulk]) -> list[layout.Bulk]:
        size = layout.Bulk.sizeof()
        packed = b"".join(question.pack() for question in questions)
        self._memory[: len(packed)] = packed
        context = bytearray(192)
        context[8:12] = len(questions).to_bytes(4, "little")  # __sk_buff.mark
        asked = libbpf.run_program(self._program, bytes(64), bytes(context))
        assert asked == len(questions)
        return [layout.Bulk.unpack(self._memory[i * size : (i + 1) * size]) for i in range(len(questions))]


def write(node: Node, desired: Desired, owners: set[str]) -> set[str]:
    """Put the node's policy sets and classes in the place of the last world's."""
    now = {f"set {name}": entries.set_entries(record) for name, record in node.state.sets.items()}
    now |= {f"class {name}": entries.class_entries(record) for name, record in node.state.classes.items()}
    for owner in owners - now.keys():
        desired.replace(owner, ())
    for owner, found in now.items():
        desired.replace(owner, found)
    return set(now)


def questions_of(world: World, seed: int, cases: int) -> Iterator[tuple[str, tuple[str, ...], layout.Bulk]]:
    """Wanted verdict, deciding rules, and the question to the kernel."""
    rng = random.Random(seed)
    node = Node(world.mesh, "recorded")
    policies = list(world.mesh.all_policies())
    parties = world.parties()
    borders = sorted({p + d for p in (*PORTS, 1, 1024) for d in (-1, 0, 1, 2) if 0 < p + d < 65536})
    pairs = list(product([p for p in parties if p.workload], parties, ("ingress", "egress")))
    asked = 0
    while asked < cases:
        subject, peer, direction = rng.choice(pairs)
        if subject.workload == peer.workload or (direction == "ingress" and peer.host):
            continue  # rules 10 and 11 never ask a policy
        protocol = rng.choice(PROTOCOLS)
        ported = protocol in ("TCP", "UDP", "SCTP")
        port = rng.choice(PORTS if rng.random() < 0.85 else borders) if ported else 0
        wanted, rules = words(judge(policies, direction, subject, peer, protocol, port))
        if wanted == "allow" and not rules and rng.random() < 0.7:
            continue
        asked += 1
        record = node.state.pods[str(subject.workload)]
        number = record.ingress_set if direction == "ingress" else record.egress_set
        identity, cidrs = node.peer_of(peer.address)
        yield wanted, rules, layout.Bulk(number, cidrs, identity, port, NUMBERS.get(protocol, protocol))  # type: ignore[arg-type]


@pytest.mark.timeout(300)
def test_reference_and_kernel_agree_on_a_hundred_thousand_verdicts(kernel: Kernel) -> None:
    desired, owners = Desired(), set[str]()
    table = kernel.table("sl_maglev")
    reconciler = Reconciler(kernel, MaglevStore(MaglevArray(table.fd, table.max_entries)))
    reconciler.adopt()
    bulk = Bulk(kernel)
    verdicts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for seed in range(WORLDS):
        world = generate(seed)
        owners = write(Node(world.mesh, "recorded"), desired, owners)
        reconciler.apply(desired, lambda: 0)
        asked = list(questions_of(world, seed, CASES // WORLDS))
        answers = bulk.ask([question for _, _, question in asked])
        for (wanted, rules, question), answer in zip(asked, answers, strict=True):
            said = layout.Verdict(answer.verdict).name.lower()
            assert said == wanted, (seed, question, rules)
            assert answer.cookie == entries.rules_cookie(rules), (seed, question, rules)
            verdicts[wanted] += 1
            kinds.update({kind_of(rule) for rule in rules})
    total = sum(verdicts.values())
    print(f"{total} verdicts: {dict(verdicts)}; deciding kinds: {dict(kinds)}")
    assert total >= CASES
    assert all(verdicts[v] * 5 >= total for v in ("allow", "deny", "steer")), verdicts
    assert all(kinds[kind] * 100 >= total for kind in KINDS), kinds
