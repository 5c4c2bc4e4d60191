"""Tasks that get what the mesh wants from elsewhere, one for each source, for as long as it is wanted. Knows
neither what that is nor how it is got."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Set
from typing import Any, Generic, TypeVar

#: Seconds from a bad answer to the next question, doubling.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5 * 60.0

S = TypeVar("S")
N = TypeVar("N")


class Fetching(ABC, Generic[S, N]):
    """Half a `Source`. `S` is where something comes from and can be sorted, `N` what is told of it."""

    def __init__(self, at_once: int) -> None:
        self._news: asyncio.Queue[N | BaseException] = asyncio.Queue()
        self._tasks: dict[S, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(at_once)

    @abstractmethod
    async def _refresh(self, source: S) -> None:
        """Get it, and go on for as long as it may change."""

    @abstractmethod
    def _forget(self, source: S) -> None:
        """Nobody wants it any more."""

    async def changes(self) -> AsyncIterator[list[N]]:
        """Raises what ended one of the tasks: that is a fault of ours."""
        while True:
            news = await self._news.get()
            if isinstance(news, BaseException):
                raise news
            yield [news]

    def _want(self, wanted: Set[S], kept: Collection[S]) -> None:
        """Begin with what is wanted now, and forget the rest of what is `kept`."""
        for source in {*kept, *self._tasks} - wanted:
            if (task := self._tasks.pop(source, None)) is not None:
                task.cancel()
            self._forget(source)
        new: Any = wanted - self._tasks.keys()
        for source in sorted(new):
            self._tasks[source] = asyncio.create_task(self._refresh(source))
            self._tasks[source].add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._news.put_nowait(error)
