"""Names that services lead to (a ServiceEntry's, resolved by DNS): asked for whether a pod does or not, and
again when an answer's time is over. So are names under patterns, once a pod did ask.

The last answer counts whole: what it does not have any more stands behind no service any more. While nobody
answers, the one before stays (as with Envoy's STRICT_DNS). Policies that speak of such a name learn its
addresses by the same report.
"""

from __future__ import annotations

import asyncio
import logging
import time

import dns.name
import dns.rdatatype

from agent.dns.chain import BrokenChain
from agent.dns.files import Document
from agent.dns.learning import Learning
from agent.dns.resolver import Resolver
from agent.dns.upstream import UpstreamFailed
from agent.dns.zone import Authority

log = logging.getLogger(__name__)

#: Seconds between looks for what is due; between two questions for a name, whatever its answer says.
LOOK, SHORTEST, LONGEST = 0.5, 5.0, 300.0
#: Names that are asked for at a time, and how many of them may be such of which nothing was said last time.
AT_ONCE, SILENT_AT_ONCE = 64, 16


class Following:
    def __init__(self, zone: Document[Authority], resolver: Resolver, learning: Learning) -> None:
        self._zone = zone
        self._resolver = resolver
        self._learning = learning
        self._narrowed_by: Authority | None = None
        self._due: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        # Silence takes as long as we are patient: many such names must not keep the others from their turn.
        self._silent: set[str] = set()
        self._slots = asyncio.Semaphore(AT_ONCE - SILENT_AT_ONCE)
        self._silent_slots = asyncio.Semaphore(SILENT_AT_ONCE)

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._look(tasks, time.monotonic())
                await asyncio.sleep(LOOK)

    def _look(self, tasks: asyncio.TaskGroup, now: float) -> None:
        """Begin to ask for what is due. What is said of a name is told at once, whoever is still silent."""
        authority = self._zone.read()
        if authority is None:
            return
        self._learning.drop([name for name in self._learning.asked if not authority.invites(name)])
        if authority is not self._narrowed_by:
            self._narrowed_by = authority
            self._learning.narrow(lambda namespace, host: authority.widened_by(host, namespace) == host)
        names = {*authority.upstream, *self._learning.asked}
        self._learning.follow(names)
        self._silent &= names
        self._due = {name: self._due.get(name, now) for name in names}
        for name in self._asking.keys() - names:
            self._asking[name].cancel()
        for name, when in self._due.items():
            if when <= now and name not in self._asking:
                self._begin(tasks, name)

    def _begin(self, tasks: asyncio.TaskGroup, name: str) -> None:
        task = self._asking[name] = tasks.create_task(self._ask(name))
        task.add_done_callback(lambda _: self._asking.pop(name))

    async def _ask(self, name: str) -> None:
        try:
            async with self._silent_slots if name in self._silent else self._slots:
                found = await self._resolver.ask_addresses(dns.name.from_text(name), name)
        except (UpstreamFailed, BrokenChain) as error:
            log.warning("%s keeps its addresses: %s", name, error)
            self._silent.add(name)
            self._due[name] = time.monotonic() + SHORTEST
            return
        self._silent.discard(name)
        for chain in found.values():
            self._resolver.remember(chain, self._learning.asker(name))
        seconds = min((chain.ttl for chain in found.values() if chain.addresses), default=0)
        self._due[name] = time.monotonic() + min(max(seconds, SHORTEST), LONGEST)
        last = self._learning.current.get(name, ())
        kept = {address for address in last if _kind(address) not in found}
        self._learning.answer(name, kept.union(*(chain.addresses for chain in found.values())))


def _kind(address: str) -> dns.rdatatype.RdataType:
    return dns.rdatatype.AAAA if ":" in address else dns.rdatatype.A
