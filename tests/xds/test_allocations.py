"""Numbers on disk, and the clock by which they rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.identity import QUARANTINE
from mesh.model import Identity
from xds.allocations import AllocationFile

RANGES = ("10.128.0.0/16",)
GONE, LATER = (Identity((("app", name),)) for name in ("gone", "later"))


class Clock:
    """Seconds, as a monotonic clock tells them; each process has a start of its own."""

    def __init__(self, start: float) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now


def opened(state: Path, clock: Clock) -> AllocationFile:
    file = AllocationFile(state, RANGES, clock=clock)
    ids = file.allocations.security_ids
    ids.first = ids.last = 256
    return file


def rests(file: AllocationFile) -> bool:
    file.advance()
    return not file.allocations.security_ids.has_room()


def test_the_time_without_a_control_plane_is_no_rest(tmp_path: Path) -> None:
    clock = Clock(1_000_000)
    first = opened(tmp_path, clock)
    first.allocations.security_ids.claim(GONE)
    first.allocations.security_ids.retire(GONE)
    assert rests(first)
    clock.now += QUARANTINE / 2
    first.save()
    for start in (5.0, 9e9):  # the machine was off, its clocks say anything
        clock = Clock(start)
        again = opened(tmp_path, clock)
        assert rests(again)
        clock.now += QUARANTINE / 2 - 1
        assert rests(again)
        clock.now += 2
        assert not rests(again)
        assert again.allocations.security_ids.claim(LATER) == 256


def test_what_was_not_written_down_rests_longer_never_shorter(tmp_path: Path) -> None:
    clock = Clock(0)
    first = opened(tmp_path, clock)
    first.allocations.security_ids.claim(GONE)
    first.save()
    first.allocations.security_ids.retire(GONE)
    clock.now += QUARANTINE * 9  # killed here
    clock = Clock(0)
    again = opened(tmp_path, clock)
    assert rests(again)
    clock.now = QUARANTINE - 1
    assert rests(again)
    clock.now = QUARANTINE
    assert not rests(again)


def test_a_malformed_expression_for_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="identity label"):
        AllocationFile(tmp_path, RANGES, ["team("])
