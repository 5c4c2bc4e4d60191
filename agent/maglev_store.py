"""Blocks of the mapped array sl_maglev: which entry has which, what is free, what may be reused.

A block that some program may still read is never written: a service whose backends change gets a new
block, and the old one is free only after `reclaim`, which the reconciler calls when no program can hold the
old entry any more. Blocks of an earlier life are kept if they hold the same backends.
"""

from __future__ import annotations

from bisect import insort
from typing import Protocol

from agent.entries import Backends, Block
from bpf import layout
from mesh.routes.maglev import size_for, table

_ENTRY = layout.Backend.sizeof()


class Array(Protocol):
    """The array: packed backends, counted in entries."""

    entries: int

    def read(self, offset: int, count: int) -> bytes: ...
    def write(self, offset: int, content: bytes) -> None: ...


class StoreFullError(Exception):
    """The array has no room for another block."""


class MaglevStore:
    """Offsets and sizes count entries, not bytes."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self._free: list[tuple[int, int]] = [(0, array.entries)]
        self._placed: dict[bytes, tuple[Backends | None, Block]] = {}
        self._retired: list[Block] = []

    def adopt(self, blocks: dict[bytes, Block]) -> None:
        """Begin anew with the blocks that the kernel's service entries refer to; all else is free."""
        capacity = self._array.entries
        self._free, self._retired, end = [], [], 0
        before, self._placed = self._placed, {}
        for key, block in sorted(blocks.items(), key=lambda item: item[1].offset):
            known = before.get(key)
            self._placed[key] = (known[0] if known and known[1] == block else None, block)
            if block.offset > end:
                self._free.append((end, block.offset - end))
            end = max(end, block.offset + block.size)
        if end < capacity:
            self._free.append((end, capacity - end))

    def place(self, key: bytes, backends: Backends) -> Block:
        """The block with the look-up table of these (sorted) backends for a service entry. Raises
        StoreFullError."""
        held = self._placed.get(key)
        if held is not None:
            known, block = held
            if known == backends or (known is None and self._holds(block, backends)):
                self._placed[key] = (backends, block)
                return block
        block = self._allocate(size_for(len(backends)))
        if block.size:
            content = b"".join(backends[index] for index in table(backends, block.size))
            self._array.write(block.offset, content)
        if held is not None:
            self._retired.append(held[1])
        self._placed[key] = (backends, block)
        return block

    def drop(self, key: bytes) -> None:
        """No service entry refers to the key's block any more."""
        held = self._placed.pop(key, None)
        if held is not None:
            self._retired.append(held[1])

    def reclaim(self) -> None:
        """No program reads the blocks that were replaced or dropped: they are free."""
        for block in self._retired:
            if block.size:
                insort(self._free, (block.offset, block.size))
        if self._retired:
            self._merge()
        self._retired = []

    def free_entries(self) -> int:
        """Entries that belong to no block."""
        return sum(size for _, size in self._free)

    def _allocate(self, size: int) -> Block:
        if size == 0:
            return Block(0, 0)
        for index, (offset, length) in enumerate(self._free):
            if length >= size:
                rest = [(offset + size, length - size)] if length > size else []
                self._free[index : index + 1] = rest
                return Block(offset, size)
        raise StoreFullError(
            f"place {size} entries in sl_maglev failed: {self.free_entries()} are free, in "
            f"{len(self._free)} pieces; are there more services and backends than this node was built for?"
        )

    def _holds(self, block: Block, backends: Backends) -> bool:
        # Every backend has an entry, so equal sets mean an equal service, unless shares differ; the order
        # of entries may be that of another version of the algorithm, which is as good.
        if block.size != size_for(len(backends)) or len(set(backends)) < len(backends):
            return False
        content = self._array.read(block.offset, block.size) if block.size else b""
        return {content[at : at + _ENTRY] for at in range(0, len(content), _ENTRY)} == set(backends)

    def _merge(self) -> None:
        merged: list[tuple[int, int]] = []
        for offset, size in self._free:
            if merged and merged[-1][0] + merged[-1][1] == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((offset, size))
        self._free = merged
