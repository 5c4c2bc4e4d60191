"""The Python mirror of `layout.h`: one class per struct, constants, and addresses as 16 bytes.

It knows formats and nothing else: no bpf(2), no policy. A test holds every class against the
object's BTF. Ports are host order here and become network order in `pack`; the trailing spin
lock of two-slot values is written as zero and never read.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import struct
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

_HEADERS = ("layout.h", "maps.h")


def _hash_of_layout() -> str:
    digest = hashlib.sha256()
    for name in _HEADERS:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:16]


#: Names the directory of pins: programs and maps of another hash cannot be adopted.
LAYOUT_HASH = _hash_of_layout()

#: The LPM prefix length of one whole address.
ADDRESS_BITS = 128

NO_ADDRESS = bytes(16)
_MAPPED = bytes(10) + b"\xff\xff"

HOST_ID = 1
WORLD_ID = 2

#: Where egress and routing listeners listen (127.a.b.c and fd51:ce:1::a:bc), and ingress ones.
EGRESS_PORT = 15001
INGRESS_PORT = 15006
#: The routing listener's number.
ROUTING_LISTENER = 1


def packed_address(text: str) -> bytes:
    """16 bytes of an IPv4 (as ::ffff:a.b.c.d) or IPv6 address. Raises ValueError."""
    address = ipaddress.ip_address(text)
    return _MAPPED + address.packed if address.version == 4 else address.packed


def address_text(packed: bytes) -> str:
    """The usual text of 16 bytes; IPv4 without its ::ffff: prefix, "" for no address."""
    if packed == NO_ADDRESS:
        return ""
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


class Verdict(IntEnum):
    DENY = 0
    ALLOW = 1
    STEER = 2
    LOOK_BELOW = 3


class RuleTree(IntEnum):
    """Intervals of a page, and pages from a root to a leaf."""

    PAGE = 16
    DEPTH = 6


class Audit(IntEnum):
    """What the verdict would be if policies in audit mode counted: 1 + Verdict."""

    SAME = 0
    DENY = 1
    ALLOW = 2
    STEER = 3


class Config(IntEnum):
    """Words of sl_config."""

    GENERATION = 0
    PROXY_CGROUP = 1
    PROXY_LEVEL = 2
    HOST_REACHES = 3
    EVENTS = 4
    TRAFFIC = 5
    CLOSES = 6
    WORDS = 8


class PodFlags(IntFlag):
    PROXY = 1
    ROUTES = 2


class ServiceFlags(IntFlag):
    PRESENT = 1
    ROUTED = 2


class RouteAction(IntEnum):
    NONE = 0
    STEER = 1
    BALANCE = 2


class RouteFlags(IntFlag):
    BY_CLIENT = 1


class FlowFlags(IntFlag):
    FROM_B = 1
    BY_PROXY = 2
    REPLIED = 4
    FIN_A = 8
    FIN_B = 16
    CLOSED = 32
    MIDWAY = 64
    TO_PROXY = 128


class EventType(IntEnum):
    CONNECT = 1
    FLOW = 2
    DROP = 3
    END = 4
    CLOSE = 5


class DropReason(IntEnum):
    NONE = 0
    POLICY_EGRESS = 1
    POLICY_INGRESS = 2
    SPOOFED_SOURCE = 3
    UNKNOWN_POD = 4
    NO_BACKEND = 5
    UNTRANSLATED = 6
    NOT_PROXY = 7
    PROXY_ADDRESS = 8
    BOUND_DEVICE = 9
    NO_LISTENER = 10
    UNPARSABLE = 11
    FRAGMENT = 12
    UNRELATED_ICMP = 13
    NO_FLOW = 14
    NEEDS_PROXY = 15
    REGISTRY_ONLY = 16


class EventFlags(IntFlag):
    BY_PROXY = 1
    REDIRECTED = 2
    EGRESS = 4


class Counter(IntEnum):
    """Indices of sl_counter; `DROPPED + reason` counts drops, `AUDITED + verdict` events whose verdict
    it would be if policies in audit mode counted."""

    EVENTS_LOST = 0
    FLOWS_LOST = 1
    DROPPED = 2
    AUDITED = 19
    TRAFFIC_LOST = 22
    COUNTERS = 23


@dataclass(frozen=True, slots=True)
class Struct:
    """A C struct. FORMAT has one item per field; padding is `x`, ports are in PORTS."""

    FORMAT: ClassVar[struct.Struct]
    PORTS: ClassVar[tuple[str, ...]] = ()

    def pack(self) -> bytes:
        values = [getattr(self, name) for name in self.names()]
        for index in self._swapped():
            values[index] = socket.htons(values[index])
        return self.FORMAT.pack(*values)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises struct.error when `data` has another size than the struct."""
        values: list[Any] = list(cls.FORMAT.unpack(data))
        for index in cls._swapped():
            values[index] = socket.ntohs(values[index])
        return cls(*values)

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))

    @classmethod
    @cache
    def _swapped(cls) -> tuple[int, ...]:
        return tuple(cls.names().index(name) for name in cls.PORTS)

    @classmethod
    def sizeof(cls) -> int:
        """Bytes."""
        return cls.FORMAT.size


