"""Security ids, service addresses and L7 class numbers on disk, with one writer (rule 29)."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path

from mesh.identity import Allocations
from xds import atomic


class Locked(Exception):
    """Another control plane writes this state directory."""


class AllocationFile:
    """`allocations.json`. Numbers are on disk before anybody is told of them."""

    def __init__(self, state: Path, service_ranges: Iterable[str]) -> None:
        """Raises ValueError for a bad range or a damaged file: to give the numbers anew could
        hand one identity's permissions to another."""
        self._path = state / "allocations.json"
        self.allocations = Allocations(service_ranges)
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return
        try:
            self.allocations.restore(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self._path} is damaged ({error!r}); put back a copy, or stop the mesh and remove it"
            ) from error

    def save(self) -> None:
        """Write what is new. Raises OSError."""
        if self.allocations.dirty:
            atomic.write(self._path, json.dumps(self.allocations.to_json(), separators=(",", ":")))
            self.allocations.dirty = False


def lock(state: Path) -> int:
    """Become the one writer of `state` until the descriptor is closed or the process dies.

    Raises Locked."""
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / "xds.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Locked(f"another control plane already runs on {state}") from None
    return descriptor
