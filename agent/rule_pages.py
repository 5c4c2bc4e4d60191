"""A class of verdicts as the kernel looks it up: a search tree of intervals, in pages.

Every protocol and port lies in exactly one interval, so ranges cost no more than single ports do. Most
classes are one page; a page more is one look-up more for at most sixteen times the intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpf.layout import RuleKey, RulePage, RuleTree, RuleValue, Verdict

#: The first place of an interval, protocol << 16 | port, and what it says up to the next one's.
Interval = tuple[int, RuleValue]
#: First place, last place, what they say.
Range = tuple[int, int, RuleValue]

#: One behind the last port of the last protocol.
END = 1 << 24


def intervals(ranges: Sequence[Range], rest: RuleValue) -> list[Interval]:
    """The intervals of ranges that do not overlap, and of what lies between them."""
    found: list[Interval] = []

    def begin(place: int, value: RuleValue) -> None:
        if place < END and (not found or found[-1][1] != value):
            found.append((place, value))

    at = 0
    for first, last, value in sorted(ranges, key=lambda entry: entry[0]):
        if first > at:
            begin(at, rest)
        begin(first, value)
        at = last + 1
    begin(at, rest)
    return found


def pages(class_id: int, level: Sequence[Interval]) -> Iterator[tuple[bytes, bytes]]:
    """Packed keys and pages of sl_rule; the root has number 0."""
    number = 0
    while len(level) > RuleTree.PAGE:
        above: list[Interval] = []
        for start in range(0, len(level), RuleTree.PAGE):
            number += 1
            part = tuple(level[start : start + RuleTree.PAGE])
            yield RuleKey(class_id, number).pack(), RulePage(part).pack()
            above.append((part[0][0], RuleValue(Verdict.LOOK_BELOW, listener=number)))
        level = above
    yield RuleKey(class_id).pack(), RulePage(tuple(level)).pack()
