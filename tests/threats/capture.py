"""What really reaches a pod: a packet socket behind all that Sluice does, in the pod's namespace."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.kernel.host import Host, arrives, child

_ALL = 3
_OUTGOING = 4


@dataclass(frozen=True, slots=True)
class Packet:
    """`protocol` is what the IP header says comes next, an extension header included."""

    version: int
    protocol: int
    source: str
    payload: bytes


class Capture:
    """Packets that came in since the last look."""

    def __init__(self, taken: socket.socket) -> None:
        self._socket = taken

    def from_(self, sender: Host, *, expected: bool = False) -> list[Packet]:
        """Those of one sender, of either family, until it is quiet. What is expected has a second to come."""
        found: list[Packet] = []
        while arrives(self._socket, 1 if expected and not found else 0.04):
            frame, (_, _, kind, *_) = self._socket.recvfrom(65536)
            packet = _parsed(frame) if kind != _OUTGOING else None
            if packet and packet.source in (sender.ip4, sender.ip6):
                found.append(packet)
        return found


@contextmanager
def captured(receiver: Host) -> Iterator[Capture]:
    def make() -> list[int]:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        made.bind(("eth0", _ALL))
        return [made.detach()]

    (fd,) = child(receiver.netns, None, make)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, fileno=fd) as taken:
        yield Capture(taken)


def _parsed(frame: bytes) -> Packet | None:
    ethertype, ip = int.from_bytes(frame[12:14], "big"), frame[14:]
    if ethertype == 0x0800:
        return Packet(4, ip[9], socket.inet_ntop(socket.AF_INET, ip[12:16]), ip[(ip[0] & 15) * 4 :])
    if ethertype == 0x86DD and ip[6] != socket.IPPROTO_ICMPV6:
        return Packet(6, ip[6], socket.inet_ntop(socket.AF_INET6, ip[8:24]), ip[40:])
    # Neighbour discovery is no traffic.
    if ethertype == 0x86DD and not 133 <= ip[40] <= 137:
        return Packet(6, ip[6], socket.inet_ntop(socket.AF_INET6, ip[8:24]), ip[40:])
    return None
