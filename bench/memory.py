"""Resident memory of agent and control plane in the mesh of the demo, with all of its rules in force."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from bench.figures import Figure
from bench.mesh import mesh
from sluice.demo.live_mesh import MANIFESTS

TARGETS = {"agent": 90.0, "xds": 130.0}


def figures(folder: Path) -> list[Figure]:
    for manifest in MANIFESTS.glob("*.yaml"):
        shutil.copy(manifest, folder)
    with mesh(folder) as live:
        return [
            Figure(f"resident memory: {module}", resident(live.process_of(module)), "MB", at_most=most)
            for module, most in TARGETS.items()
        ]


def resident(pid: int | None) -> float:
    """VmRSS (proc(5)) in MB of 10^6 bytes, shared pages of libraries included."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) * 1024 / 1e6, 1) if found else 0.0
