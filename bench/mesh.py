"""A mesh of its own for each benchmark, from a folder of manifests that it watches."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bench.load import LOAD
from sluice.demo.live_mesh import LiveMesh
from sluice.demo.screen import Screen


@contextlib.contextmanager
def mesh(folder: Path) -> Iterator[LiveMesh]:
    """Up and ready; gone without residue afterwards."""
    live = LiveMesh(f"bench-{uuid.uuid4().hex[:6]}", Screen(Console(quiet=True)))
    try:
        live.sluice("up", "--detach", "-f", str(folder))
        live.sluice("status", "--wait")
        yield live
    finally:
        live.sluice("down", "--purge")


def address_of(live: LiveMesh, pod: str, host: str, port: int) -> str:
    """The IPv4 address of a service as `pod` resolves it, once it answers there."""
    answer: str = json.loads(live.run(pod, *LOAD, "address", host, str(port)))["address"]
    return answer
