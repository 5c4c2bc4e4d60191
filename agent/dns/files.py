"""Documents in files that others replace while we run, and one that we replace.

A document is read when it is asked for, so that an answer is judged by what is in force at that moment;
nobody has to be told that it changed. One that cannot be read leaves what was known.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Document(Generic[T]):
    """The file at `path` through `parse`, which raises ValueError."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._parse = parse
        self._seen: tuple[int, int, int] | None = None
        self._content: T | None = None

    def read(self) -> T | None:
        """What the file says now; None as long as there has been none."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return self._content
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            self._seen = seen
            try:
                self._content = self._parse(self.path.read_bytes())
            except (OSError, ValueError) as error:
                log.error("read %s failed: %s; what was known stays", self.path, error)
        return self._content


def replace(path: Path, text: str) -> None:
    """Put `text` at `path`: seen whole or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(text)
    beside.replace(path)
