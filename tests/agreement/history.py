"""What was in force when, what was seen when, and whether the one explains the other.

Times are nanoseconds of CLOCK_BOOTTIME, which the kernel's events bear too. Every interval is the widest
that is honest: a generation begins to reign just before it is flipped to and ends when the flip to the
next has returned; an observation lasts from before the call until after its outcome was known. It knows
neither policies nor sockets.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Observation:
    """Between the two times somebody judged this flow, and this came of it."""

    flow: int
    since: int
    until: int
    allowed: bool


@dataclass(slots=True)
class History:
    """Generations in the order in which they came into force."""

    generations: list[int] = field(default_factory=list)
    _begun: list[int] = field(default_factory=list)
    _ended: list[int] = field(default_factory=list)
    _allowed: list[Sequence[bool]] = field(default_factory=list)

    def flipped(self, generation: int, before: int, after: int, allowed: Sequence[bool]) -> None:
        """The call that put it in force lasted from `before` to `after`. `allowed`: by flow."""
        assert not self.generations or generation == self.generations[-1] + 1
        if self.generations:
            self._ended.append(after)
        self.generations.append(generation)
        self._begun.append(before)
        self._allowed.append(allowed)

    def __len__(self) -> int:
        return len(self.generations)

    def at(self, generation: int) -> Sequence[bool]:
        """What that generation says of each flow."""
        return self._allowed[generation - self.generations[0]]

    def answers(self, seen: Observation) -> set[bool]:
        """Every answer that some generation live meanwhile would give."""
        first = bisect_left(self._ended, seen.since)
        after = bisect_right(self._begun, seen.until)
        return {allowed[seen.flow] for allowed in self._allowed[first:after]}

    def flips(self) -> int:
        """Changes by which some flow's answer became another."""
        pairs = zip(self._allowed, self._allowed[1:], strict=False)
        return sum(tuple(one) != tuple(other) for one, other in pairs)


@dataclass(slots=True)
class Tally:
    """`decisive`: all generations live meanwhile agree, so that any other answer would have been wrong."""

    seen: int = 0
    decisive: int = 0
    allowed: int = 0
    unexplained: list[Observation] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.seen:,} observations ({self.allowed:,} allowed), {self.decisive:,} of them decisive,"
            f" {len(self.unexplained)} unexplained"
        )


def check(history: History, observations: Iterable[Observation]) -> Tally:
    """Holds each observation against the generations that were live."""
    tally = Tally()
    for seen in observations:
        answers = history.answers(seen)
        tally.seen += 1
        tally.allowed += seen.allowed
        tally.decisive += len(answers) == 1
        if seen.allowed not in answers:
            tally.unexplained.append(seen)
    return tally


def dropped_at(times: Sequence[int], sent: int, latest: int) -> int:
    """When a datagram was judged that nobody received: at the first drop of its flow that the kernel told of
    since; at `latest` if it told of none."""
    at = bisect_left(times, sent)
    return min(times[at], latest) if at < len(times) else latest
