"""What one verdict costs in the kernel when the tables are big, and how far the programs are from the
verifier's limit.

The program `bulk_verdict` runs the function that every hook shares over questions in an array: its time holds
a loop's step and the answer's write too, so the verdict itself takes less. Keys are random, so that no cache
holds what is asked for.
"""

from __future__ import annotations

import contextlib
import mmap
import random
import statistics
import time
import uuid
from collections.abc import Iterator

from agent.entries import class_entries
from agent.kernel import Kernel, libbpf
from bench.figures import Figure
from bpf import layout
from mesh.node import PolicyClass, PortVerdict
from sluice.cgroups import remove_cgroup
from sluice.mesh_directory import BPFFS, cgroup2_mount

#: Entries of sl_peer: each peer of each set.
ENTRIES = 100_000
SETS = 100
CLASSES = 10_000
PORTS_OF_A_CLASS = 7
QUESTIONS = 1 << 16
#: Cilium's limit of entries in one policy.
PEERS_OF_A_POLICY = 16_384
VERIFIER_LIMIT = 1_000_000
TCP = 6


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    """Programs and maps of our own, attached to an empty cgroup."""
    name = f"sluice-bench-{uuid.uuid4().hex[:8]}"
    cgroup = cgroup2_mount() / name
    cgroup.mkdir()
    made = Kernel.open(BPFFS / name, cgroup)
    try:
        yield made
    finally:
        made.remove()
        remove_cgroup(cgroup)


def figures(rounds: int) -> list[Figure]:
    with kernel() as made:
        written = write_one_policy(made)
        fill(made)
        times = [one for seed in range(rounds) for one in verdict_times(made, seed)]
        verified = {name: instructions(made, name) for name in ("connect4", "from_pod", "to_pod", "sweep")}
    largest = max(verified, key=lambda name: verified[name])
    return [
        Figure(
            f"a verdict, {ENTRIES:,} entries, random keys",
            round(min(times), 1),
            "ns",
            at_most=200,
            note=f"the least of {len(times)} runs, for what disturbs one adds to it; median "
            f"{statistics.median(times):.0f}",
        ),
        Figure(
            "instructions verified, of the verifier's limit",
            round(100 * verified[largest] / VERIFIER_LIMIT, 2),
            "%",
            at_most=10,
            measured=verified[largest],
            baseline=VERIFIER_LIMIT,
            note=largest,
        ),
        Figure(f"a policy of {PEERS_OF_A_POLICY:,} blocks, written to the kernel", round(written, 1), "ms"),
    ]


def write_one_policy(made: Kernel) -> float:
    """Milliseconds for the entries of a policy whose every block is a set of its own, the worst case."""
    slot = layout.PeerValue.of(layout.PeerSlot(1, 1)).pack()
    peers = {layout.PeerKey(1, block, 2).pack(): slot for block in range(1, PEERS_OF_A_POLICY + 1)}
    blocks = {
        layout.AddrKey.of(f"100.{block >> 8 & 63}.{block & 255}.0/24").pack(): layout.AddrValue.of(
            layout.AddrSlot(1, 2, block + 1)
        ).pack()
        for block in range(PEERS_OF_A_POLICY)
    }
    begun = time.perf_counter()
    made.table("sl_addr").update(blocks)
    made.table("sl_peer").update(peers)
    took = time.perf_counter() - begun
    made.table("sl_addr").delete(blocks)
    made.table("sl_peer").delete(peers)
    return took * 1e3


def fill(made: Kernel) -> None:
    """Sets of a thousand peers, each with one of ten thousand classes of some ports."""
    rng = random.Random(1)
    for start in range(0, CLASSES, 1000):
        pages: dict[bytes, bytes] = {}
        for number in range(start + 1, start + 1001):
            ports = rng.sample(range(1, 65536), PORTS_OF_A_CLASS)
            record = PolicyClass(number, tuple(PortVerdict("TCP", port, port, "allow") for port in ports))
            pages |= {key: page for _, key, page in class_entries(record)}
        made.table("sl_rule").update(pages)
    made.table("sl_peer").update(
        {
            layout.PeerKey(1 + number % SETS, 0, 256 + number // SETS).pack(): layout.PeerValue.of(
                layout.PeerSlot(1 + rng.randrange(CLASSES), 1)
            ).pack()
            for number in range(ENTRIES)
        }
    )
    made.flip(1)


def verdict_times(made: Kernel, seed: int) -> list[float]:
    """Nanoseconds for one of many questions with keys that are in the tables, in no order; some runs."""
    rng = random.Random(seed)
    questions = b"".join(
        layout.Bulk(
            1 + rng.randrange(SETS), 0, 256 + rng.randrange(ENTRIES // SETS), rng.randrange(1, 65536), TCP
        ).pack()
        for _ in range(QUESTIONS)
    )
    table = made.table("sl_bulk")
    with mmap.mmap(
        table.fd, -(-table.max_entries * table.value_size // mmap.PAGESIZE) * mmap.PAGESIZE
    ) as memory:
        memory[: len(questions)] = questions
    context = bytearray(192)
    context[8:12] = QUESTIONS.to_bytes(4, "little")  # __sk_buff.mark
    program = made.program("bulk_verdict")
    runs = (libbpf.time_program(program, bytes(64), bytes(context), 1) for _ in range(10))
    return [run / QUESTIONS for run in runs]


def instructions(made: Kernel, name: str) -> int:
    return int(libbpf.info(made.program(name), libbpf.ProgInfo).verified_insns)
