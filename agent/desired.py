"""What the kernel's tables are to hold, and who wants it so.

Every record, and the node itself, owns entries. Where two owners claim one key (an address that changes
hands) the first by name has it, and the other gets it when that one lets go. Whatever changed since the
last look is noted, so that the reconciler's work is the size of the change. Knows nothing of generations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from agent.entries import Entries
from agent.slots import PLAIN_TABLES, SLOT_TABLES

#: Who claims entries: type URL and record name, or such as ("node", "").
Owner = tuple[str, str]


class Prefixes:
    """Which prefix lengths occur among the keys of sl_addr, to find what covers an address."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._lengths = Counter(_length(key) for key in keys)

    def add(self, key: bytes) -> None:
        self._lengths[_length(key)] += 1

    def remove(self, key: bytes) -> None:
        self._lengths[_length(key)] -= 1

    def covering(self, key: bytes, present: Mapping[bytes, object]) -> bytes | None:
        """The longest shorter prefix of `key` that is among `present`."""
        length = _length(key)
        address = int.from_bytes(key[4:], "big")
        lengths = (n for n, count in self._lengths.items() if count > 0 and n < length)
        for shorter in sorted(lengths, reverse=True):
            masked = address >> (128 - shorter) << (128 - shorter)
            candidate = shorter.to_bytes(4, "little") + masked.to_bytes(16, "big")
            if candidate in present:
                return candidate
        return None


class Desired:
    """Table -> key -> payload, kept up to date owner by owner."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[bytes, tuple[Owner, bytes]]] = {
            table: {} for table in (*SLOT_TABLES, *PLAIN_TABLES)
        }
        self._rivals: dict[tuple[str, bytes], dict[Owner, bytes]] = {}
        self._owned: dict[Owner, Entries] = {}
        self._prefixes = Prefixes()
        self._touched: dict[str, set[bytes]] = {}

    def replace(self, owner: Owner, entries: Entries) -> None:
        """From now on the owner claims these entries and no others."""
        old = self._owned.pop(owner, ())
        if entries:
            self._owned[owner] = entries
        kept = {(table, key) for table, key, _ in entries}
        for table, key, _ in old:
            if (table, key) not in kept:
                self._release(owner, table, key)
        for table, key, payload in entries:
            self._claim(owner, table, key, payload)

    def get(self, table: str, key: bytes) -> bytes | None:
        """The payload of a key, None if nobody claims it."""
        claim = self._claims[table].get(key)
        return None if claim is None else claim[1]

    def covered(self, key: bytes) -> bytes | None:
        """What the next shorter claimed prefix says of an address block, None without one."""
        claims = self._claims["sl_addr"]
        covering = self._prefixes.covering(key, claims)
        return None if covering is None else claims[covering][1]

    def keys(self, table: str) -> Iterable[bytes]:
        return self._claims[table].keys()

    def touched(self) -> bool:
        """Has anything changed since `take_touched`?"""
        return any(self._touched.values())

    def take_touched(self) -> dict[str, set[bytes]]:
        """Table -> keys that changed since the last call."""
        touched, self._touched = self._touched, {}
        return touched

    def _claim(self, owner: Owner, table: str, key: bytes, payload: bytes) -> None:
        claims = self._claims[table]
        held = claims.get(key)
        if held == (owner, payload):
            return
        if held is None and table == "sl_addr":
            self._prefixes.add(key)
        rivals = self._rivals.get((table, key))
        if rivals is None and held is not None and held[0] != owner:
            rivals = self._rivals[(table, key)] = dict([held])
        if rivals is None:
            claims[key] = (owner, payload)
        else:
            rivals[owner] = payload
            claims[key] = min(rivals.items())
        self._touched.setdefault(table, set()).add(key)

    def _release(self, owner: Owner, table: str, key: bytes) -> None:
        rivals = self._rivals.get((table, key))
        if rivals is None:
            del self._claims[table][key]
            if table == "sl_addr":
                self._prefixes.remove(key)
        else:
            del rivals[owner]
            self._claims[table][key] = min(rivals.items())
            if len(rivals) == 1:
                del self._rivals[(table, key)]
        self._touched.setdefault(table, set()).add(key)


def _length(key: bytes) -> int:
    return int.from_bytes(key[:4], "little")
