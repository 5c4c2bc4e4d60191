"""The protobuf wire format, and the discovery messages in it.

It knows field numbers of envoy.service.discovery.v3 and nothing about what resources mean: an
`Any` is a run of bytes that goes from the snapshot to the stream as it is. Written by hand because
the generated classes cost a thousand times as much as these messages are worth; unknown fields
are skipped, as protobuf demands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: google.rpc.Code.INVALID_ARGUMENT, the code of every NACK we send.
_INVALID_ARGUMENT = 3


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The fields of a message in their order, as (field number, integer, bytes).

    A varint or fixed field has its unsigned integer and b"", a length-delimited one has 0 and its
    bytes. Raises `WireError` on a truncated message, a group or field number 0.
    """
    # Most tags and sizes are single bytes, and a call for each would cost more than all else here.
    at, end = 0, len(message)
    while at < end:
        tag = message[at]
        at += 1
        if tag > 127:
            tag, at = _read_varint(message, at - 1)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise WireError(f"field number 0 at byte {at}")
        if kind == _BYTES:
            if at < end and message[at] < 128:
                size = message[at]
                at += 1
            else:
                size, at = _read_varint(message, at)
            stop = at + size
            if stop > end:
                raise WireError(f"field {number} has {end - at} of {size} bytes")
            yield number, 0, message[at:stop]
            at = stop
        elif kind == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value, b""
        elif kind in (_FIXED64, _FIXED32):
            stop = at + (8 if kind == _FIXED64 else 4)
            if stop > end:
                raise WireError(f"field {number} is cut off")
            yield number, int.from_bytes(message[at:stop], "little"), b""
            at = stop
        else:
            raise WireError(f"field {number} has wire type {kind}")


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    try:
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 128:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at
            shift += 7
            if shift > 63:
                raise WireError(f"varint of more than 10 bytes at byte {at}")
    except IndexError:
        raise WireError("a varint is cut off") from None


