"""Values with two generation-tagged slots, as bytes (semantics rule 8).

A reader of generation g takes the slot with the greatest generation that is not above g. The writer of the
next generation writes the other one, so it changes nothing for readers of g. A *payload* is a slot with
generation 0; the payload of zeros means "absent" in every table.
"""

from __future__ import annotations

from bpf import layout


class SlotTable:
    """The form of one two-slot table's values."""

    def __init__(self, name: str, value: type[layout.TwoSlots]) -> None:
        self.name = name
        self.size = value.SLOT.sizeof()
        self.absent = bytes(self.size)
        self._lock = bytes(value.LOCK)
        generation = value.SLOT.names().index("generation")
        before = [1 if index == generation else 0 for index in range(len(value.SLOT.names()))]
        self._at = value.SLOT.FORMAT.pack(*before).index(1)

    def visible(self, value: bytes, generation: int) -> bytes | None:
        """The payload that a reader of that generation sees; None if no slot is for it."""
        at = self._slot_of(value, generation)
        return None if at is None else self._stamp(value[at : at + self.size], 0)

    def is_ahead(self, value: bytes, generation: int) -> bool:
        """Is some slot of a generation that never came into force?"""
        return any(self._generation(value, at) > generation for at in (0, self.size))

    def written(self, value: bytes, generation: int, payload: bytes) -> bytes:
        """The value with `payload` for `generation` + 1, and for `generation` what it was."""
        kept = self._slot_of(value, generation)
        new = self._stamp(payload, generation + 1)
        if kept is None:
            return self.absent + new + self._lock
        slot = value[kept : kept + self.size]
        return (slot + new if kept == 0 else new + slot) + self._lock

    def inserted(self, seen: bytes | None, generation: int, payload: bytes) -> bytes:
        """A value for a new key: `payload` for `generation` + 1, and until then `seen`, if anything."""
        old = self.absent if seen is None else self._stamp(seen, generation)
        return old + self._stamp(payload, generation + 1) + self._lock

    def _slot_of(self, value: bytes, generation: int) -> int | None:
        first, second = self._generation(value, 0), self._generation(value, self.size)
        candidates = [(g, at) for g, at in ((first, 0), (second, self.size)) if 0 < g <= generation]
        return max(candidates)[1] if candidates else None

    def _generation(self, value: bytes, at: int) -> int:
        return int.from_bytes(value[at + self._at : at + self._at + 4], "little")

    def _stamp(self, slot: bytes, generation: int) -> bytes:
        return slot[: self._at] + generation.to_bytes(4, "little") + slot[self._at + 4 :]


#: Every two-slot table by name.
SLOT_TABLES = {
    table.name: table
    for table in (
        SlotTable("sl_addr", layout.AddrValue),
        SlotTable("sl_peer", layout.PeerValue),
        SlotTable("sl_pod", layout.PodValue),
        SlotTable("sl_service", layout.ServiceValue),
        SlotTable("sl_route", layout.RouteValue),
    )
}

#: Tables whose values are of no generation: their keys are new before, and go after, what refers to them.
PLAIN_TABLES = ("sl_rule", "sl_vip", "sl_netns")
