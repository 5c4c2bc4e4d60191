"""The reader of the ring buffer of events, through its mapped pages.

The producer wakes nobody for a single event: the descriptor becomes readable when many are
pending, so a reader also drains on a timer. Relies on x86's memory order.
"""

from __future__ import annotations

import mmap
import struct

from bpf.layout import Event

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_POSITION = struct.Struct("=Q")
#: The ring's header and one Event: all records are alike, and a multiple of 8 bytes long.
_RECORD = struct.Struct(f"=I4x{Event.sizeof()}s")


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
        (position,) = _POSITION.unpack_from(self._consumer, 0)
        (end,) = _POSITION.unpack_from(self._producer, 0)
        # The data pages are mapped twice in a row, so that what is pending never wraps.
        start = position & self._mask
        records = []
        for length, record in _RECORD.iter_unpack(self._data[start : start + end - position]):
            if length & _BUSY:
                break
            if not length & _DISCARDED:
                records.append(record)
            position += _RECORD.size
        _POSITION.pack_into(self._consumer, 0, position)
        return records
