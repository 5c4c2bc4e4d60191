"""Keeps the metrics of this node current and served: looks at the kernel's counts from time to time and when
somebody asks, and opens sockets where there is something to tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.access_log import LoggedRequest
from agent.kernel.error import KernelError
from agent.names import Names
from agent.records import Change
from agent.sandbox import Sandbox
from agent.telemetry.own import own
from agent.telemetry.scrape import Scrapes
from agent.telemetry.telemetry import Telemetry
from agent.telemetry.traffic import Table, Traffic
from mesh.model import WorkloadName

log = logging.getLogger(__name__)

#: Seconds between looks: how long a pod may wait for its sockets, and how old a row's names may be.
PERIOD = 2.0


class Measuring:
    """`aside` calls what may block on the kernel's thread; `envoy` gives the metrics of a pod's own Envoy,
    "" where none answers."""

    def __init__(
        self,
        names: Names,
        table: Table,
        aside: Callable[..., Awaitable[Any]],
        envoy: Callable[[WorkloadName], Awaitable[str]],
    ) -> None:
        self._telemetry = Telemetry(names)
        self._traffic = Traffic(table)
        self._aside = aside
        self._envoy = envoy
        self._scrapes = Scrapes(self.pod)

    def add_request(self, sandbox: Sandbox, request: LoggedRequest) -> None:
        """Take in one entry of the access log of a pod's Envoy."""
        self._telemetry.add_request(sandbox.pod, sandbox.addresses, request)

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
        """Take in what the kernel counted. To be called before an address changes hands."""
        try:
            self._telemetry.add_traffic(await self._aside(self._traffic.read))
        except KernelError as error:
            log.error("%s; its counts are taken in later", error)

    async def pod(self, pod: WorkloadName) -> str:
        """The metrics of one pod, and of its Envoy if it has one."""
        await self.look()
        return self._telemetry.text(pod) + await self._envoy(pod)

    async def node(self, status: Mapping[str, Any]) -> str:
        """The agent's own metrics and those of all pods."""
        await self.look()
        telemetry = self._telemetry
        return own(status, telemetry.series, telemetry.dropped) + telemetry.texts()
