"""`make bench`: measures, prints a table and writes JSON lines."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from bench import acks, change, figures, memory, nodes, paths, requests, scale, streams, traffic, verdict
from bench.figures import Figure

PARTS: dict[str, Callable[[Path, argparse.Namespace], list[Figure]]] = {
    "kernel": lambda folder, options: paths.kernel_path(folder, options.rounds),
    "steered": lambda folder, options: paths.steered_path(folder, options.rounds),
    "verdict": lambda _, options: verdict.figures(options.rounds),
    "change": lambda folder, options: change.figures(folder, options.changes),
    "scale": lambda folder, options: scale.figures(folder, options.changes),
    "traffic": lambda folder, options: traffic.figures(folder, options.changes),
    "streams": lambda folder, options: streams.figures(folder, options.changes),
    "nodes": lambda _, options: nodes.figures(options.changes),
    "acks": lambda folder, options: acks.figures(folder, options.changes),
    "requests": lambda folder, options: requests.figures(folder, options.rounds),
    "memory": lambda folder, _: memory.figures(folder),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (all)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the path comparisons (%(default)s)")
    parser.add_argument("--changes", type=int, default=100, help="changes of each kind (%(default)s)")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the CPU to pin to")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results.jsonl")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.exit(1, "bench needs root: it makes network namespaces and loads programs\n")
    os.sched_setaffinity(0, {options.cpu})
    console = Console() if sys.stdout.isatty() else Console(width=150)
    found: list[Figure] = []
    console.print(f"everything pinned to CPU {options.cpu} of {os.cpu_count()}, Linux {os.uname().release}")
    for part in options.parts or PARTS:
        console.print(f"measuring: {part}")
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
            found += PARTS[part](Path(folder), options)
        figures.write(options.output, found)
    figures.show(console, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
