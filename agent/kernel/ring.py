"""The reader of the ring buffer of events, through its mapped pages.

The producer wakes nobody for a single event: the descriptor becomes readable when many are
pending, so a reader also drains on a timer. Relies on x86's memory order.
"""

from __future__ import annotations

import mmap
import struct

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = 8
_POSITION = struct.Struct("=Q")
_LENGTH = struct.Struct("=I")


class EventRing:
    """The consumer's end. One per map: two readers would share the position."""

    def __init__(self, fd: int, size: int) -> None:
        """`size` is the map's max_entries, bytes."""
        page = mmap.PAGESIZE
        self._fd = fd
        self._mask = size - 1
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._data = memoryview(self._producer)[page:]

    def fileno(self) -> int:
        """Readable when enough events are pending to be worth a wake-up."""
        return self._fd

    def drain(self) -> list[bytes]:
        """All records written so far, oldest first, as they are: `layout.Event.unpack` reads one."""
        records = []
        (position,) = _POSITION.unpack_from(self._consumer, 0)
        (end,) = _POSITION.unpack_from(self._producer, 0)
        while position < end:
            start = position & self._mask
            (length,) = _LENGTH.unpack_from(self._data, start)
            if length & _BUSY:
                break
            size = length & ~_DISCARDED
            if not length & _DISCARDED:
                records.append(bytes(self._data[start + _HEADER : start + _HEADER + size]))
            position += (_HEADER + size + 7) & ~7
        _POSITION.pack_into(self._consumer, 0, position)
        return records
