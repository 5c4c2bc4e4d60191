"""Security ids, service addresses and L7 class numbers on disk, with one writer (rule 29)."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mesh.identity import Allocations
from mesh.label_filter import LabelFilter
from xds import atomic


class Locked(Exception):
    """Another control plane writes this state directory."""


class AllocationFile:
    """`allocations.json`. Numbers are on disk before anybody is told of them.

    Quarantine is measured by a clock of the mesh's own, stored with them: the seconds for which it has had a
    control plane. It stands still while there is none, and no one who sets the machine's clock moves it."""

    def __init__(
        self,
        state: Path,
        service_ranges: Iterable[str],
        identity_labels: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes up what is stored. Raises ValueError for a bad range or expression, and for a damaged
        file: to give the numbers anew could hand one identity's permissions to another."""
        self._path = state / "allocations.json"
        self._clock = clock
        self._started = clock()
        self._age = 0.0
        self.allocations = Allocations(service_ranges, LabelFilter(tuple(identity_labels)))
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return
        try:
            document = json.loads(text)
            self._age = float(document.get("age", 0))
            self.allocations.restore(document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self._path} is damaged ({error!r}); put back a copy, or stop the mesh and remove it"
            ) from error

    def advance(self) -> None:
        """Let time pass. To be called before anything is allocated, and now and then while nothing is."""
        self.allocations.security_ids.advance(self._now())

    def save(self) -> None:
        """Write what is new. Raises OSError."""
        if self.allocations.dirty:
            document = self.allocations.to_json() | {"age": round(self._now(), 3)}
            atomic.write(self._path, json.dumps(document, separators=(",", ":")))
            self.allocations.stored()

    def _now(self) -> float:
        return self._age + self._clock() - self._started


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
