"""The Envoy of one pod: its process, its relay, and whether it serves what it is to serve.

A dead Envoy is started again at once, and ever more slowly if it keeps dying. One that is not needed any
more ends when its connections have drained, or after a limit (rule 9). Knows no other pod.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.access_log import Logged
from agent.envoy import LOCKED, Envoy, running
from agent.envoy_admin import EnvoyAdmin
from agent.kernel.error import KernelError
from agent.listening import Listening, listening_sockets, taken
from agent.number import number
from agent.relay import Accepted, Relay
from agent.sandbox import Sandbox
from bpf.layout import ListenerKey, packed_address
from mesh.discovery.envoy import LISTENER
from mesh.discovery.resource import Table
from mesh.discovery.session import Event
from mesh.model import WorkloadName
from mesh.node import Launch
from mesh.rollout import Serving
from proxy_configs import bootstrap

log = logging.getLogger(__name__)

#: Seconds before a start, by the number of deaths in a row; one that lived longer than LIVED counts anew.
BACK_OFF = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
LIVED = 10.0
#: Seconds that a proxy nobody needs may go on for its open connections if nothing else is said, and between
#: looks at them.
DRAIN_LIMIT, DRAIN_LOOK = 60.0, 0.5
#: Seconds between looks at an Envoy that is warming: the first, doubled up to the last.
FIRST_LOOK, LAST_LOOK = 0.01, 0.25
#: Seconds from SIGTERM to SIGKILL.
END_LIMIT = 5.0

#: The file in a proxy's folder that its Envoy is started with.
BOOTSTRAP = "bootstrap.json"
#: Begins the names of listeners that ingress classes lead to; the class's number follows.
_INBOUND = "virtualInbound|"
_MAPPED = packed_address("0.0.0.0")[:12]


class ListenerTable(Protocol):
    """Where listening sockets of policy classes go."""

    def put_listener(self, key: bytes, fd: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Places:
    """Where proxies keep things: sockets below `run`, processes below `cgroup`, output below `logs`."""

    envoy: Path
    run: Path
    cgroup: Path
    logs: Path

    def folder(self, sandbox: Sandbox) -> Path:
        return self.run / sandbox.key

    def name(self, sandbox: Sandbox) -> str:
        return f"{sandbox.pod.namespace}_{sandbox.pod.name}"

    def log(self, pod: WorkloadName) -> Path:
        """Where a pod's Envoy writes, its access logs among it; `sluice logs` reads it there."""
        return self.logs / f"envoy-{pod.namespace}_{pod.name}.log"


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom a proxy tells, in the event loop."""

    event: Callable[[Event], None]
    ready: Callable[[int], None]
    down: Callable[[], None]
    logged: Callable[[Logged], None]


class Proxy:
    """Made for one incarnation of a pod. `launch` is asked at each start how that is to be done."""

    def __init__(
        self,
        sandbox: Sandbox,
        places: Places,
        table: ListenerTable,
        launch: Callable[[], Launch],
        reports: Reports,
    ) -> None:
        self.sandbox = sandbox
        self.error = ""
        self._places = places
        self._table = table
        self._launch = launch
        self._reports = reports
        folder = places.folder(sandbox)
        self._bootstrap = folder / BOOTSTRAP
        self.admin = folder / "admin.sock"
        self._admin = EnvoyAdmin(self.admin)
        self._relay = Relay(folder, reports.event, self._settled, reports.logged)
        self._envoy: Envoy | None = None
        self._wanted = True
        self._deaths = 0
        self._started = 0.0
        #: What to serve now, as names and as resources.
        self.serving = Serving(0, {})
        self.snapshot: Mapping[str, Table] = {}
        self.draining = False
        self._listeners: frozenset[str] = frozenset()
        self._given: set[Listening] = set()
        self._task: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the Envoy that runs."""
        return self._envoy.pid if self._envoy else None

    def accepted(self) -> Accepted:
        """What Envoy has accepted, by its own account."""
        return self._relay.accepted()

    async def start(self) -> None:
        """Listen for an Envoy, then adopt the one that runs or start one. Raises OSError, RuntimeError."""
        await self._relay.start()
        pod = self.sandbox.pod
        self._bootstrap.write_text(
            bootstrap(
                namespace=pod.namespace,
                pod=pod.name,
                address=self.sandbox.addresses[0],
                discovery=str(self._relay.discovery),
                access_log=str(self._relay.access_log),
                admin=str(self.admin),
            )
        )
        self._bring_up()

    def serve(self, serving: Serving, snapshot: Mapping[str, Table]) -> None:
        """From now on serve this."""
        self.serving, self.snapshot = serving, snapshot
        self._listeners = frozenset(snapshot.get(LISTENER, {}))
        self._relay.serve(serving.revision, snapshot)

    async def metrics(self) -> str:
        """Envoy's own, in Prometheus' text format. Raises OSError."""
        return await self._admin.prometheus()

    async def stop(self, *, drain: bool) -> None:
        """End the Envoy, if `drain` when its connections have ended or the limit is reached, and the
        relay. Cancelled while it drains, the proxy goes on as before."""
        if drain:
            self.draining = True
            try:
                await self._drain()
            finally:
                self.draining = False
        self._wanted = False
        if self._task is not None:
            self._task.cancel()
        # It lives a moment longer, but a generation that needs it again must wait for the next one.
        self._reports.down()
        if self._envoy is not None:
            self._envoy.terminate() if drain else self._envoy.kill()
            try:
                async with asyncio.timeout(END_LIMIT):
                    await self._gone.wait()
            except TimeoutError:
                self._envoy.kill()
                await self._gone.wait()
        await self._relay.stop()
        shutil.rmtree(self._bootstrap.parent, ignore_errors=True)
        log.info("Envoy of pod %s has ended", self.sandbox.pod)

    def _bring_up(self) -> None:
        if not self._wanted:
            return
        pod, places = self.sandbox.pod, self._places
        self._gone.clear()
        self._started = asyncio.get_running_loop().time()
        try:
            adopted = self._running()
            if adopted is not None:
                self._envoy = Envoy(adopted, self._exited)
                log.info("Envoy %d of pod %s is adopted", adopted, pod)
                return
            name = places.name(self.sandbox)
            self._envoy = Envoy.start(
                places.envoy,
                self._bootstrap,
                self.sandbox.netns,
                places.cgroup / name,
                places.log(pod),
                self._launch(),
                self._exited,
            )
            log.info("Envoy %d of pod %s is started", self._envoy.pid, pod)
        except OSError as error:
            self.error = f"start the Envoy of pod {pod} failed: {error}"
            log.error("%s", self.error)
            self._try_again()

    def _running(self) -> int | None:
        path = str(self._bootstrap)
        return next((pid for pid, file in running(self._places.cgroup) if file == path), None)

    def _exited(self, envoy: Envoy) -> None:
        self._envoy = None
        self._given = set()
        self._gone.set()
        self._reports.down()
        if not self._wanted:
            return
        if envoy.status != LOCKED:
            pod, status = self.sandbox.pod, envoy.status
            how = "" if status is None else f" (status {status})"
            self.error = f"Envoy {envoy.pid} of pod {pod} died{how}"
            log.error("%s; steered connections are refused until it is back", self.error)
        self._try_again()

    def _try_again(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._started > LIVED:
            self._deaths = 0
        delay = BACK_OFF[min(self._deaths, len(BACK_OFF) - 1)]
        self._deaths += 1
        loop.call_later(delay, self._bring_up)

    def _settled(self, revision: int) -> None:
        if not self._wanted:
            return
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._look(revision))

    async def _look(self, revision: int) -> None:
        """Everything is ACKed; ready is when nothing warms any more (rule 27)."""
        wait = FIRST_LOOK
        while revision == self.serving.revision:
            try:
                if await self._is_active() and self._give_listeners():
                    self.error = ""
                    self._reports.ready(revision)
                    return
            except (OSError, KernelError) as error:
                self.error = f"Envoy of pod {self.sandbox.pod} does not serve yet: {error!s}"
            await asyncio.sleep(wait)
            wait = min(2 * wait, LAST_LOOK)

    async def _is_active(self) -> bool:
        admin = self._admin
        return (
            await admin.is_live()
            and not await admin.is_warming()
            and self._listeners <= await admin.listeners()
        )

    def _give_listeners(self) -> bool:
        """Gives new listening sockets to the kernel; False while one is missing that should listen."""
        envoy = self._envoy
        if envoy is None:
            return False
        named = (number(name.removeprefix(_INBOUND)) for name in self._listeners if name.startswith(_INBOUND))
        expected = tuple(found for found in named if found is not None)
        found = set(listening_sockets(envoy.pid, expected)) if expected else set()
        for listening in found - self._given:
            with taken(envoy.pid, envoy.pidfd, listening.inode) as fd:
                for address in map(packed_address, self.sandbox.addresses):
                    if (listening.family == socket.AF_INET) == (address[:12] == _MAPPED):
                        key = ListenerKey(address, listening.number, listening.family)
                        self._table.put_listener(key.pack(), fd)
        self._given = found
        return {listening.number for listening in found} >= set(expected)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        drain_ms = self._launch().drain_ms
        limit = loop.time() + (DRAIN_LIMIT if drain_ms is None else drain_ms / 1000)
        while self._envoy is not None and loop.time() < limit:
            try:
                if not await self._admin.connections():
                    return
            except OSError as error:
                log.warning("Envoy of pod %s does not say who is connected: %s", self.sandbox.pod, error)
                return
            await asyncio.sleep(DRAIN_LOOK)