@dataclass(frozen=True, slots=True)
class AddrKey(Struct):
    FORMAT = struct.Struct("=I16s")
    prefixlen: int
    addr: bytes

    @classmethod
    def of(cls, cidr: str) -> AddrKey:
        """The key of a block or of one address, such as 10.0.0.0/8. Raises ValueError."""
        network = ipaddress.ip_network(cidr)
        bits = network.prefixlen + (96 if network.version == 4 else 0)
        return cls(bits, packed_address(str(network.network_address)))


@dataclass(frozen=True, slots=True)
class AddrSlot(Struct):
    FORMAT = struct.Struct("=IIQ")
    generation: int = 0
    id: int = 0
    cidrs: int = 0


@dataclass(frozen=True, slots=True)
class NetnsKey(Struct):
    FORMAT = struct.Struct("=Q")
    cookie: int


@dataclass(frozen=True, slots=True)
class NetnsValue(Struct):
    FORMAT = struct.Struct("=16s16s")
    ip4: bytes = NO_ADDRESS
    ip6: bytes = NO_ADDRESS


@dataclass(frozen=True, slots=True)
class PodKey(Struct):
    FORMAT = struct.Struct("=16s")
    addr: bytes


@dataclass(frozen=True, slots=True)
class PodSlot(Struct):
    FORMAT = struct.Struct("=IIQQQII")
    generation: int = 0
    id: int = 0
    ingress_set: int = 0
    egress_set: int = 0
    view: int = 0
    ifindex: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ServiceKey(Struct):
    FORMAT = struct.Struct("=16sHBx")
    PORTS = ("port",)
    vip: bytes
    port: int
    protocol: int


@dataclass(frozen=True, slots=True)
class ServiceSlot(Struct):
    FORMAT = struct.Struct("=IIIIII")
    generation: int = 0
    size: int = 0
    offset: int = 0
    affinity: int = 0
    flags: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Backend(Struct):
    FORMAT = struct.Struct("=16sHxxI")
    PORTS = ("port",)
    addr: bytes
    port: int
    pad2: int = 0


@dataclass(frozen=True, slots=True)
class VipKey(Struct):
    FORMAT = struct.Struct("=16s")
    addr: bytes


@dataclass(frozen=True, slots=True)
class VipValue(Struct):
    FORMAT = struct.Struct("=I")
    present: int = 1


@dataclass(frozen=True, slots=True)
class RouteKey(Struct):
    """`view` 0 binds every caller."""

    FORMAT = struct.Struct("=Q16sHBxI")
    PORTS = ("port",)
    view: int
    vip: bytes
    port: int
    protocol: int
    pad: int = 0


@dataclass(frozen=True, slots=True)
class RouteSlot(Struct):
    FORMAT = struct.Struct("=IIIII")
    generation: int = 0
    action: int = 0
    size: int = 0
    offset: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class PeerKey(Struct):
    """`cidrs` and `id` 0: the set's default class."""

    FORMAT = struct.Struct("=QQIxxxx")
    set: int
    cidrs: int
    id: int


@dataclass(frozen=True, slots=True)
class PeerSlot(Struct):
    FORMAT = struct.Struct("=QIxxxx")
    class_id: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class RuleKey(Struct):
    FORMAT = struct.Struct("=QIxxxx")
    class_id: int
    page: int = 0


@dataclass(frozen=True, slots=True)
class RuleValue(Struct):
    FORMAT = struct.Struct("=BBxxIII")
    verdict: int
    audit: int = 0
    listener: int = 0
    cookie: int = 0
    audit_cookie: int = 0


