"""Resources by type, encoded once and kept current, with a digest that costs what changed; and those of them
that every node is sent alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

from mesh.assemble import Mesh
from mesh.change import Change
from mesh.discovery.resource import Resource, Table
from mesh.node import Record
from mesh.resources import TABLE_TYPES, encode
from mesh.shared_records import SharedRecords


class Tables:
    """`digest` stands for all resources: a sum over their digests."""

    def __init__(self, types: Iterable[str]) -> None:
        self.resources = {type_url: Table() for type_url in types}
        self.digest = 0
        self._records: dict[str, Mapping[str, Record]] = {}

    def encode(self, type_url: str, records: Mapping[str, Record]) -> None:
        """The type's resources are these records. Those that are the same objects as before are not encoded
        again."""
        known = self._records.get(type_url, {})
        if records is known:
            return
        self._records[type_url] = records
        changed = {
            name: Resource.of(type_url, name, encode(record))
            for name, record in records.items()
            if known.get(name) is not record
        }
        self.replace(type_url, changed, known.keys() - records.keys())

    def replace(self, type_url: str, changed: Mapping[str, Resource], gone: Collection[str]) -> None:
        """Of the type these resources are new and those are gone. What is equal stays the same object."""
        known = self.resources[type_url]
        news = {
            name: resource
            for name, resource in changed.items()
            if (old := known.get(name)) is None or old.version != resource.version
        }
        if not news and not gone:
            return
        for name in (*news, *gone):
            if name in known:
                self._add(-_weight(type_url, known[name]))
        for resource in news.values():
            self._add(_weight(type_url, resource))
        self.resources[type_url] = known.after(news, gone)

    def _add(self, weight: int) -> None:
        self.digest = (self.digest + weight) % (1 << 128)


class SharedTables:
    """What all nodes of a mesh are sent."""

    TYPES = ("workloads", "blocks", "services", "names")

    def __init__(self, mesh: Mesh) -> None:
        self.records = SharedRecords(mesh)
        self.tables = Tables(TABLE_TYPES[name] for name in self.TYPES)
        self._encode()

    def update(self, change: Change) -> None:
        """Take in how the mesh changed. Every node says so; the first counts."""
        self.records.update(change)
        self._encode()

    def _encode(self) -> None:
        for name in self.TYPES:
            self.tables.encode(TABLE_TYPES[name], getattr(self.records, name))


def _weight(type_url: str, resource: Resource) -> int:
    text = f"{type_url}\0{resource.name}\0{resource.version}"
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")
