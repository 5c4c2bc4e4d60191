"""Where fields stand in the structs of the running kernel, from its BTF (Linux,
Documentation/bpf/btf.rst). Reads the few structs that it is asked for. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sluice.failure import Failure

#: What the running kernel says of itself.
VMLINUX = "/sys/kernel/btf/vmlinux"

_MAGIC = 0xEB9F
_ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF = 3, 4, 5, 6, 8
_MODIFIERS = frozenset({_TYPEDEF, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag
#: Bytes behind a type: by kind, and by kind for each of its `vlen` elements.
_FIXED = {1: 4, _ARRAY: 12, 14: 4, 17: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, 13: 8, 15: 12, 19: 12}

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_VALUE = struct.Struct("=Ii")


class BtfError(Failure):
    """The bytes are no BTF, or what is asked for is not there."""


class Btf:
    """The types of one BTF blob, in the byte order of this machine."""

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER.size:
            raise BtfError("the kernel's BTF is cut off")
        magic, _, _, length, type_offset, type_length, string_offset, _ = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise BtfError("the kernel's BTF does not begin as one")
        self._data = data
        self._strings = length + string_offset
        self._places = [0]
        self._named: dict[tuple[int, str], int] = {}
        at, end = length + type_offset, length + type_offset + type_length
        while at < end:
            name, info, _ = _TYPE.unpack_from(data, at)
            kind = info >> 24 & 0x1F
            if name and kind in (_STRUCT, _ENUM):
                self._named.setdefault((kind, self._text(name)), len(self._places))
            self._places.append(at)
            at += _TYPE.size + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * (info & 0xFFFF)

    def offset(self, path: str) -> int:
        """Bytes from the start of a struct to a field, such as `sock.__sk_common.skc_net.net`; anonymous
        structs and unions on the way are looked into. Raises BtfError."""
        name, *fields = path.split(".")
        number, bits = self._number(_STRUCT, name), 0
        for field in fields:
            found = next(self._find(number, field), None)
            if found is None:
                raise BtfError(f"struct {name} of this kernel has no field {'.'.join(fields)}")
            bits, number = bits + found[0], found[1]
        return bits // 8

    def enumeration(self, name: str) -> dict[int, str]:
        """The values of an enum of the kernel and their names. Raises BtfError."""
        at = self._places[self._number(_ENUM, name)]
        _, info, _ = _TYPE.unpack_from(self._data, at)
        start = at + _TYPE.size
        values = _VALUE.iter_unpack(self._data[start : start + _VALUE.size * (info & 0xFFFF)])
        return {value: self._text(text) for text, value in values}

    def _number(self, kind: int, name: str) -> int:
        if (kind, name) not in self._named:
            raise BtfError(f"this kernel has no {'struct' if kind == _STRUCT else 'enum'} {name}")
        return self._named[kind, name]

    def _find(self, number: int, wanted: str) -> Iterator[tuple[int, int]]:
        """Bit offset and type of a member."""
        at, kind, info = self._resolve(number)
        if kind not in (_STRUCT, _UNION):
            return
        for index in range(info & 0xFFFF):
            name, type_, offset = _TYPE.unpack_from(self._data, at + _TYPE.size * (index + 1))
            bits = offset & 0xFFFFFF if info >> 31 else offset
            if name:
                if self._text(name) == wanted:
                    yield bits, type_
            else:
                for inner, found in self._find(type_, wanted):
                    yield bits + inner, found

    def _resolve(self, number: int) -> tuple[int, int, int]:
        """Place, kind and info of a type behind its typedefs and qualifiers."""
        while True:
            at = self._places[number]
            _, info, number = _TYPE.unpack_from(self._data, at)
            kind = info >> 24 & 0x1F
            if kind not in _MODIFIERS:
                return at, kind, info

    def _text(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode()
