"""Keeps the connection logs of this node coming: lines to the files in which pods' Envoys write, records to
collectors. What comes faster than it may be told, or cannot be written, is lost and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from agent.collectors import Collectors
from agent.connection_logs import template
from agent.connection_logs.connection import Connection
from agent.connection_logs.ends import Ends
from agent.connection_logs.log_sender import Batch, LogSender
from agent.connection_logs.logged import Logged
from agent.names import Names
from agent.records import Change
from agent.tracing.bound import Bound
from mesh.model import WorkloadName
from mesh.node import Collector, ConnectionLog
from mesh.observability.cel import compiled

log = logging.getLogger(__name__)

#: Lines a second of a node, and as many at once.
RATE = 1000
#: Seconds between writes, and what may wait for one.
PERIOD, WAITING = 0.5, 4096

_NOWHERE = "/dev/null"
_EVERYTHING = "true"


class ConnectionLogging:
    """`file` is where the Envoy of a pod writes, `switch` makes the kernel tell of ends or be silent."""

    def __init__(
        self, names: Names, file: Callable[[WorkloadName], Path], switch: Callable[[bool], Awaitable[Any]]
    ) -> None:
        self._names = names
        self._file = file
        self._switch = switch
        self._logged = Logged(names)
        self._collectors = Collectors()
        self._ends = Ends(names, self._logged)
        self._bound = Bound(time.monotonic, RATE)
        self._waiting: dict[tuple[WorkloadName, ConnectionLog], deque[Connection]] = {}
        self._senders: dict[Collector, LogSender] = {}
        #: Whether the kernel tells of ends; None: nobody knows.
        self._is_on: bool | None = None
        self._lost = 0

    def follow(self, change: Change) -> None:
        """One record changed."""
        self._logged.follow(change)
        self._collectors.follow(change)

    async def settle(self) -> None:
        """What was followed comes into force. Raises KernelError."""
        if self._is_on != self._logged.any:
            await self._switch(self._logged.any)
            self._is_on = self._logged.any
        if not self._is_on:
            self._ends.forget()

    @property
    def dropped(self) -> int:
        """Lines that nobody has: by the bound, or because they could not be written or sent."""
        return self._bound.dropped + self._lost + sum(sender.lost for sender in self._senders.values())

    def add_events(self, records: list[bytes]) -> None:
        """Take in what the ring held."""
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for pod, connection, logs in self._ends.seen(records, offset):
            for one in logs:
                if one.path != _NOWHERE and compiled(one.filter or _EVERYTHING)(connection.attributes()):
                    self._add(pod, connection, one)

    async def run(self) -> None:
        """Write, again and again, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            waiting, self._waiting = self._waiting, {}
            sent: dict[Collector, Batch] = {}
            for (pod, one), connections in waiting.items():
                if one.collector:
                    sent.setdefault(one.collector, []).append((one, connections))
                else:
                    await asyncio.to_thread(self._write, pod, one, connections)
            async with asyncio.TaskGroup() as tasks:
                for collector, batch in sent.items():
                    tasks.create_task(asyncio.to_thread(self._sender(collector).send, batch))
            for gone in self._senders.keys() - self._logged.collectors:
                sender = self._senders.pop(gone)
                self._lost += sender.lost
                sender.close()

    def _add(self, pod: WorkloadName, connection: Connection, one: ConnectionLog) -> None:
        if self._bound.allows():
            self._waiting.setdefault((pod, one), deque(maxlen=WAITING))
            waiting = self._waiting[pod, one]
            self._lost += len(waiting) == WAITING
            waiting.append(connection)

    def _sender(self, collector: Collector) -> LogSender:
        if collector not in self._senders:
            self._senders[collector] = LogSender(collector, self._collectors.addresses)
        return self._senders[collector]

    def _write(self, pod: WorkloadName, one: ConnectionLog, connections: Collection[Connection]) -> None:
        form, made = (one.labels, template.labels) if one.labels else (one.text, template.text)
        fill = made(form, one.omit_empty)
        path = self._file(pod)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as output:
                output.write("".join(map(fill, connections)).encode())
        except OSError as error:
            self._lost += len(connections)
            log.error("write to %s failed: %s; %d lines are lost", path, error, len(connections))
