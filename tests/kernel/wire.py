"""Bytes on the wire that no ordinary socket would send, and sockets that no hook of ours sees."""

from __future__ import annotations

import os
import socket
import struct

from tests.kernel.host import ICMP, ICMP6, UDP, Host, Pod, arrives, child


def outsider(
    pod: Host, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0
) -> socket.socket:
    """A socket in the pod's namespace that no cgroup hook sees, as if it had been passed in."""
    (fd,) = child(pod.netns, None, lambda: [socket.socket(family, type, proto).detach()])
    made = socket.socket(family, type, proto, fileno=fd)
    made.settimeout(0.3)
    return made


def packet_socket(pod: Pod) -> socket.socket:
    def make() -> list[int]:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        made.bind(("eth0", 0))
        return [made.detach()]

    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, fileno=child(pod.netns, pod.cgroup, make)[0])


def udp4(source: str, target: str, sport: int, dport: int, payload: bytes = b"x") -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        28 + len(payload),
        1,
        0,
        64,
        UDP,
        0,
        socket.inet_aton(source),
        socket.inet_aton(target),
    )
    head = head[:10] + (~internet_sum(head) & 0xFFFF).to_bytes(2, "big") + head[12:]
    return head + struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def frame(pod: Pod, ethertype: int, payload: bytes) -> bytes:
    return bytes.fromhex(pod.mac.replace(":", "")) + bytes(6) + ethertype.to_bytes(2, "big") + payload


def ping(pod: Host, target: str, *, timeout: float) -> bool:
    """Whether an echo request is answered; `timeout` is in seconds."""
    ip4 = ":" not in target
    with outsider(
        pod, socket.AF_INET if ip4 else socket.AF_INET6, socket.SOCK_RAW, ICMP if ip4 else ICMP6
    ) as raw:
        identifier = os.getpid() & 0xFFFF
        raw.sendto(with_checksum(struct.pack("!BBHHH", 8 if ip4 else 128, 0, 0, identifier, 1)), (target, 0))
        while arrives(raw, timeout):
            data = raw.recv(2048)
            if data[20 if ip4 else 0] == (0 if ip4 else 129):
                return True
        return False


def internet_sum(data: bytes) -> int:
    """The Internet checksum's sum of an even number of bytes, RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def with_checksum(message: bytes) -> bytes:
    return message[:2] + (~internet_sum(message) & 0xFFFF).to_bytes(2, "big") + message[4:]
