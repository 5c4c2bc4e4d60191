"""Values that several have, each once and in order, kept current at the cost of what changes."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)


class SortedBag(Generic[T]):
    def __init__(self) -> None:
        self._count: Counter[T] = Counter()
        #: Never to be changed by others.
        self.sorted: list[T] = []

    def add(self, values: Iterable[T]) -> None:
        for value in values:
            self._count[value] += 1
            if self._count[value] == 1:
                insort(self.sorted, value)

    def remove(self, values: Iterable[T]) -> None:
        """Takes away what was added."""
        for value in values:
            self._count[value] -= 1
            if not self._count[value]:
                del self._count[value]
                del self.sorted[bisect_left(self.sorted, value)]
