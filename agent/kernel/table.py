"""One pinned map as keys and values of bytes, in batches. It must not know what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from agent.kernel import libbpf

_F_LOCK = 4
_CHUNK = 16384


class Table:
    """A BPF map. `locked`: its values end in a spin lock, so that updates happen in place."""

    def __init__(self, name: str, fd: int, *, locked: bool) -> None:
        info = libbpf.info(fd, libbpf.MapInfo)
        self.name = name
        self.fd = fd
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self._flags = _F_LOCK if locked else 0

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry. Entries written meanwhile may be missed or seen."""
        k, v = self.key_size, self.value_size
        chunk = min(_CHUNK, max(self.max_entries, 64))
        for keys, values, count in libbpf.lookup_batches(self.fd, k, v, chunk):
            for i in range(count):
                yield keys[i * k : (i + 1) * k], values[i * v : (i + 1) * v]

    def lookup(self, key: bytes) -> bytes | None:
        return libbpf.lookup(self.fd, key, self.value_size)

    def update(self, entries: Mapping[bytes, bytes]) -> None:
        """Writes all, or raises KernelError having written some. Existing two-slot values are
        changed in place: no program sees an entry missing or another key's."""
        for part in _chunks(entries.items()):
            keys, values = b"".join(k for k, _ in part), b"".join(v for _, v in part)
            if (len(keys), len(values)) != (self.key_size * len(part), self.value_size * len(part)):
                raise ValueError(f"{self.name} has {self.key_size} bytes of key, {self.value_size} of value")
            libbpf.update_batch(self.fd, keys, values, len(part), self._flags)

    def take(self, key: bytes) -> bytes | None:
        """The last value of an entry, which is deleted: nothing that was counted meanwhile is lost."""
        return libbpf.take(self.fd, key, self.value_size)

    def delete(self, keys: Iterable[bytes]) -> None:
        """Absent keys are skipped."""
        for part in _chunks(keys):
            while part:
                done = libbpf.delete_batch(self.fd, b"".join(part), len(part))
                part = part[done + 1 :]


_T = TypeVar("_T")


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(items)
    while part := list(islice(rest, _CHUNK)):
        yield part
