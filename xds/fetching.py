"""Tasks that get what the mesh wants from elsewhere, one for each source, for as long as it is wanted: the
newest good one stays in force whatever becomes of who gave it. Knows neither what that is, nor how it is got
or written down.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Set
from typing import Any, Generic, TypeVar

from xds.fetch import Unfetched

_LOG = logging.getLogger(__name__)

#: Seconds from a bad answer to the next question, doubling.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5 * 60.0

S = TypeVar("S")
B = TypeVar("B")
N = TypeVar("N")


class Fetching(ABC, Generic[S, B, N]):
    """Half a `Source`. `S` is where something comes from and can be sorted, `B` what comes from there, `N`
    what is told of it. `ask` raises Unfetched; from a good answer to the next question it is `interval`
    seconds."""

    def __init__(self, at_once: int, ask: Callable[[S], Awaitable[B]], interval: float) -> None:
        self._ask = ask
        self._interval = interval
        self._kept: dict[S, B] = {}
        self._news: asyncio.Queue[N | BaseException] = asyncio.Queue()
        self._tasks: dict[S, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(at_once)

    @abstractmethod
    def _known(self, source: S, kept: B | None, failure: str) -> N:
        """What is told of a source: the newest good one, and why it cannot be asked now (empty: it can)."""

    @abstractmethod
    def _unwanted(self, source: S) -> N:
        """What is told of a source that nobody wants any more."""

    @abstractmethod
    def _named(self, source: S) -> str:
        """What comes from a source, for the log."""

    @abstractmethod
    def _stored(self) -> Iterable[tuple[S, B]]:
        """What was written down. A file that cannot be read is as if it were not there."""

    @abstractmethod
    def _write(self, source: S, now: B | None, before: B | None) -> None:
        """Write down what a source gave, or forget it."""

    def _is_final(self, source: S) -> bool:
        """Is what is kept of a source what it will always be?"""
        return False

    def initial(self) -> list[N]:
        """What was kept."""
        self._kept = dict(self._stored())
        return [self._known(source, kept, "") for source, kept in self._kept.items()]

    async def changes(self) -> AsyncIterator[list[N]]:
        """Raises what ended one of the tasks: that is a fault of ours."""
        while True:
            news = await self._news.get()
            if isinstance(news, BaseException):
                raise news
            yield [news]

    def _want(self, wanted: Set[S]) -> None:
        """Begin with what is wanted now, and forget the rest."""
        for source in {*self._kept, *self._tasks} - wanted:
            if (task := self._tasks.pop(source, None)) is not None:
                task.cancel()
            self._write(source, None, self._kept.pop(source, None))
            self._news.put_nowait(self._unwanted(source))
        new: Any = wanted - self._tasks.keys()
        for source in sorted(new):
            self._tasks[source] = asyncio.create_task(self._follow(source))
            self._tasks[source].add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._news.put_nowait(error)

    async def _follow(self, source: S) -> None:
        pause, told = FIRST_PAUSE, None
        while not self._is_final(source):
            failure = ""
            try:
                async with self._turns:
                    found = await self._ask(source)
            except Unfetched as error:
                failure = str(error)
                wait, pause = pause, min(pause * 2, LONGEST_PAUSE)
            else:
                wait, pause = self._interval, FIRST_PAUSE
                self._keep(source, found)
            news = self._known(source, self._kept.get(source), failure)
            if news != told:
                told = news
                if failure:
                    _LOG.warning("no %s: %s", self._named(source), failure)
                self._news.put_nowait(news)
            await asyncio.sleep(wait)

    def _keep(self, source: S, found: B) -> None:
        before = self._kept.get(source)
        if found != before:
            self._kept[source] = found
            self._write(source, found, before)
