"""A pod from wish to end: sandbox, gate, containers, readiness, termination. What the kubelet does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

from mesh.model import WorkloadName
from sluice.cgroups import is_populated, signal_all
from sluice.containers import ContainerRun
from sluice.environment import environment, expand
from sluice.failure import Failure
from sluice.gate import Gate
from sluice.hosts import name_files
from sluice.launcher import launch_command
from sluice.mesh_directory import NODE, MeshDirectory
from sluice.pod_spec import DEFAULT_GRACE_SECONDS, Container, PodSpec
from sluice.probes import Prober
from sluice.processes import Process
from sluice.sandbox import Sandbox, Sandboxes
from xds import atomic

log = logging.getLogger("sluice")

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]

#: Seconds before what failed is tried again: at first, and at most.
_FIRST, _MOST = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all pods of a mesh share. `resolver` are the addresses they ask for names; `changed`
    is called when any pod's state has changed."""

    mesh: MeshDirectory
    sandboxes: Sandboxes
    gate: Gate
    resolver: Sequence[str]
    http: aiohttp.ClientSession
    changed: Callable[[], None]


class Pod:
    """One pod name. `run` brings it to whatever `want` last asked for, until that is nothing."""

    def __init__(self, name: WorkloadName, runtime: Runtime) -> None:
        self.name = name
        self.phase: Phase = "Pending"
        self.message = ""
        self.sandbox: Sandbox | None = None
        self._runtime = runtime
        self._files = runtime.mesh.pod_files(name)
        self._wanted: PodSpec | None = None
        self._asked = asyncio.Event()
        self._containers: list[ContainerRun] = []

    def want(self, spec: PodSpec | None) -> None:
        self._wanted = spec
        self._asked.set()

    async def run(self) -> None:
        """Returns when the pod is wanted no more and nothing of it is left. Cancelling leaves its
        processes running, for the next supervisor to adopt."""
        if not self._wanted:
            self.sandbox = self._runtime.sandboxes.find(self.name)
            await self._terminate(DEFAULT_GRACE_SECONDS)
        while spec := self._wanted:
            living = asyncio.create_task(self._live(spec))
            try:
                while self._wanted == spec:
                    self._asked.clear()
                    await self._asked.wait()
            finally:
                living.cancel()
                await asyncio.wait([living])
            await self._terminate(spec.grace_seconds)

    def state(self) -> dict[str, object]:
        """For `sluice status`."""
        return {
            "name": str(self.name),
            "phase": self.phase,
            "message": self.message,
            "ready": self.sandbox is not None and self.sandbox.ready,
            "containers": [container.state() for container in self._containers],
        }

    async def _live(self, spec: PodSpec) -> None:
        try:
            self._tell("Pending", "its sandbox is being made")
            self.sandbox, processes = await self._sandbox(spec)
            self._files.mkdir(parents=True, exist_ok=True)
            self._write_names(spec, self.sandbox)
            if not processes:
                self._tell("Pending", "waiting for the agent to enforce its policy")
                await self._pass_gate()
            self._containers = [
                self._container(spec, container, self.sandbox, processes.get(container.name))
                for container in spec.containers
            ]
            self._tell("Running")
            log.info("pod %s runs at %s", self.name, " ".join(self.sandbox.addresses))
            async with asyncio.TaskGroup() as group:
                for run in self._containers:
                    group.create_task(run.run())
            failed = any(run.exit_status != 0 for run in self._containers)
            self._tell("Failed" if failed else "Succeeded")
        except Exception as error:
            # One pod's trouble is its own; the supervisor and the other pods go on.
            log.exception("pod %s", self.name)
            self._tell("Failed", f"{type(error).__name__}: {error}")

    def _write_names(self, spec: PodSpec, sandbox: Sandbox) -> None:
        for name, text in name_files(spec, sandbox.addresses, self._runtime.resolver).items():
            path = self._files / name
            # The file itself is mounted in running containers, so it is not replaced for nothing.
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    async def _sandbox(self, spec: PodSpec) -> tuple[Sandbox, Mapping[str, Process]]:
        """The recorded sandbox with the processes that still live in it, or a new one with none."""
        sandboxes, delay = self._runtime.sandboxes, _FIRST
        while True:
            try:
                if old := sandboxes.find(self.name):
                    if sandboxes.is_intact(old) and (living := self._adopt(spec)):
                        return old, living
                    await _finish(sandboxes.destroy, old)
                sandbox = sandboxes.reserve(self.name)
                try:
                    await _finish(sandboxes.build, sandbox)
                except BaseException:
                    await _finish(sandboxes.destroy, sandbox)
                    raise
                return sandbox, {}
            except (Failure, OSError) as failure:
                delay = await self._later("Pending", failure, delay)

    def _adopt(self, spec: PodSpec) -> dict[str, Process]:
        try:
            record = json.loads(self._runtime.mesh.process_record(self.name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        if record["spec"] != spec.digest:
            return {}
        found = {name: Process.adopt(process) for name, process in record["containers"].items()}
        return {name: process for name, process in found.items() if process}

    async def _pass_gate(self) -> None:
        delay = 0.02
        while not await self._runtime.gate.is_enforced(self.name):
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 0.5)

    def _container(
        self, spec: PodSpec, container: Container, sandbox: Sandbox, adopted: Process | None
    ) -> ContainerRun:
        mesh = self._runtime.mesh
        cgroup = Path(sandbox.cgroup, container.name)
        variables = environment(spec, container, sandbox.addresses, NODE, os.environ)

        def launch(argv: Sequence[str], output: Path | None = None) -> Process:
            cgroup.mkdir(parents=True, exist_ok=True)
            directory = container.working_directory
            return Process.launch(
                launch_command(sandbox.netns, cgroup, self._files, argv, directory), output, variables
            )

        def start() -> Process:
            argv = [expand(word, variables) for word in container.command]
            return launch(argv, mesh.log(self.name, container.name))

        prober = None
        if container.readiness:
            prober = Prober(container.readiness, sandbox.addresses[0], self._runtime.http, launch)

        def changed() -> None:
            try:
                self._publish(spec)
            except OSError as error:
                # What runs goes on running, and the next change is told again.
                log.error("record what became of pod %s failed: %s", self.name, error)

        return ContainerRun(
            container.name, spec.restart_policy, start, prober, cgroup, changed, adopted, sandbox.ready
        )

    def _publish(self, spec: PodSpec) -> None:
        """Record processes (for adoption) and readiness (for the control plane)."""
        running = {run.name: run.process.record() for run in self._containers if run.process}
        record: dict[str, Any] = {
            "spec": spec.digest,
            "grace_seconds": spec.grace_seconds,
            "containers": running,
        }
        atomic.write(self._runtime.mesh.process_record(self.name), json.dumps(record) + "\n")
        if self.sandbox:
            ready = all(run.ready for run in self._containers)
            self.sandbox = self._runtime.sandboxes.set_ready(self.sandbox, ready)
        self._runtime.changed()

    async def _terminate(self, grace: float) -> None:
        if not (sandbox := self.sandbox):
            return
        self._runtime.sandboxes.set_ready(sandbox, False)
        cgroup = Path(sandbox.cgroup)
        signal_all(cgroup, signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + grace
        while is_populated(cgroup) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        delay = _FIRST
        while True:
            try:
                await _finish(self._runtime.sandboxes.destroy, sandbox)
                break
            except (Failure, OSError) as failure:
                delay = await self._later(self.phase, failure, delay)
        shutil.rmtree(self._files, ignore_errors=True)
        self.sandbox, self._containers = None, []
        log.info("pod %s is gone", self.name)

    async def _later(self, phase: Phase, failure: Exception, delay: float) -> float:
        """Wait before something is tried again; the delay of the next time."""
        self._tell(phase, str(failure))
        log.warning("pod %s: %s", self.name, failure)
        await asyncio.sleep(delay)
        return min(delay * 2, _MOST)

    def _tell(self, phase: Phase, message: str = "") -> None:
        self.phase, self.message = phase, message
        self._runtime.changed()


async def _finish(work: Callable[[Sandbox], None], sandbox: Sandbox) -> None:
    """Work in a thread, and do not let a cancellation overtake it."""
    working = asyncio.create_task(asyncio.to_thread(work, sandbox))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
