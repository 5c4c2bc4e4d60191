"""Makes the kernel's tables say what is desired, one generation at a time (semantics rule 8).

`plan` is pure: from what is in the kernel, what is desired and which keys changed it makes the writes of
the next generation and what may go once that is in force. `Reconciler` carries plans out and remembers what
is in the kernel, so a change costs its own size; on start it reads the pinned tables, so whatever an earlier
life left, at any point of its work, is adopted and mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agent.desired import Desired, Prefixes
from agent.entries import Block
from agent.maglev_store import MaglevStore
from agent.slots import PLAIN_TABLES, SLOT_TABLES
from bpf import layout

Rows = dict[bytes, bytes]

#: Tables whose entries refer to blocks of sl_maglev. Their keys differ in length.
_WITH_BLOCKS: Mapping[str, type[layout.ServiceSlot] | type[layout.RouteSlot]] = {
    "sl_service": layout.ServiceSlot,
    "sl_route": layout.RouteSlot,
}


class KernelTable(Protocol):
    """One map, keys and values as bytes."""

    def items(self) -> Iterator[tuple[bytes, bytes]]: ...
    def update(self, entries: Mapping[bytes, bytes]) -> None: ...
    def delete(self, keys: Iterable[bytes]) -> None: ...


class KernelTables(Protocol):
    """What the reconciler needs of the kernel."""

    @property
    def generation(self) -> int: ...
    def table(self, name: str) -> KernelTable: ...
    def flip(self, generation: int) -> None: ...
    def quiesce(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """Table -> key -> value to write, before the flip; keys to delete after it.

    `decides` says whether some verdict may change, so that live connections must be judged again.
    """

    writes: Mapping[str, Rows] = field(default_factory=dict)
    deletes: Mapping[str, list[bytes]] = field(default_factory=dict)
    flips: bool = False
    decides: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What one round did: the generation in force after it, entries written and deleted, sockets ended."""

    generation: int
    written: int
    deleted: int
    swept: int


class Image:
    """What is in the kernel: table -> key -> value, as of the generation in force."""

    def __init__(self, generation: int, tables: Mapping[str, Rows]) -> None:
        self.generation = generation
        self.tables = tables
        self._prefixes = Prefixes(tables["sl_addr"])

    def put(self, table: str, key: bytes, value: bytes) -> None:
        if table == "sl_addr" and key not in self.tables[table]:
            self._prefixes.add(key)
        self.tables[table][key] = value

    def remove(self, table: str, key: bytes) -> None:
        if self.tables[table].pop(key, None) is not None and table == "sl_addr":
            self._prefixes.remove(key)

    def seen(self, table: str, key: bytes) -> bytes | None:
        """The payload that programs see at this key now, by itself or by the prefix that covers it."""
        rows = self.tables[table]
        at: bytes | None = key
        if key not in rows:
            at = self._prefixes.covering(key, rows) if table == "sl_addr" else None
        return None if at is None else SLOT_TABLES[table].visible(rows[at], self.generation)


def plan(image: Image, desired: Desired, touched: Mapping[str, Iterable[bytes]]) -> Plan:
    """The writes that bring the touched keys to what is desired in the generation after `image`'s, and
    the deletes that may follow when that is in force and no program reads the one before."""
    writes: dict[str, Rows] = {}
    deletes: dict[str, list[bytes]] = {}
    decides = False
    for table in PLAIN_TABLES:
        have = image.tables[table]
        for key in touched.get(table, ()):
            want = desired.get(table, key)
            if want is None:
                if key in have:
                    deletes.setdefault(table, []).append(key)
            elif have.get(key) != want:
                writes.setdefault(table, {})[key] = want
    flips = False
    for name, slots in SLOT_TABLES.items():
        for key in touched.get(name, ()):
            value = image.tables[name].get(key)
            want = desired.get(name, key)
            if want is None:
                if value is None:
                    continue
                deletes.setdefault(name, []).append(key)
                # Until it is deleted, and for those who read it then, it says what will be said without it.
                want = (desired.covered(key) if name == "sl_addr" else None) or slots.absent
            seen = image.seen(name, key)
            if value is None:
                writes.setdefault(name, {})[key] = slots.inserted(seen, image.generation, want)
            elif (seen or slots.absent) != want or slots.is_ahead(value, image.generation):
                writes.setdefault(name, {})[key] = slots.written(value, image.generation, want)
            else:
                continue
            flips = True
            decides = decides or _decides(name, seen or slots.absent, want)
    return Plan(writes, deletes, flips, decides)


