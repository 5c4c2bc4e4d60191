"""A resource as the protocol sees it: a name, a version made of content, and bytes.

It knows nothing of what the bytes mean. Resources are encoded once and shared by every stream;
equal content has an equal version in every process, so rebuilding an unchanged mesh sends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mesh.discovery.wire import pack_any


@dataclass(frozen=True, slots=True)
class Resource:
    """`any` is an encoded google.protobuf.Any, `version` 16 hex digits of its content's hash."""

    name: str
    version: str
    any: bytes

    @staticmethod
    def of(type_url: str, name: str, body: bytes) -> Resource:
        """The resource around an encoded message of type `type_url`."""
        return Resource.packed(name, pack_any(type_url, body))

    @staticmethod
    def packed(name: str, any_: bytes) -> Resource:
        """The resource around an Any that is encoded already."""
        return Resource(name, content_version((any_,)), any_)


#: Type URL -> name -> resource. A type that is absent has no resources. Mappings are never changed
#: in place: a type whose mapping is the same object as before is taken to be unchanged.
Snapshot = Mapping[str, Mapping[str, Resource]]


def content_version(parts: tuple[bytes, ...]) -> str:
    """16 hex digits for a sequence of byte strings."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
