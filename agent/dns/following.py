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
#: Names that are asked for at a time.
AT_ONCE = 64


class Following:
    def __init__(self, zone: Document[Authority], resolver: Resolver, learning: Learning) -> None:
        self._zone = zone
        self._resolver = resolver
        self._learning = learning
        self._due: dict[str, float] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._round(time.monotonic())
            await asyncio.sleep(LOOK)

    async def _round(self, now: float) -> None:
        authority = self._zone.read()
        if authority is None:
            return
        self._learning.drop([name for name in self._learning.asked if not authority.invites(name)])
        names = {*authority.upstream, *self._learning.asked}
        self._due = {name: self._due.get(name, now) for name in names}
        due = [name for name, when in self._due.items() if when <= now]
        found = dict(zip(due, await asyncio.gather(*map(self._addresses, due)), strict=True))
        last = self._learning.current
        answers = {name: found[name] if name in found else last.get(name) for name in names}
        self._learning.keep({name: answer for name, answer in answers.items() if answer is not None})

    async def _addresses(self, name: str) -> tuple[str, ...] | None:
        """What is said of a name now, or was before, as far as nobody says anything."""
        last = self._learning.current.get(name)
        try:
            async with self._slots:
                found = await self._resolver.ask_addresses(dns.name.from_text(name), name)
        except (UpstreamFailed, BrokenChain) as error:
            log.warning("%s keeps its addresses: %s", name, error)
            self._due[name] = time.monotonic() + SHORTEST
            return last
        for chain in found.values():
            self._resolver.remember(chain)
        seconds = min((chain.ttl for chain in found.values() if chain.addresses), default=0)
        self._due[name] = time.monotonic() + min(max(seconds, SHORTEST), LONGEST)
        kept = {address for address in last or () if _kind(address) not in found}
        return tuple(sorted(kept.union(*(chain.addresses for chain in found.values()))))


def _kind(address: str) -> dns.rdatatype.RdataType:
    return dns.rdatatype.AAAA if ":" in address else dns.rdatatype.A