def text(data: bytes) -> str:
    """A string field's value; `WireError` if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"a string is not UTF-8: {error}") from None


@lru_cache(maxsize=65536)
def varint(value: int) -> bytes:
    """An unsigned integer of up to 64 bits as a varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer_field(number: int, value: int) -> bytes:
    """A varint field, written even if it is 0."""
    return varint(number << 3 | _VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """A length-delimited field (bytes or a message), written even if it is empty."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def text_field(number: int, value: str) -> bytes:
    """A string field as proto3 writes it: nothing if it is empty."""
    return bytes_field(number, value.encode()) if value else b""


def pack_any(type_url: str, body: bytes) -> bytes:
    """An encoded google.protobuf.Any around an encoded message."""
    return text_field(1, type_url) + (bytes_field(2, body) if body else b"")


def unpack_any(any_: bytes) -> tuple[str, bytes]:
    """(type URL, encoded message) of an encoded google.protobuf.Any."""
    type_url, body = "", b""
    for number, _, data in fields(any_):
        if number == 1:
            type_url = text(data)
        elif number == 2:
            body = data
    return type_url, body


def _node(node_id: str) -> bytes:
    return bytes_field(1, node_id.encode())


def _node_id(node: bytes) -> str:
    for number, _, data in fields(node):
        if number == 1:
            return text(data)
    return ""


def _status(message: str) -> bytes:
    return integer_field(1, _INVALID_ARGUMENT) + text_field(2, message)


def _status_message(status: bytes) -> str:
    return next((text(data) for number, _, data in fields(status) if number == 2), "")


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """A state-of-the-world request. `node_id` is None where the message has no node, `error` is
    None where it has no error_detail (else the NACK's message, perhaps "")."""

    type_url: str = ""
    node_id: str | None = None
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    error: str | None = None

    def encode(self) -> bytes:
        return b"".join(
            (
                text_field(1, self.version),
                b"" if self.node_id is None else bytes_field(2, _node(self.node_id)),
                *(bytes_field(3, name.encode()) for name in self.names),
                text_field(4, self.type_url),
                text_field(5, self.nonce),
                b"" if self.error is None else bytes_field(6, _status(self.error)),
            )
        )

    @classmethod
    def decode(cls, message: bytes) -> DiscoveryRequest:
        type_url = version = nonce = ""
        node_id: str | None = None
        error: str | None = None
        names: list[str] = []
        for number, _, data in fields(message):
            match number:
                case 1:
                    version = text(data)
                case 2:
                    node_id = _node_id(data)
                case 3:
                    names.append(text(data))
                case 4:
                    type_url = text(data)
                case 5:
                    nonce = text(data)
                case 6:
                    error = _status_message(data)
        return cls(type_url, node_id, tuple(names), version, nonce, error)


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A DeltaDiscoveryRequest; `node_id` and `error` as in `DiscoveryRequest`."""

    type_url: str = ""
    node_id: str | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str | None = None

    def encode(self) -> bytes:
        return b"".join(
            (
                b"" if self.node_id is None else bytes_field(1, _node(self.node_id)),
                text_field(2, self.type_url),
                *(bytes_field(3, name.encode()) for name in self.subscribe),
                *(bytes_field(4, name.encode()) for name in self.unsubscribe),
                *(
                    bytes_field(5, text_field(1, name) + text_field(2, version))
                    for name, version in self.initial_versions.items()
                ),
                text_field(6, self.nonce),
                b"" if self.error is None else bytes_field(7, _status(self.error)),
            )
        )

    @classmethod
    def decode(cls, message: bytes) -> DeltaRequest:
        type_url = nonce = ""
        node_id: str | None = None
        error: str | None = None
        subscribe: list[str] = []
        unsubscribe: list[str] = []
        initial: dict[str, str] = {}
        for number, _, data in fields(message):
            match number:
                case 1:
                    node_id = _node_id(data)
                case 2:
                    type_url = text(data)
                case 3:
                    subscribe.append(text(data))
                case 4:
                    unsubscribe.append(text(data))
                case 5:
                    name = version = ""
                    for part, _, value in fields(data):
                        if part == 1:
                            name = text(value)
                        elif part == 2:
                            version = text(value)
                    initial[name] = version
                case 6:
                    nonce = text(data)
                case 7:
                    error = _status_message(data)
        return cls(type_url, node_id, tuple(subscribe), tuple(unsubscribe), initial, nonce, error)


@dataclass(frozen=True, slots=True)
class DiscoveryResponse:
    """A state-of-the-world response; `resources` are encoded Anys."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        return b"".join(
            (
                text_field(1, self.version),
                *(bytes_field(2, any_) for any_ in self.resources),
                text_field(4, self.type_url),
                text_field(5, self.nonce),
            )
        )

    @classmethod
    def decode(cls, message: bytes) -> DiscoveryResponse:
        type_url = version = nonce = ""
        resources: list[bytes] = []
        for number, _, data in fields(message):
            match number:
                case 1:
                    version = text(data)
                case 2:
                    resources.append(data)
                case 4:
                    type_url = text(data)
                case 5:
                    nonce = text(data)
        return cls(type_url, version, nonce, tuple(resources))


@dataclass(frozen=True, slots=True)
class DeltaResponse:
    """A DeltaDiscoveryResponse; `resources` are (name, version, encoded Any)."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[tuple[str, str, bytes], ...] = ()
    removed: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return b"".join(
            (
                text_field(1, self.version),
                *_delta_resources(self.resources),
                text_field(4, self.type_url),
                text_field(5, self.nonce),
                *(bytes_field(6, name.encode()) for name in self.removed),
            )
        )

    @classmethod
    def decode(cls, message: bytes) -> DeltaResponse:
        type_url = version = nonce = ""
        resources: list[tuple[str, str, bytes]] = []
        removed: list[str] = []
        for number, _, data in fields(message):
            match number:
                case 1:
                    version = text(data)
                case 2:
                    resources.append(_delta_resource(data))
                case 4:
                    type_url = text(data)
                case 5:
                    nonce = text(data)
                case 6:
                    removed.append(text(data))
        return cls(type_url, version, nonce, tuple(resources), tuple(removed))


def answered(response: bytes, nonce: str) -> bytes:
    """An encoded response of either kind, which had no nonce, with this one."""
    return response + text_field(5, nonce)


def _delta_resources(resources: Iterable[tuple[str, str, bytes]]) -> Iterator[bytes]:
    # A thousand streams are sent the same thousand resources: nothing is copied that can be joined.
    tag = varint(2 << 3 | _BYTES)
    for name, version, any_ in resources:
        before, after = _delta_names(name, version)
        size = varint(len(any_))
        yield tag
        yield varint(len(before) + len(tag) + len(size) + len(any_) + len(after))
        yield before
        yield tag
        yield size
        yield any_
        yield after


@lru_cache(maxsize=65536)
def _delta_names(name: str, version: str) -> tuple[bytes, bytes]:
    return text_field(1, version), text_field(3, name)


def _delta_resource(message: bytes) -> tuple[str, str, bytes]:
    name, version, any_ = "", "", b""
    for number, _, data in fields(message):
        match number:
            case 1:
                version = text(data)
            case 2:
                any_ = data
            case 3:
                name = text(data)
    return name, version, any_
