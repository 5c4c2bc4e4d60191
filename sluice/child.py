"""A process of the mesh itself (control plane, agent), restarted when it ends, adopted when an
earlier supervisor started it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import site
import sys
from collections.abc import Sequence
from pathlib import Path

from sluice.mesh_directory import MeshDirectory
from sluice.processes import Process
from xds import atomic

log = logging.getLogger("sluice")

#: Seconds before a restart: the first, the longest, and the uptime after which it is a first again.
_FIRST, _MOST, _STABLE = 0.1, 5.0, 1.0


class Child:
    """`python -m MODULE --name MESH ...`, kept running. Its record is RUN/MODULE.json."""

    def __init__(self, mesh: MeshDirectory, module: str, arguments: Sequence[str]) -> None:
        self.argv = [sys.executable, "-m", module, "--name", mesh.name, *arguments]
        self.module = module
        self._record = child_record(mesh, module)
        self._log = mesh.logs / f"{module}.log"

    async def keep_running(self) -> None:
        """Never returns. Cancelling leaves the process running."""
        loop = asyncio.get_running_loop()
        delay = _FIRST
        process = self._adopt()
        while True:
            began = loop.time()
            if not process:
                process = Process.launch(self.argv, self._log, child_environment())
                record = process.record() | {"argv": self.argv}
                atomic.write(self._record, json.dumps(record) + "\n")
            status = await process.wait()
            process = None
            delay = _FIRST if loop.time() - began >= _STABLE else delay
            log.warning("%s ended (status %s), back in %.1f s; see %s", self.module, status, delay, self._log)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MOST)

    def _adopt(self) -> Process | None:
        try:
            record = json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return None
        process = Process.adopt(record)
        if process and record.get("argv") != self.argv:
            stop_recorded([self._record])
            return None
        return process


def child_record(mesh: MeshDirectory, module: str) -> Path:
    return mesh.run / f"{module}.json"


def stop_recorded(records: Sequence[Path], patience: float = 3.0) -> None:
    """End the processes of records that still are those processes: SIGTERM, then SIGKILL. Blocks."""
    found = [Process.adopt(json.loads(path.read_text())) for path in records if path.exists()]
    processes = [process for process in found if process]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.signal(number)
        processes = [process for process in processes if not process.has_ended(patience)]


def child_environment() -> dict[str, str]:
    """Ours, with this source tree on the path where it is not installed, and nothing of the user's
    directory on it: a folder there may be called like our module."""
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    tree = str(Path(__file__).resolve().parent.parent)
    if tree not in site.getsitepackages():
        path = os.environ.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{tree}{os.pathsep}{path}" if path else tree
    return environment
