"""A kernel's tables in memory, for tests of what the reconciler writes and when.

It answers as the programs would: it finds the longest prefix, takes the slot of the generation asked for,
and complains when an element that was deleted is reused under readers that may still hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from agent.slots import PLAIN_TABLES, SLOT_TABLES
from bpf.layout import Backend


class Crash(BaseException):
    """The agent dies here."""


class TableInMemory:
    def __init__(self, kernel: KernelInMemory, name: str) -> None:
        self._kernel = kernel
        self._name = name
        self.rows: dict[bytes, bytes] = {}

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(list(self.rows.items()))

    def update(self, entries: Mapping[bytes, bytes]) -> None:
        for key, value in entries.items():
            if key not in self.rows:
                assert not self._kernel.deleted, "an element is reused before readers let go of it"
            self.rows[key] = value
            self._kernel.step()

    def delete(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            if self.rows.pop(key, None) is not None:
                self._kernel.deleted = True
            self._kernel.step()


class ArrayInMemory:
    """Entries of one size, as in sl_maglev."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self._size = Backend.sizeof()
        self._data = bytearray(entries * self._size)

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self._data[offset * self._size : (offset + count) * self._size])

    def write(self, offset: int, content: bytes) -> None:
        self._data[offset * self._size : offset * self._size + len(content)] = content


class KernelInMemory:
    """`on_step` runs after every single write; readers of generations down to `oldest` may exist."""

    def __init__(self) -> None:
        self.tables = {name: TableInMemory(self, name) for name in (*SLOT_TABLES, *PLAIN_TABLES)}
        self.generation = 0
        self.oldest = 0
        self.deleted = False
        self.on_step: Callable[[], None] = lambda: None

    def table(self, name: str) -> TableInMemory:
        return self.tables[name]

    def flip(self, generation: int) -> None:
        self.generation = generation
        self.step()

    def quiesce(self) -> None:
        self.oldest = self.generation
        self.deleted = False

    def step(self) -> None:
        self.on_step()

    def look_up(self, table: str, key: bytes, generation: int) -> bytes:
        """The payload that a program sees; zeros if it finds nothing."""
        slots = SLOT_TABLES[table]
        rows = self.tables[table].rows
        value = _longest(rows, key) if table == "sl_addr" else rows.get(key)
        return (slots.visible(value, generation) if value is not None else None) or slots.absent


def _longest(rows: Mapping[bytes, bytes], key: bytes) -> bytes | None:
    address = int.from_bytes(key[4:], "big")
    for length in range(int.from_bytes(key[:4], "little"), -1, -1):
        masked = address >> (128 - length) << (128 - length)
        value = rows.get(length.to_bytes(4, "little") + masked.to_bytes(16, "big"))
        if value is not None:
            return value
    return None
