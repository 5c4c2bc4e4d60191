"""The embedded mesh's kubelet: keeps control plane, agent and pods as they should be.

It decides nothing about traffic. Everything it starts outlives it and is adopted by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence

import aiohttp

from mesh.model import WorkloadName
from sluice.address_plan import AddressPlan
from sluice.admin_session import unix_session
from sluice.child import Child
from sluice.doors import Doors, Entrance
from sluice.entry_probes import EntryProbes
from sluice.gate import AgentGate, Gate
from sluice.gateway_pods import GatewayPods
from sluice.mesh_directory import NODE, MeshDirectory
from sluice.pod_objects import PodObjects
from sluice.pods import Pod, Runtime
from sluice.sandbox import Sandboxes, recorded
from xds import atomic

log = logging.getLogger("sluice")


class Supervisor:
    """Runs one mesh, inside the node's network namespace. `gate` None: the agent's."""

    def __init__(
        self,
        mesh: MeshDirectory,
        plan: AddressPlan,
        children: Sequence[Child],
        doors: Doors,
        gate: Gate | None = None,
    ) -> None:
        self._mesh = mesh
        self._plan = plan
        self._children = children
        self._gate = gate
        self._doors = doors
        self._objects = PodObjects(mesh.objects / "Pod", NODE)
        self._pods: dict[WorkloadName, Pod] = {}
        self._told = asyncio.Event()
        self._gateways = GatewayPods(mesh, self._told.set)
        self._entry_probes = EntryProbes(mesh)

    async def run(self, stop: asyncio.Event) -> None:
        """Supervise until `stop` is set; then all processes are left as they are."""
        self._mesh.logs.mkdir(parents=True, exist_ok=True)
        tasks: list[asyncio.Task[None]] = []
        async with self._runtime() as runtime:
            tasks += [asyncio.create_task(child.keep_running()) for child in self._children]
            tasks.append(asyncio.create_task(self._follow_objects(runtime)))
            tasks.append(asyncio.create_task(self._tell_status()))
            tasks.append(asyncio.create_task(self._gateways.keep()))
            tasks.append(asyncio.create_task(self._entry_probes.keep(runtime.http)))
            stopping = asyncio.create_task(stop.wait())
            try:
                done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopping}:
                    task.result()  # none of them ends but by an error
            finally:
                stopping.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._doors.close()

    @contextlib.asynccontextmanager
    async def _runtime(self) -> AsyncIterator[Runtime]:
        async with (
            unix_session(self._mesh.agent_admin, timeout=5) as agent,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as http,
        ):
            yield Runtime(
                mesh=self._mesh,
                sandboxes=Sandboxes(self._mesh, self._plan),
                gate=self._gate or AgentGate(agent),
                resolver=self._plan.resolver,
                http=http,
                changed=self._told.set,
            )

    async def _follow_objects(self, runtime: Runtime) -> None:
        running: dict[WorkloadName, asyncio.Task[None]] = {}
        told_of_images = False
        try:
            async for _ in self._objects.changes():
                specs = self._objects.specs
                if not told_of_images and any(c.image for spec in specs.values() for c in spec.containers):
                    told_of_images = True
                    log.info("images are not pulled: containers run their command from this machine's files")
                # A recorded sandbox that no one wants is a pod that wants to be nothing.
                present = set(self._pods) | {sandbox.pod for sandbox in recorded(self._mesh)}
                for name in specs.keys() | present:
                    if name not in running or running[name].done():
                        self._pods[name] = Pod(name, runtime)
                        self._pods[name].want(specs.get(name))
                        running[name] = asyncio.create_task(self._run(name))
                    else:
                        self._pods[name].want(specs.get(name))
                self._told.set()
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _run(self, name: WorkloadName) -> None:
        pod = self._pods[name]
        await pod.run()
        if self._pods.get(name) is pod:
            del self._pods[name]
            self._told.set()

    def _served(self) -> dict[Entrance, str]:
        """The ports of pods that serve Gateways, and the pods' addresses."""
        places = {name: pod.sandbox.addresses[0] for name, pod in self._pods.items() if pod.sandbox}
        return {
            Entrance(name, port, transport, spoken): places[name]
            for name, ports in self._gateways.ports.items()
            for (port, transport), spoken in ports.items()
            if name in places
        }

    async def _tell_status(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            await self._doors.set(self._served())
            status = {
                "pods": [pod.state() for _, pod in sorted(self._pods.items())],
                "gateways": [
                    {
                        "pod": str(way.entrance.pod),
                        "port": way.entrance.port,
                        "protocol": way.entrance.transport,
                        "url": way.url,
                    }
                    for way in self._doors.ways
                ],
                "problems": [
                    {"object": str(p.object), "field": p.field, "message": p.message}
                    for p in self._objects.problems
                ],
            }
            atomic.write(self._mesh.pod_status, json.dumps(status) + "\n")
            await asyncio.sleep(0.02)


def mesh_children(
    mesh: MeshDirectory, plan: AddressPlan, sources: Sequence[str], fetching: Sequence[str] = ()
) -> list[Child]:
    """The control plane, reading `sources` (absolute paths), and the agent. `fetching` are options of
    the first that say what it may fetch."""
    where = ["--state", str(mesh.state), "--run", str(mesh.run)]
    services = ",".join(str(block) for block in plan.services)
    control_plane = [*where, "--node", NODE, "--service-cidr", services]
    for address in plan.node:
        control_plane += ["--node-address", address]
    for source in sources:
        control_plane += ["-f", source]
    control_plane += fetching
    agent = [
        *where,
        *("--pin", str(mesh.pins)),
        *("--cgroup", str(mesh.cgroup)),
        *("--node", NODE),
        *("--control-plane", f"unix:{mesh.run / 'xds.sock'}"),
    ]
    return [Child(mesh, "xds", control_plane), Child(mesh, "agent", agent)]