@dataclass(frozen=True, slots=True)
class RulePage:
    """At most RuleTree.PAGE intervals, sorted: (first place, what it says). A place is
    protocol << 16 | port."""

    intervals: tuple[tuple[int, RuleValue], ...]

    UNUSED: ClassVar[int] = 0xFFFF_FFFF
    _STARTS: ClassVar[struct.Struct] = struct.Struct(f"={RuleTree.PAGE}I")

    def pack(self) -> bytes:
        unused = RuleTree.PAGE - len(self.intervals)
        starts = (*(start for start, _ in self.intervals), *(self.UNUSED,) * unused)
        rules = b"".join(rule.pack() for _, rule in self.intervals)
        return self._STARTS.pack(*starts) + rules + bytes(unused * RuleValue.sizeof())

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises struct.error when `data` has another size than the struct."""
        size, begin = RuleValue.sizeof(), cls._STARTS.size
        starts = cls._STARTS.unpack(data[:begin])
        rules = [
            RuleValue.unpack(data[begin + i * size : begin + (i + 1) * size]) for i in range(RuleTree.PAGE)
        ]
        return cls(tuple(p for p in zip(starts, rules, strict=True) if p[0] != cls.UNUSED))

    @classmethod
    def sizeof(cls) -> int:
        """Bytes."""
        return cls._STARTS.size + RuleTree.PAGE * RuleValue.sizeof()


@dataclass(frozen=True, slots=True)
class ListenerKey(Struct):
    FORMAT = struct.Struct("=16sII")
    pod: bytes
    listener: int
    family: int


@dataclass(frozen=True, slots=True)
class FlowKey(Struct):
    FORMAT = struct.Struct("=16s16sHHBxxx")
    PORTS = ("a_port", "b_port")
    a: bytes
    b: bytes
    a_port: int
    b_port: int
    protocol: int

    @classmethod
    def of(cls, src: bytes, src_port: int, dst: bytes, dst_port: int, protocol: int) -> FlowKey:
        """The canonical key of both directions: the lesser address (then port) comes first."""
        if (src, src_port) <= (dst, dst_port):
            return cls(src, dst, src_port, dst_port, protocol)
        return cls(dst, src, dst_port, src_port, protocol)


@dataclass(frozen=True, slots=True)
class FlowValue(Struct):
    FORMAT = struct.Struct("=QIIIIIxxxx")
    seen_ns: int = 0
    generation: int = 0
    flags: int = 0
    listener: int = 0
    ifindex_a: int = 0
    ifindex_b: int = 0


@dataclass(frozen=True, slots=True)
class TrafficKey(Struct):
    """One end of TCP connections; addresses are packed."""

    FORMAT = struct.Struct("=16s16s16sHBx")
    PORTS = ("port",)
    pod: bytes
    peer: bytes
    vip: bytes
    port: int
    opener: int


@dataclass(frozen=True, slots=True)
class TrafficValue(Struct):
    FORMAT = struct.Struct("=QQQQ")
    opened: int = 0
    closed: int = 0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Event(Struct):
    """One record of sl_event; `src`, `dst` and `vip` are packed addresses."""

    FORMAT = struct.Struct("=Q16s16s16sIIIIIHHHBBBBBBQQ")
    PORTS = ("src_port", "dst_port", "vip_port")
    time_ns: int
    src: bytes
    dst: bytes
    vip: bytes
    src_id: int
    dst_id: int
    cookie: int
    audit_cookie: int
    generation: int
    src_port: int
    dst_port: int
    vip_port: int
    protocol: int
    type: int
    verdict: int
    reason: int
    flags: int
    audit: int = 0
    sent: int = 0
    received: int = 0

    @staticmethod
    def is_close(packed: bytes) -> bool:
        """Whether a packed one says that an end of a connection was closed, which is no flow."""
        return packed[83] == EventType.CLOSE


@dataclass(frozen=True, slots=True)
class Bulk(Struct):
    """A question to the program bulk_verdict, and its answer."""

    FORMAT = struct.Struct("=QQIHBxBBxxIII")
    PORTS = ("port",)
    set: int
    cidrs: int
    id: int
    port: int
    protocol: int
    verdict: int = 0
    audit: int = 0
    listener: int = 0
    cookie: int = 0
    audit_cookie: int = 0


@dataclass(frozen=True, slots=True)
class TwoSlots:
    """The two generation-tagged slots of an entry, in any order, as packed structs."""

    slots: tuple[Any, Any]

    SLOT: ClassVar[type[Struct]]
    LOCK: ClassVar[int]

    def pack(self) -> bytes:
        first, second = self.slots
        return b"".join((first.pack(), second.pack(), bytes(self.LOCK)))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        size = cls.SLOT.sizeof()
        return cls((cls.SLOT.unpack(data[:size]), cls.SLOT.unpack(data[size : 2 * size])))

    @classmethod
    def sizeof(cls) -> int:
        """Bytes."""
        return 2 * cls.SLOT.sizeof() + cls.LOCK

    @classmethod
    def of(cls, current: Any) -> Self:
        """An entry with one slot written."""
        return cls((current, cls.SLOT()))


@dataclass(frozen=True, slots=True)
class AddrValue(TwoSlots):
    SLOT = AddrSlot
    LOCK = 0


@dataclass(frozen=True, slots=True)
class PodValue(TwoSlots):
    SLOT = PodSlot
    LOCK = 8


@dataclass(frozen=True, slots=True)
class ServiceValue(TwoSlots):
    SLOT = ServiceSlot
    LOCK = 4


@dataclass(frozen=True, slots=True)
class RouteValue(TwoSlots):
    SLOT = RouteSlot
    LOCK = 4


@dataclass(frozen=True, slots=True)
class PeerValue(TwoSlots):
    SLOT = PeerSlot
    LOCK = 8
