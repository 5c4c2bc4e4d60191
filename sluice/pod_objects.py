"""The Pod objects in the mesh's store, watched. It holds them without the control plane, so pods
live on while that is away. It writes JSON, which is YAML and loads faster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

from asyncinotify import Inotify, Mask

from mesh.model import ObjectRef, Problem, WorkloadName
from sluice.pod_spec import PodReading, PodSpec, read_pod


class PodObjects:
    """The pods of one node, by file of STATE/objects/Pod."""

    def __init__(self, directory: Path, node: str) -> None:
        self._directory = directory
        self._node = node
        self._readings: dict[str, PodReading] = {}
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def specs(self) -> dict[WorkloadName, PodSpec]:
        return {r.spec.name: r.spec for r in self._readings.values() if r.spec}

    @property
    def problems(self) -> list[Problem]:
        return sorted(p for r in self._readings.values() for p in r.problems)

    async def changes(self) -> AsyncIterator[None]:
        """Yields once all is read, then after every change."""
        with Inotify() as inotify:
            # The store renames files into place, so the end of a write need not be watched.
            inotify.add_watch(self._directory, Mask.MOVED_TO | Mask.DELETE)
            await self._read_all()
            yield
            async for event in inotify:
                if event.mask & Mask.Q_OVERFLOW:
                    await self._read_all()
                elif event.name is None or not self._read(self._directory / event.name):
                    continue
                yield

    async def _read_all(self) -> None:
        present = sorted(self._directory.glob("*.yaml"))
        for gone in self._readings.keys() - {path.name for path in present}:
            del self._readings[gone]
        for i, path in enumerate(present):
            self._read(path)
            # Thousands of them may be recorded pods of other nodes.
            if i % 500 == 499:
                await asyncio.sleep(0)

    def _read(self, path: Path) -> bool:
        """Take in one file; whether what it says has changed."""
        if path.name.startswith(".") or path.suffix != ".yaml":
            return False
        before = self._readings.get(path.name)
        try:
            reading = self._parse(path)
        except FileNotFoundError:
            reading = PodReading(None, ())
        if reading == PodReading(None, ()):
            self._readings.pop(path.name, None)
        else:
            self._readings[path.name] = reading
        return self._readings.get(path.name) != before

    def _parse(self, path: Path) -> PodReading:
        try:
            pod = json.loads(path.read_bytes())
        except ValueError as error:
            return PodReading(None, (Problem(ObjectRef("Pod", "", path.stem), "", f"not JSON: {error}"),))
        reading = read_pod(pod)
        if reading.spec and reading.spec.node not in ("", self._node):
            return PodReading(None, ())
        return reading
