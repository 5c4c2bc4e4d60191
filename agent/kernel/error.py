"""What went wrong in the kernel, in words: it knows errno and nothing of the callers."""

from __future__ import annotations

import os


class KernelError(Exception):
    """The world's error: what was tried, on what, and what to look at."""

    def __init__(self, action: str, object: str, hint: str = "", errno: int = 0) -> None:
        reason = f": {os.strerror(errno)}" if errno else ""
        super().__init__(f"{action} {object} failed{reason}{f'; {hint}' if hint else ''}")
        self.action = action
        self.object = object
        self.hint = hint
        self.errno = errno
