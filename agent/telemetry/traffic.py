"""The kernel's counts of TCP connections that no Envoy carries: what came to them since the last look.

Rows are the kernel's (`sl_traffic`): one for each pair of addresses, service and port. Those that rest are
taken out, so the table has room for those that do not. Knows the table and no metric; `conversation` gives a
row its names, which are those of the moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from agent.names import Names
from agent.telemetry.conversation import Conversation, party
from agent.telemetry.services import behind, dialled
from bpf.layout import TrafficKey, TrafficValue, address_text

_NOTHING = TrafficValue()


class Table(Protocol):
    """What this file needs of a kernel table."""

    def items(self) -> Iterator[tuple[bytes, bytes]]: ...
    def take(self, key: bytes) -> bytes | None: ...


class Traffic:
    """What was read of the table, and what is new."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._last: dict[bytes, bytes] = {}

    def read(self) -> list[tuple[TrafficKey, TrafficValue]]:
        """What was counted since the last call. Raises KernelError."""
        last, seen = self._last, dict[bytes, bytes]()
        grown: list[tuple[TrafficKey, TrafficValue]] = []
        for key, found in self._table.items():
            before = last.get(key)
            value: bytes | None = found
            if found == before and _rests(found):
                value = self._table.take(key) or found
            else:
                seen[key] = found
            if value != before:
                grown.append((TrafficKey.unpack(key), _more(value, before)))
        # Not before all was read: what an error kept from being told is told the next time.
        self._last = seen
        return grown


def conversation(names: Names, row: TrafficKey) -> Conversation:
    """What a row counts, as its pod reports it."""
    own, peer = party(names.workload(row.pod)), party(names.workload(row.peer))
    if row.opener:
        service = dialled(names, row.vip, address_text(row.peer), row.port)
        return Conversation("source", own, peer, service, "tcp")
    return Conversation("destination", peer, own, behind(names, address_text(row.pod), row.port), "tcp")


def _rests(packed: bytes) -> bool:
    value = TrafficValue.unpack(packed)
    return value.opened == value.closed


def _more(packed: bytes | None, before: bytes | None) -> TrafficValue:
    new = TrafficValue.unpack(packed) if packed else _NOTHING
    old = TrafficValue.unpack(before) if before else _NOTHING
    return TrafficValue(
        new.opened - old.opened, new.closed - old.closed, new.sent - old.sent, new.received - old.received
    )
