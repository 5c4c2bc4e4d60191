"""Files that are seen whole or not at all, and by root only: write beside, then rename.

Without fsync: what must survive is the death of a process at any moment. When the machine itself
dies its pods die too, and a mesh starts from its sources again.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Ends the names of files that a killed writer left half written; readers pass over them.
PARTIAL = ".partial"


def write(path: Path, content: str | bytes) -> None:
    """Put `content` at `path`, making its folder. Raises OSError."""
    partial = f"{path}{PARTIAL}"
    data = content.encode() if isinstance(content, str) else content
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    os.replace(partial, path)


def remove(path: Path) -> None:
    """Take the file at `path` away, if it is there. Raises OSError."""
    path.unlink(missing_ok=True)
