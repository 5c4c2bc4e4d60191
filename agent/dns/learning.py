"""What answers taught is remembered, reported and let go.

An answer that teaches something new may leave only when the report that says so is in force; until then
its caller could not connect anyway. What is in force already costs nothing, whoever else is down. What was
learned is on disk, so a restart forgets nothing and never takes an address for enforced that is not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from asyncinotify import Inotify, Mask

from agent.dns import files
from agent.dns.files import Document
from agent.dns.memory import Memory
from mesh.dns import InForce, Learned

log = logging.getLogger(__name__)

#: Seconds between looks for what expired.
LOOK = 1.0
#: Seconds until a report that could not be written is tried again.
RETRY = 1.0

_CHANGES = Mask.MOVED_TO | Mask.CLOSE_WRITE


class Learning:
    """Memory, its file and the acknowledgements; `minimum` and `patience` are seconds."""

    def __init__(self, learned: Path, in_force: Path, minimum: float, patience: float) -> None:
        self._path = learned
        self._in_force = Document(in_force, InForce.from_json)
        self._minimum = minimum
        self._patience = patience
        self._memory = Memory(Document(learned, Learned.from_json).read() or Learned(), self._acknowledged())
        self._due = asyncio.Event()
        self._progress = asyncio.Condition()

    async def take(self, names: Iterable[str], addresses: Iterable[str], ttl: int, namespace: str) -> bool:
        """Learn because a pod of a namespace asked, and wait until that is in force; False if it takes too
        long. Raises Full."""
        return await self._in_force_in_time(self._learn(names, addresses, ttl, namespace))

    async def ask(self, name: str, addresses: tuple[str, ...], namespace: str) -> bool:
        """A pod of a namespace asked for a name under a pattern, which has these addresses: wait until it is
        a service; False if that takes too long. Raises Full."""
        return await self._in_force_in_time(self._memory.ask(name, addresses, namespace, time.time()))

    async def ask_again(self, name: str) -> bool | None:
        """The same, if it was asked for before; None if it was not."""
        needed = self._memory.ask_again(name, time.time())
        return None if needed is None else await self._in_force_in_time(needed)

    async def look_up(self, namespace: str, host: str) -> bool:
        """A pod of a namespace, whose scope that widens, asked for a host of the mesh: wait until its Envoy
        knows of it; False if that takes too long."""
        return await self._in_force_in_time(self._memory.look_up(namespace, host))

    def narrow(self, keep: Callable[[str, str], bool]) -> None:
        """Look-ups of (namespace, host) that are not kept widen nothing any more."""
        self._memory.narrow([key for key in self._memory.looked_up if not keep(*key)])
        self._write_soon()

    def asker(self, name: str) -> str:
        """The namespace whose pod made a name under a pattern one of the mesh; "" for other names."""
        return self._memory.asker(name)

    @property
    def asked(self) -> Collection[str]:
        """The names under patterns that were asked for."""
        return self._memory.asked

    def drop(self, names: Iterable[str]) -> None:
        """No pattern stands for these any more."""
        self._memory.drop(names)
        self._write_soon()

    async def _in_force_in_time(self, needed: int) -> bool:
        self._write_soon()
        if needed <= self._acknowledged():
            return True
        try:
            async with asyncio.timeout(self._patience), self._progress:
                await self._progress.wait_for(lambda: needed <= self._acknowledged())
        except TimeoutError:
            return False
        return True

    def remember(self, names: Iterable[str], addresses: Iterable[str], ttl: int, namespace: str) -> None:
        """Learn what nobody waits for. Raises Full."""
        self._learn(names, addresses, ttl, namespace)
        self._write_soon()

    @property
    def current(self) -> Mapping[str, tuple[str, ...]]:
        """The last answers of names that services lead to."""
        return self._memory.current

    def follow(self, names: Collection[str]) -> None:
        """Services lead to these names, and to no others."""
        self._memory.follow(names)
        self._write_soon()

    def answer(self, name: str, addresses: Iterable[str]) -> None:
        """This is the last answer of such a name now. Services follow once the next report is in force, and
        nobody waits for that."""
        self._memory.answer(name, tuple(sorted(addresses)))
        self._write_soon()

    async def run(self) -> None:
        """Write reports, follow acknowledgements, forget; never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write())
            tasks.create_task(self._follow())
            tasks.create_task(self._expire())

    def _learn(self, names: Iterable[str], addresses: Iterable[str], ttl: int, namespace: str) -> int:
        now = time.time()
        return self._memory.learn(names, addresses, now, now + max(ttl, self._minimum), namespace)

    def _acknowledged(self) -> int:
        in_force = self._in_force.read()
        return in_force.sequence if in_force else 0

    def _write_soon(self) -> None:
        if self._memory.news or self._memory.stale:
            self._due.set()

    async def _write(self) -> None:
        while True:
            if not (self._memory.news or self._memory.stale):
                await self._due.wait()
            self._due.clear()
            began = time.monotonic()
            try:
                files.replace(self._path, self._memory.report().to_json())
            except OSError as error:
                log.error("write %s failed: %s; new names stay unanswered", self._path, error)
                self._memory.stale = True
                await asyncio.sleep(RETRY)
            # A long report must not keep the resolver from answering.
            await asyncio.sleep(4 * (time.monotonic() - began))

    async def _follow(self) -> None:
        with Inotify() as inotify:
            inotify.add_watch(self._in_force.path.parent, _CHANGES)
            async for event in inotify:
                if event.name is None or event.name.name == self._in_force.path.name:
                    async with self._progress:
                        self._progress.notify_all()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._memory.expire(time.time())
            self._write_soon()
