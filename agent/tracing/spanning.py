"""Keeps the spans of this node's connections coming: at each look at the ring, and at the table of flows from
time to time. Without a pod that is traced it does nothing and OpenTelemetry is not loaded.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from agent.access_log import LoggedRequest
from agent.flows import Telling
from agent.kernel.error import KernelError
from agent.names import Names
from agent.records import Change
from agent.tracing.bound import Bound
from agent.tracing.connections import Connections
from agent.tracing.span import Context, Span
from agent.tracing.traced import Traced

log = logging.getLogger(__name__)

#: Seconds between looks at the table of flows: how late a span may be told.
PERIOD = 0.5


class Table(Protocol):
    """What this file needs of a kernel table."""

    def lookup(self, key: bytes) -> bytes | None: ...


class Spanning:
    """`telling` holds what an event's names are when it comes; `aside` calls what may block on the kernel's
    thread."""

    def __init__(
        self,
        names: Names,
        table: Table,
        telling: Callable[[bytes], Telling],
        aside: Callable[..., Awaitable[Any]],
    ) -> None:
        self._table = table
        self._aside = aside
        self._traced = Traced(names)
        self._bound = Bound(time.monotonic)
        self._connections = Connections(self._traced, telling, self._emit, self._bound.allows, random.random)
        self._tracers: Any = None

    def follow(self, change: Change) -> None:
        """One record changed."""
        self._traced.follow(change)

    def settle(self) -> None:
        """What was followed is in force."""
        if self._tracers is not None:
            self._tracers.keep(self._traced.records)

    @property
    def dropped(self) -> int:
        """Spans that were not told, by the bound or for want of a collector."""
        return self._bound.dropped + (self._tracers.lost if self._tracers is not None else 0)

    def add_request(self, request: LoggedRequest) -> None:
        """Take in one entry of an Envoy's access log."""
        self._connections.add_request(request)

    def add_events(self, records: list[bytes]) -> None:
        """Take in what the ring held."""
        self._connections.add_events(records, _to_epoch(time.CLOCK_BOOTTIME))

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            if keys := self._connections.open:
                try:
                    flows = await self._aside(self._flows, keys)
                except KernelError as error:
                    log.error("%s; spans end later", error)
                else:
                    self._connections.look(flows, _to_epoch(time.CLOCK_MONOTONIC), time.time_ns())
            await asyncio.sleep(PERIOD)

    def _flows(self, keys: list[bytes]) -> dict[bytes, bytes | None]:
        return {key: self._table.lookup(key) for key in keys}

    def _emit(self, span: Span) -> Context:
        if self._tracers is None:
            from agent.tracing.tracers import Tracers

            self._tracers = Tracers(self._traced.addresses)
        context: Context = self._tracers.emit(span)
        return context


def _to_epoch(clock: int) -> int:
    """Nanoseconds from a clock of the kernel's to the epoch, now."""
    return time.time_ns() - time.clock_gettime_ns(clock)
