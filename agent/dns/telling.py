"""What the resolver tells: flow records to the agent, as far as there is one, and a log of bounded size."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from pathlib import Path

from mesh.dns import Observation

#: Lines a second.
MOST_LINES = 20


class Teller:
    """Sends each observation to the agent's socket; what nobody takes is lost."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def tell(self, observation: Observation) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(observation.to_json().encode(), self._path)


class Limit(logging.Filter):
    """So many lines a second, and a count of those that were left out: callers must not fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._lines, self._left_out = 0, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            if self._left_out:
                record.msg, record.args = f"({self._left_out} lines left out) {record.getMessage()}", None
            self._second, self._lines, self._left_out = second, 0, 0
        self._lines += 1
        if self._lines > MOST_LINES:
            self._left_out += 1
            return False
        return True
