"""Asks the kernel's verdict function for every port of a protocol at once.

65,536 questions that differ in nothing but the port are written, asked and compared as whole columns of
bytes, so that the time goes into verdicts and into the reference, and not into packing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.kernel import Kernel, libbpf
from bpf import layout

PORTS = 65536
_LOW = bytes(port & 255 for port in range(PORTS))
_HIGH = bytes(port >> 8 for port in range(PORTS))


@dataclass(frozen=True, slots=True)
class Interval:
    """What ports `first`..`last` must get."""

    first: int
    last: int
    answer: tuple[int, ...]


class Bulk:
    """The program `bulk_verdict`, which nothing attaches. `fields` are those of its answer to compare, with
    their size in bytes."""

    def __init__(self, kernel: Kernel, fields: Mapping[str, int]) -> None:
        self._program = kernel.program("bulk_verdict")
        table = kernel.table("sl_bulk")
        assert table.max_entries == PORTS
        self._size = layout.Bulk.sizeof()
        self._length = PORTS * self._size
        self._memory = mmap.mmap(table.fd, -(-self._length // mmap.PAGESIZE) * mmap.PAGESIZE)
        self._port = _offset("port")
        #: Offset of a byte, the field that it belongs to, and which byte of it that is.
        self._columns = [
            (_offset(name) + byte, index, byte)
            for index, (name, size) in enumerate(fields.items())
            for byte in range(size)
        ]
        self._fields = tuple(fields)

    def ask(self, set: int, peer: tuple[int, int], protocol: int, wanted: Iterable[Interval]) -> int | None:
        """The first port for which the kernel says anything else than what is wanted; None: there is none."""
        questions = bytearray(layout.Bulk(set, peer[1], peer[0], 0, protocol).pack() * PORTS)
        questions[self._port :: self._size] = _HIGH
        questions[self._port + 1 :: self._size] = _LOW
        self._memory[: self._length] = bytes(questions)
        self._run(PORTS)
        said = self._memory[: self._length]
        intervals = list(wanted)
        assert sum(i.last - i.first + 1 for i in intervals) == PORTS
        differs: list[int] = []
        for offset, field, byte in self._columns:
            expected = b"".join(
                bytes(((i.answer[field] >> 8 * byte) & 255,)) * (i.last - i.first + 1) for i in intervals
            )
            found = said[offset :: self._size]
            if found != expected:
                differs.append(next(p for p in range(PORTS) if found[p] != expected[p]))
        return min(differs, default=None)

    def ask_each(self, questions: Sequence[layout.Bulk]) -> list[dict[str, int]]:
        """What the kernel says of up to 65,536 questions that may differ in anything."""
        packed = b"".join(question.pack() for question in questions)
        self._memory[: len(packed)] = packed
        self._run(len(questions))
        return [self.answer(index) for index in range(len(questions))]

    def _run(self, count: int) -> None:
        context = bytearray(192)
        context[8:12] = count.to_bytes(4, "little")  # __sk_buff.mark
        asked = libbpf.run_program(self._program, bytes(64), bytes(context))
        assert asked == count

    def answer(self, port: int) -> dict[str, int]:
        """What the kernel said of a port, or of a question by its place, when it was asked last."""
        record = layout.Bulk.unpack(self._memory[port * self._size : (port + 1) * self._size])
        return {name: getattr(record, name) for name in self._fields}


def _offset(name: str) -> int:
    """Where a field of layout.Bulk begins."""
    names = layout.Bulk.names()
    marked = layout.Bulk(**{n: int(n == name) for n in names}).pack()
    at = marked.index(1)
    return at - 1 if name in layout.Bulk.PORTS else at
