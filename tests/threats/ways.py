"""Every way in which a process in a pod can send something to another pod.

A way sends once and swallows its errors: whether anything arrives is for the test to see. Sockets are made
in the pod's cgroup, where the socket hooks see them, or outside, as if they had been passed in.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.kernel.namespace import run_in_netns
from tests.kernel.host import ICMP, ICMP6, TCP, UDP, Host, Pod
from tests.kernel.wire import frame, internet_sum, outsider, packet_socket

IGMP, IPIP, IPV6, GRE, ESP, AH, VRRP, SCTP, UDPLITE, UNNAMED = 2, 4, 41, 47, 50, 51, 112, 132, 136, 253
MPTCP = 262
MSG_FASTOPEN = 0x20000000
PORT = 8080

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Attempt:
    """`seen`: by the socket hooks."""

    sender: Pod
    receiver: Host
    family: int
    seen: bool

    @property
    def target(self) -> str:
        return self.receiver.ip4 if self.family == socket.AF_INET else self.receiver.ip6

    @property
    def source(self) -> str:
        return self.sender.ip4 if self.family == socket.AF_INET else self.sender.ip6

    @contextlib.contextmanager
    def socket(self, type: int, protocol: int = 0, family: int | None = None) -> Iterator[socket.socket]:
        """One that does not wait, and whose errors end the attempt."""
        kind = family or self.family
        make = self.sender.open_socket if self.seen else lambda *a: outsider(self.sender, *a)
        with make(kind, type, protocol) as made, contextlib.suppress(OSError):
            made.setblocking(False)
            yield made

    def packet(self, protocol: int, payload: bytes, *, id: int = 1, fragment: int = 0) -> bytes:
        """The IP packet; `fragment` is IPv4's field of flags and offset."""
        ends = [socket.inet_pton(self.family, address) for address in (self.source, self.target)]
        if self.family == socket.AF_INET6:
            return struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, *ends) + payload
        size = 20 + len(payload)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, id, fragment, 64, protocol, 0, *ends)
        return head[:10] + (~internet_sum(head) & 0xFFFF).to_bytes(2, "big") + head[12:] + payload

    def send_frames(self, *packets: bytes) -> None:
        """Past the stack of the sender's namespace."""
        ethertype = 0x0800 if self.family == socket.AF_INET else 0x86DD
        with packet_socket(self.sender) as raw:
            for packet in packets:
                raw.send(frame(self.sender, ethertype, packet))


Way = Callable[[Attempt], None]


def syn(options: bytes = b"", port: int = PORT) -> bytes:
    """A TCP segment that opens; nobody looks at its checksum on the way."""
    return struct.pack("!HHIIBBHHH", 4000, port, 1, 0, (20 + len(options)) << 2, 2, 1000, 0, 0) + options


def datagram(payload: bytes = b"x" * 8, port: int = PORT) -> bytes:
    return struct.pack("!HHHH", 4000, port, 8 + len(payload), 0) + payload


def echo(family: int) -> bytes:
    return struct.pack("!BBHHH", 8 if family == socket.AF_INET else 128, 0, 0, 7, 1)


def body(protocol: int, family: int) -> bytes:
    """What a protocol's packets begin with."""
    if protocol == TCP:
        return syn()
    if protocol in (UDP, UDPLITE):
        return datagram()
    if protocol in (ICMP, ICMP6):
        return echo(family)
    if protocol == SCTP:
        return struct.pack("!HHII", 4000, PORT, 0, 0) + struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
    if protocol == AH:
        return struct.pack("!BBHII12x", UNNAMED, 4, 0, 1, 1)
    return bytes(32)


def tcp_connect(a: Attempt) -> None:
    with a.socket(socket.SOCK_STREAM) as client:
        client.connect((a.target, PORT))


def tcp_fast_open(a: Attempt) -> None:
    with a.socket(socket.SOCK_STREAM) as client:
        client.sendto(b"x", MSG_FASTOPEN, (a.target, PORT))


def mptcp_connect(a: Attempt) -> None:
    with a.socket(socket.SOCK_STREAM, MPTCP) as client:
        client.connect((a.target, PORT))


def mptcp_subflow(a: Attempt) -> None:
    """A SYN that joins a connection (RFC 8684 3.2)."""
    a.send_frames(a.packet(TCP, syn(struct.pack("!BBBBII", 30, 12, 0x10, 1, 7, 7))))


def io_uring_connect(a: Attempt) -> None:
    """IORING_OP_CONNECT; io_uring(7)."""
    with a.socket(socket.SOCK_STREAM) as client:
        parameters = ctypes.create_string_buffer(120)
        ring = _libc.syscall(425, 4, parameters)
        if ring < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        tail, array = struct.unpack_from("=I", parameters, 44)[0], struct.unpack_from("=I", parameters, 64)[0]
        address = ctypes.create_string_buffer(sockaddr(a.family, a.target, PORT))
        with mmap.mmap(ring, array + 16) as queue, mmap.mmap(ring, 4 * 64, offset=0x10000000) as entries:
            entries[:64] = struct.pack(
                "=BBHiQQI36x", 16, 0, 0, client.fileno(), len(address) - 1, ctypes.addressof(address), 0
            )
            queue[array : array + 4] = bytes(4)
            queue[tail : tail + 4] = struct.pack("=I", 1)
            submitted = _libc.syscall(426, ring, 1, 0, 0, None, 0)
            assert submitted == 1, ctypes.get_errno()
        os.close(ring)


def udp_connected(a: Attempt) -> None:
    with a.socket(socket.SOCK_DGRAM) as client:
        client.connect((a.target, PORT))
        client.send(b"x")


