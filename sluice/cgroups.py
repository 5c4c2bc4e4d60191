"""cgroup2 directories as the unit of stopping: what was started inside one cannot escape its end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from sluice.failure import Failure


def processes(cgroup: Path) -> list[int]:
    """The process ids in a cgroup and below it; none when it does not exist."""
    found: list[int] = []
    for directory, _, files in os.walk(cgroup):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError):
                found += map(int, Path(directory, "cgroup.procs").read_text().split())
    return found


def is_populated(cgroup: Path) -> bool:
    """Whether any process lives in the cgroup or below it."""
    try:
        return "populated 1" in (cgroup / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def signal_all(cgroup: Path, number: signal.Signals) -> None:
    for pid in processes(cgroup):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all(cgroup: Path) -> None:
    """SIGKILL to all inside, at once and without races (cgroup.kill, Linux 5.14)."""
    with contextlib.suppress(FileNotFoundError):
        (cgroup / "cgroup.kill").write_text("1")


def remove_cgroup(cgroup: Path, patience: float = 5.0) -> None:
    """Kill what is left inside and remove the directory with all below; waits up to `patience` seconds."""
    deadline = time.monotonic() + patience
    while cgroup.exists():
        kill_all(cgroup)
        try:
            for directory, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if time.monotonic() > deadline:
                raise Failure(
                    f"remove cgroup {cgroup}: {error.strerror}", f"still in it: {processes(cgroup)}"
                ) from None
            time.sleep(0.01)
