"""Messages to bytes and back. Deterministic: who builds a map gives it sorted keys, for it is encoded in
the order of insertion.

Two parts of betterproto2 are replaced, because they repeat for every message what can be done once: building
a message validates it, and encoding does so again with a validator made anew (most of the time that encoding
takes); and turning a message into plain data compiles the annotations of its class.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import betterproto2
from envoy_data_plane.google.protobuf import Any as AnyMessage

_compile_hints = betterproto2.Message._type_hints.__func__  # type: ignore[attr-defined]


@cache
def _hints(cls: type[betterproto2.Message]) -> dict[str, type]:
    return cast(dict[str, type], _compile_hints(cls))


betterproto2.Message._is_pydantic = lambda self: False  # type: ignore[method-assign]
betterproto2.Message._type_hints = classmethod(_hints)  # type: ignore[method-assign,assignment,arg-type]


def typed(message: betterproto2.Message) -> AnyMessage:
    """A message as an extension's `typed_config`."""
    return AnyMessage.pack(message)


def encode(message: betterproto2.Message) -> bytes:
    """A resource as an encoded google.protobuf.Any."""
    return bytes(AnyMessage.pack(message))


def joined(first: bytes, message: betterproto2.Message) -> bytes:
    """A resource like `encode(message)`, before whose repeated fields stand those of `first`, which are the
    bytes of messages of its type: encodings one after the other are the encoding of the merged message
    (protobuf.dev, Encoding)."""
    whole = AnyMessage.pack(message)
    whole.value = first + whole.value
    return bytes(whole)


def anatomy(kind: type[betterproto2.Message]) -> Any:
    """What betterproto2 knows of the fields of a message: by name, by group, and what is in them."""
    return cast(Any, kind)._betterproto


def decode(resource: bytes) -> dict[str, Any]:
    """An encoded Any as plain data with Envoy's own field names; nested Anys likewise."""
    casing = cast(betterproto2.Casing, _as_it_is)  # Casing.SNAKE takes some names of Envoy's apart
    return AnyMessage.parse(resource).to_dict(casing=casing)


def _as_it_is(name: str) -> str:
    return name
