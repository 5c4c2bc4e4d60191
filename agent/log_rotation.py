"""Bounds what Envoys, pods and the parts of the mesh write: a client that sends requests fills an access log.

The file is somebody's standard output, who cannot open it anew (SIGUSR1 would lead an Envoy to the same
file). So what stands in it is copied to one older file and cut off; all who write append. What comes between
the last look and the cut is lost: microseconds of a log of 10 MiB.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

#: Bytes of a log at which it is cut, and of what is kept of it.
LIMIT = 10 << 20
#: Seconds between looks.
PERIOD = 2.0

_PATTERN = "*.log"
_CHUNK = 1 << 20


class LogRotation:
    """Of the logs in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(PERIOD)

    def look(self) -> None:
        """Cut what has become too large."""
        for path in self._folder.glob(_PATTERN):
            try:
                if path.stat().st_size > LIMIT:
                    _rotate(path)
            except OSError as error:
                log.error("rotate %s failed: %s; it grows", path, error)


def older(path: Path) -> Path:
    """Where what was cut off is."""
    return path.with_name(f"{path.name}.1")


def _rotate(path: Path) -> None:
    """Raises OSError."""
    target = older(path)
    being_written = target.with_name(f"{target.name}.tmp")
    with path.open("r+b") as source, being_written.open("wb") as copy:
        # Of what came faster than it could be looked at the newest is kept, from a whole line on.
        if (size := os.fstat(source.fileno()).st_size) > LIMIT:
            source.seek(size - LIMIT)
            source.readline()
        while chunk := source.read(_CHUNK):
            copy.write(chunk)
        source.truncate(0)
    being_written.replace(target)
