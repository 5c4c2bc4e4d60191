"""A resource as the protocol sees it: a name, a version made of content, and bytes.

It knows nothing of what the bytes mean. Resources are encoded once and shared by every stream;
equal content has an equal version in every process, so rebuilding an unchanged mesh sends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress
from operator import is_not
from types import MappingProxyType
from weakref import ref

from mesh.discovery.wire import pack_any


@dataclass(frozen=True, slots=True)
class Resource:
    """`any` is an encoded google.protobuf.Any, `version` 16 hex digits of its content's hash."""

    name: str
    version: str
    any: bytes = field(repr=False)  # in Secrets there is a key

    @staticmethod
    def of(type_url: str, name: str, body: bytes) -> Resource:
        """The resource around an encoded message of type `type_url`."""
        return Resource.packed(name, pack_any(type_url, body))

    @staticmethod
    def packed(name: str, any_: bytes) -> Resource:
        """The resource around an Any that is encoded already."""
        return Resource(name, content_version((any_,)), any_)


class Table(dict[str, Resource]):
    """Resources by name that remember in which `changed` names they differ from the table `before`: of
    thousands a change touches a few, and every stream asks which."""

    __slots__ = ("__weakref__", "before", "changed")

    def __init__(self, resources: Mapping[str, Resource] = MappingProxyType({})) -> None:
        super().__init__(resources)
        self.before: ref[Table] | None = None
        self.changed: tuple[str, ...] = ()

    def after(self, news: Mapping[str, Resource], gone: Collection[str] = ()) -> Table:
        """The table that follows on this one, with `news` and without `gone`."""
        table = Table(self)
        table.update(news)
        for name in gone:
            del table[name]
        table.before, table.changed = ref(self), (*news, *gone)
        return table


def differing(old: Mapping[str, Resource], new: Mapping[str, Resource]) -> Iterable[str]:
    """The names under which there is another object now, or none any more."""
    if isinstance(new, Table) and new.before is not None and new.before() is old:
        return new.changed
    # At C's pace, for there may be thousands.
    return (*compress(new, map(is_not, map(old.get, new), new.values())), *(old.keys() - new.keys()))


#: Type URL -> name -> resource. A type that is absent has no resources. Mappings are never changed
#: in place: a type whose mapping is the same object as before is taken to be unchanged.
Snapshot = Mapping[str, Mapping[str, Resource]]


def content_version(parts: tuple[bytes, ...]) -> str:
    """16 hex digits for a sequence of byte strings."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
