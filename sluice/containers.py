"""A container: one program of a pod, restarted as the pod's restart policy says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from sluice.cgroups import kill_all
from sluice.pod_spec import RestartPolicy
from sluice.probes import Prober
from sluice.processes import Process

#: Seconds before the first restart, at most, and the uptime that makes a restart a first one again.
_FIRST, _MOST, _STABLE = 0.1, 10.0, 10.0


class ContainerRun:
    """The life of one container in one sandbox. `changed` is called after every change of its state."""

    def __init__(
        self,
        name: str,
        policy: RestartPolicy,
        start: Callable[[], Process],
        prober: Prober | None,
        cgroup: Path,
        changed: Callable[[], None],
        adopted: Process | None = None,
        ready: bool = False,
    ) -> None:
        """`adopted` runs already, and was `ready` or not."""
        self.name = name
        self.process = adopted
        self.ready = adopted is not None and (prober is None or ready)
        self.restarts = 0
        self.exit_status: int | None = None
        self.finished = False
        self._policy = policy
        self._start = start
        self._prober = prober
        self._cgroup = cgroup
        self._changed = changed

    async def run(self) -> None:
        """Run until the restart policy ends it."""
        delay = _FIRST
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if not self.process:
                self.process, self.ready = self._start(), self._prober is None
            self._changed()
            await self._watch(self.process)
            self.process, self.ready = None, False
            # A container is its first process: what that left behind goes with it.
            kill_all(self._cgroup)
            self.finished = self._policy == "Never" or (self._policy == "OnFailure" and self.exit_status == 0)
            self._changed()
            if self.finished:
                return
            delay = _FIRST if loop.time() - began >= _STABLE else delay
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MOST)
            self.restarts += 1

    async def _watch(self, process: Process) -> None:
        """Wait for the end of a process, with its probe beside it."""
        probing = asyncio.create_task(self._prober.watch(self.ready, self._report)) if self._prober else None
        try:
            self.exit_status = await process.wait()
        finally:
            if probing:
                probing.cancel()
                await asyncio.wait([probing])

    def _report(self, ready: bool) -> None:
        self.ready = ready
        self._changed()

    def state(self) -> dict[str, object]:
        """For `sluice status`."""
        return {
            "name": self.name,
            "state": "running" if self.process else "terminated" if self.finished else "waiting",
            "pid": self.process.pid if self.process else None,
            "ready": self.ready,
            "restarts": self.restarts,
            "exit_status": self.exit_status,
        }