def udp_sendto(a: Attempt) -> None:
    with a.socket(socket.SOCK_DGRAM) as client:
        client.sendto(b"x", (a.target, PORT))


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    """struct mmsghdr of <sys/socket.h>."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    ]


def udp_sendmmsg(a: Attempt) -> None:
    with a.socket(socket.SOCK_DGRAM) as client:
        text = ctypes.create_string_buffer(b"x")
        name = ctypes.create_string_buffer(sockaddr(a.family, a.target, PORT))
        vector = _Vector(ctypes.addressof(text), 1)
        message = _Message(ctypes.addressof(name), len(name) - 1, ctypes.pointer(vector), 1)
        _libc.sendmmsg(client.fileno(), (_Message * 2)(message, message), 2, 0)


def udplite_sendto(a: Attempt) -> None:
    with a.socket(socket.SOCK_DGRAM, UDPLITE) as client:
        client.sendto(b"x", (a.target, PORT))


def mapped_connect(a: Attempt) -> None:
    """IPv4 by an IPv6 socket."""
    with a.socket(socket.SOCK_STREAM, family=socket.AF_INET6) as client:
        client.connect((f"::ffff:{a.receiver.ip4}", PORT))


def mapped_sendto(a: Attempt) -> None:
    with a.socket(socket.SOCK_DGRAM, family=socket.AF_INET6) as client:
        client.sendto(b"x", (f"::ffff:{a.receiver.ip4}", PORT))


def ping_socket(a: Attempt) -> None:
    """An echo request without any privilege, icmp(7)."""

    def permit() -> None:
        with open("/proc/sys/net/ipv4/ping_group_range", "w") as range:
            range.write("0 2147483647")

    run_in_netns(a.sender.netns, permit)
    with a.socket(socket.SOCK_DGRAM, ICMP if a.family == socket.AF_INET else ICMP6) as client:
        client.sendto(echo(a.family), (a.target, 0))


def raw_socket(protocol: int) -> Way:
    def send(a: Attempt) -> None:
        with a.socket(socket.SOCK_RAW, protocol) as raw:
            raw.sendto(body(protocol, a.family), (a.target, 0))

    return send


def raw_ip(a: Attempt) -> None:
    """The IP header is the sender's own too, raw(7)."""
    with a.socket(socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(a.packet(TCP, syn()), (a.target, 0))


def packet_frame(a: Attempt) -> None:
    a.send_frames(a.packet(UDP, datagram()))


def extension_headers(a: Attempt) -> None:
    """Hop-by-hop, then two headers of destination options."""
    padding = b"\x01\x04" + bytes(4)
    chain = b"".join(struct.pack("!BB", following, 0) + padding for following in (60, 60, UDP))
    a.send_frames(a.packet(0, chain + datagram()))


def authentication_header(a: Attempt) -> None:
    """To IPv6 it is one extension header more."""
    a.send_frames(a.packet(AH, struct.pack("!BBHII12x", UDP, 4, 0, 1, 1) + datagram()))


def fragments(a: Attempt) -> None:
    """The first with the ports, and a later one."""
    whole = datagram(b"x" * 24)
    if a.family == socket.AF_INET:
        parts = [
            a.packet(UDP, whole[:16], id=77, fragment=0x2000),
            a.packet(UDP, whole[16:], id=77, fragment=2),
        ]
    else:
        parts = [
            a.packet(44, struct.pack("!BBHI", UDP, 0, field, 77) + part)
            for field, part in ((1, whole[:16]), (16, whole[16:]))
        ]
    a.send_frames(*parts)


BOTH, ONLY4, ONLY6 = (socket.AF_INET, socket.AF_INET6), (socket.AF_INET,), (socket.AF_INET6,)

#: Name -> the way, and the families in which it exists.
WAYS: dict[str, tuple[Way, tuple[int, ...]]] = {
    "tcp": (tcp_connect, BOTH),
    "tcp-fast-open": (tcp_fast_open, BOTH),
    "mptcp": (mptcp_connect, BOTH),
    "mptcp-subflow": (mptcp_subflow, BOTH),
    "io-uring": (io_uring_connect, BOTH),
    "udp-connected": (udp_connected, BOTH),
    "udp-sendto": (udp_sendto, BOTH),
    "udp-sendmmsg": (udp_sendmmsg, BOTH),
    "udplite": (udplite_sendto, BOTH),
    "mapped-tcp": (mapped_connect, ONLY4),
    "mapped-udp": (mapped_sendto, ONLY4),
    "ping-socket": (ping_socket, BOTH),
    "icmp": (raw_socket(ICMP), ONLY4),
    "icmpv6": (raw_socket(ICMP6), ONLY6),
    "igmp": (raw_socket(IGMP), BOTH),
    "ipip": (raw_socket(IPIP), BOTH),
    "ipv6-in-ip": (raw_socket(IPV6), BOTH),
    "gre": (raw_socket(GRE), BOTH),
    "esp": (raw_socket(ESP), BOTH),
    "ah": (raw_socket(AH), BOTH),
    "vrrp": (raw_socket(VRRP), BOTH),
    "sctp": (raw_socket(SCTP), BOTH),
    "unnamed": (raw_socket(UNNAMED), BOTH),
    "raw-udp": (raw_socket(UDP), BOTH),
    "raw-ip": (raw_ip, BOTH),
    "packet-frame": (packet_frame, BOTH),
    "extension-headers": (extension_headers, ONLY6),
    "authentication-header": (authentication_header, ONLY6),
    "fragments": (fragments, BOTH),
}


def sockaddr(family: int, address: str, port: int) -> bytes:
    packed = socket.inet_pton(family, address)
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H4s8x", port, packed)
    return struct.pack("=H", family) + struct.pack("!HI16sI", port, 0, packed, 0)
