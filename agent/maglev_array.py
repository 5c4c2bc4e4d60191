"""The kernel's array sl_maglev, mapped a window at a time: mapped whole it would count as 24 MB of this
process's memory, used or not. A write is visible to the programs at once; nothing here knows who reads.
"""

from __future__ import annotations

import mmap

from bpf.layout import Backend

_ENTRY = Backend.sizeof()


class MaglevArray:
    """`fd` is a mappable BPF array of `entries` backends."""

    def __init__(self, fd: int, entries: int) -> None:
        self._fd = fd
        self.entries = entries

    def read(self, offset: int, count: int) -> bytes:
        """`count` entries from `offset` on, packed."""
        start, size = offset * _ENTRY, count * _ENTRY
        page = start & -mmap.PAGESIZE
        with mmap.mmap(self._fd, start + size - page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page) as window:
            return window[start - page : start - page + size]

    def write(self, offset: int, content: bytes) -> None:
        """Packed entries, from `offset` on."""
        start = offset * _ENTRY
        page = start & -mmap.PAGESIZE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        with mmap.mmap(self._fd, start + len(content) - page, mmap.MAP_SHARED, access, offset=page) as window:
            window[start - page : start - page + len(content)] = content