class Reconciler:
    """The one writer of the kernel's tables. Not for two threads at once."""

    def __init__(self, kernel: KernelTables, store: MaglevStore) -> None:
        self._kernel = kernel
        self._store = store
        self._image = Image(0, {table: {} for table in (*SLOT_TABLES, *PLAIN_TABLES)})
        self._is_read = False
        self._is_true = False
        self._deleted = True

    @property
    def generation(self) -> int:
        """The generation in force."""
        return self._image.generation

    def seen(self, table: str, key: bytes) -> bytes | None:
        """The payload that programs see at a key of a two-slot table."""
        return self._image.seen(table, key)

    def adopt(self) -> None:
        """Read all tables and see which Maglev blocks they use. Needed once, before anything else."""
        self._read()
        blocks: dict[bytes, Block] = {}
        for table, kind in _WITH_BLOCKS.items():
            slots = SLOT_TABLES[table]
            for key, value in self._image.tables[table].items():
                seen = slots.visible(value, self._image.generation)
                if seen is not None:
                    slot = kind.unpack(seen)
                    blocks[key] = Block(slot.offset, slot.size)
        self._store.adopt(blocks)

    def _read(self) -> None:
        tables = {table: dict(self._kernel.table(table).items()) for table in (*SLOT_TABLES, *PLAIN_TABLES)}
        self._image = Image(self._kernel.generation, tables)
        self._is_read = True

    def apply(self, desired: Desired, sweep: Callable[[], int]) -> Applied:
        """Bring the kernel to what is desired: write beside what is in force, flip, sweep, delete.

        The first round after a start or a failure looks at every key and always sweeps. Raises what
        the kernel raises; nothing is half in force then, and the next call mends it.
        """
        first = not self._is_true
        if not self._is_read:
            self._read()
        touched = desired.take_touched()
        if first:
            touched = {table: {*rows, *desired.keys(table)} for table, rows in self._image.tables.items()}
        todo = plan(self._image, desired, touched)
        self._is_read = self._is_true = False
        swept = self._carry_out(todo, sweep, first)
        self._is_read = self._is_true = True
        written = sum(map(len, todo.writes.values()))
        return Applied(self.generation, written, sum(map(len, todo.deletes.values())), swept)

    def rest(self) -> None:
        """Do what the next change would have to wait for."""
        if self._deleted and self._is_true:
            self._kernel.quiesce()
            self._deleted = False

    def _carry_out(self, todo: Plan, sweep: Callable[[], int], first: bool) -> int:
        if todo.writes and (self._deleted or first):
            # A program may still hold an entry that was deleted; its memory must not become another's.
            self._kernel.quiesce()
            self._deleted = False
        for table in (*PLAIN_TABLES, *SLOT_TABLES):
            if rows := todo.writes.get(table):
                self._kernel.table(table).update(rows)
                for key, value in rows.items():
                    self._image.put(table, key, value)
        if todo.flips:
            self._kernel.flip(self._image.generation + 1)
            self._image.generation += 1
        if todo.flips or todo.deletes:
            self._kernel.quiesce()
        swept = sweep() if todo.decides or first else 0
        for table in (*SLOT_TABLES, *PLAIN_TABLES):
            if keys := todo.deletes.get(table):
                self._deleted = True
                self._kernel.table(table).delete(keys)
                for key in keys:
                    self._image.remove(table, key)
                    if table in _WITH_BLOCKS:
                        self._store.drop(key)
        if todo.flips or todo.deletes:
            self._store.reclaim()
        return swept


def _decides(table: str, before: bytes, after: bytes) -> bool:
    if table == "sl_pod":
        return _judged_by(before) != _judged_by(after)
    return table in ("sl_addr", "sl_peer")


def _judged_by(payload: bytes) -> tuple[int, int, int]:
    slot = layout.PodSlot.unpack(payload)
    return slot.id, slot.ingress_set, slot.egress_set
