"""Messages to bytes and back. Deterministic: who builds a map gives it sorted keys, for it is encoded in
the order of insertion.
"""

from __future__ import annotations

from typing import Any, cast

import betterproto2
from envoy_data_plane.google.protobuf import Any as AnyMessage

# Building a message validates it; betterproto2 does so once more on encoding, with a validator made anew for
# every message, which is most of the time that encoding takes.
betterproto2.Message._is_pydantic = lambda self: False  # type: ignore[method-assign]


def typed(message: betterproto2.Message) -> AnyMessage:
    """A message as an extension's `typed_config`."""
    return AnyMessage.pack(message)


def encode(message: betterproto2.Message) -> bytes:
    """A resource as an encoded google.protobuf.Any."""
    return bytes(AnyMessage.pack(message))


def decode(resource: bytes) -> dict[str, Any]:
    """An encoded Any as plain data with Envoy's own field names; nested Anys likewise."""
    casing = cast(betterproto2.Casing, _as_it_is)  # Casing.SNAKE takes some names of Envoy's apart
    return AnyMessage.parse(resource).to_dict(casing=casing)


def _as_it_is(name: str) -> str:
    return name
