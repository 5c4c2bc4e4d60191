"""How many spans a node may tell: so many a second, and as many at once. Knows no clock."""

from __future__ import annotations

from collections.abc import Callable

#: Spans a second.
RATE = 100


class Bound:
    """A token bucket; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float], rate: int = RATE) -> None:
        self._clock = clock
        self._rate = rate
        self._left = float(rate)
        self._at = clock()
        #: Spans that were not told.
        self.dropped = 0

    def allows(self) -> bool:
        """Whether one more may be; a no is counted."""
        now = self._clock()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            self.dropped += 1
            return False
        self._left -= 1
        return True
