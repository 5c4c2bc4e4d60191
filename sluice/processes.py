"""One process, watched through a pidfd, so that a child and a process adopted from an earlier
supervisor are the same thing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Process:
    """A running process. `start_time` (clock ticks since boot) with `pid` names it for ever."""

    def __init__(self, pid: int, pidfd: int, start_time: int, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.start_time = start_time
        self._pidfd = pidfd
        self._child = child
        self._exit: asyncio.Future[int | None] | None = None

    @classmethod
    def launch(cls, argv: Sequence[str], log: Path | None, env: Mapping[str, str], cwd: str = "/") -> Process:
        """Start a command in a session of its own, output appended to `log` (None: discarded)."""
        with open(log if log else os.devnull, "ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        return cls(child.pid, os.pidfd_open(child.pid), start_time_of(child.pid) or 0, child)

    @classmethod
    def adopt(cls, record: Mapping[str, Any]) -> Process | None:
        """The process that an earlier supervisor recorded, if it is still the same one."""
        try:
            pid, start_time = int(record["pid"]), int(record["start_time"])
            pidfd = os.pidfd_open(pid)
        except (KeyError, ProcessLookupError):
            return None
        if start_time_of(pid) != start_time:
            os.close(pidfd)
            return None
        return cls(pid, pidfd, start_time, None)

    def record(self) -> dict[str, int]:
        return {"pid": self.pid, "start_time": self.start_time}

    async def wait(self) -> int | None:
        """The exit status, negative for a signal; None when it was not our child."""
        if self._exit is None:
            loop = asyncio.get_running_loop()
            self._exit = loop.create_future()
            loop.add_reader(self._pidfd, self._collect, loop, self._exit)
        return await asyncio.shield(self._exit)

    def has_ended(self, patience: float) -> bool:
        """Wait, blocking, at most `patience` seconds for the end."""
        return _has_ended(self._pidfd, patience)

    def _collect(self, loop: asyncio.AbstractEventLoop, exit_: asyncio.Future[int | None]) -> None:
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        exit_.set_result(self._child.wait() if self._child else None)

    def signal(self, number: signal.Signals) -> None:
        """Never hits another process that got the same id."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)


def end_process(pid: int, number: signal.Signals, patience: float) -> bool:
    """Signal a process and wait, blocking, at most `patience` seconds; whether it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(pidfd, number)
        return _has_ended(pidfd, patience)
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)


def _has_ended(pidfd: int, patience: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def start_time_of(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None when there is no such process, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
