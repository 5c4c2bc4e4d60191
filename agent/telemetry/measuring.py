"""Keeps the metrics of this node current and served: looks at the kernel's counts from time to time and when
somebody asks, and opens sockets where there is something to tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from agent.access_log import LoggedConnection, LoggedRequest
from agent.kernel.error import KernelError
from agent.names import Names
from agent.records import Change
from agent.sandbox import Sandbox
from agent.telemetry.carried import Carried, Told
from agent.telemetry.own import own
from agent.telemetry.scrape import Scrapes
from agent.telemetry.telemetry import Telemetry
from agent.telemetry.traffic import Table, Traffic
from mesh.model import WorkloadName

log = logging.getLogger(__name__)

#: Seconds between looks: how long a pod may wait for its sockets, and how old a row's names may be.
PERIOD = 2.0


class Flows(Protocol):
    """What this file needs of the kernel's table of flows."""

    def lookup(self, key: bytes) -> bytes | None: ...


class Measuring:
    """`aside` calls what may block on the kernel's thread; `envoy` gives the metrics of a pod's own Envoy,
    "" where none answers."""

    def __init__(
        self,
        names: Names,
        table: Table,
        flows: Flows,
        aside: Callable[..., Awaitable[Any]],
        envoy: Callable[[WorkloadName], Awaitable[str]],
    ) -> None:
        self._telemetry = Telemetry(names)
        self._traffic = Traffic(table)
        self._carried = Carried(names)
        self._flows = flows
        self._told: list[Told] = []
        self._aside = aside
        self._envoy = envoy
        self._scrapes = Scrapes(self.pod)

    def add_request(self, sandbox: Sandbox, request: LoggedRequest) -> None:
        """Take in one entry of the access log of a pod's Envoy."""
        self._telemetry.add_request(sandbox.pod, sandbox.addresses, request)

    def add_connection(self, sandbox: Sandbox, connection: LoggedConnection) -> None:
        """The same of a connection, which is counted at the next look."""
        self._told.append((sandbox, connection))

    def end_connections(self, sandbox: Sandbox) -> None:
        """A pod's Envoy is gone."""
        self._told.append((sandbox, None))

    def follow(self, change: Change) -> None:
        """One record changed."""
        self._telemetry.follow(change)

    async def run(self, sandboxes: Callable[[], Mapping[WorkloadName, Sandbox]]) -> None:
        """Look, again and again, until cancelled."""
        while True:
            await self.look()
            present = sandboxes()
            self._telemetry.keep(present)
            shown = {pod: present[pod] for pod in self._telemetry.pods}
            await self._scrapes.want(shown, self._aside)
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        """Take in what the kernel counted, and the connections that Envoys carry. To be called before an
        address changes hands."""
        told, self._told = self._told, []
        try:
            self._telemetry.add_traffic(await self._aside(self._traffic.read))
            flows = await self._aside(self._look_up, self._carried.flows(told))
        except KernelError as error:
            log.error("%s; its counts are taken in later", error)
            self._told = told + self._told
        else:
            self._telemetry.add(self._carried.counts(told, flows))

    def _look_up(self, keys: set[bytes]) -> dict[bytes, bytes | None]:
        return {key: self._flows.lookup(key) for key in keys}

    async def pod(self, pod: WorkloadName) -> str:
        """The metrics of one pod, and of its Envoy if it has one."""
        await self.look()
        return self._telemetry.text(pod) + await self._envoy(pod)

    async def node(self, status: Mapping[str, Any]) -> str:
        """The agent's own metrics and those of all pods."""
        await self.look()
        telemetry = self._telemetry
        return own(status, telemetry.series, telemetry.dropped) + telemetry.texts()
