"""Many connections at once, in every state that a socket can be found in, held by one end's process.

`Crowd` is the body of an actor, a client's or a server's. A *group* is what was opened together; of each the
crowd tells how many sockets still live, and the groups that can talk do so when asked. Knows no policy.
"""

from __future__ import annotations

import ctypes
import resource
import select
import socket
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Literal

#: "unaccepted": established, and the server never takes it; "half-opened": the server has seen a SYN and
#: waits for the last ACK; "opening": nobody has seen the SYN; "datagrams": connected UDP.
State = Literal["idle", "active", "unaccepted", "half-opened", "opening", "datagrams"]
STATES: tuple[State, ...] = ("idle", "active", "unaccepted", "half-opened", "opening", "datagrams")
TALKING: tuple[State, ...] = ("idle", "active", "datagrams")

#: What the namespace must have room for.
_ROOM = {
    "ipv4/ip_local_port_range": "10000 65000",
    "ipv4/tcp_max_syn_backlog": "65535",
    "core/somaxconn": "65535",
}
_CLOSED, _SYN_RECV = 7, 3
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


class Crowd:
    def __init__(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        for name, value in _ROOM.items():
            Path("/proc/sys/net", name).write_text(value)
        self._groups: dict[str, list[socket.socket]] = {}
        self._listeners: list[tuple[State, str, socket.socket]] = []

    # --- server -----------------------------------------------------------------------------------

    def listen(self, group: str, state: State, address: str, port: int) -> None:
        kind = socket.SOCK_DGRAM if state == "datagrams" else socket.SOCK_STREAM
        made = _socket(address, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        if state == "opening":
            _drop_everything(made)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(60_000)
        self._listeners.append((state, group, made))

    def accept(self) -> None:
        """All that may be accepted."""
        for state, group, listener in self._listeners:
            if state in ("idle", "active"):
                accepted = self._groups.setdefault(group, [])
                while True:
                    try:
                        made, _ = listener.accept()
                    except BlockingIOError:
                        break
                    made.setblocking(False)
                    accepted.append(made)

    def echo(self) -> None:
        """Answers whatever has come."""
        for state, _, listener in self._listeners:
            if state == "datagrams":
                while True:
                    try:
                        data, peer = listener.recvfrom(16)
                    except BlockingIOError:
                        break
                    with suppress(OSError):
                        listener.sendto(data, peer)
        for group in self._groups.values():
            for made in group:
                if data := _read(made):
                    with suppress(OSError):
                        made.send(data)

    def half_opened(self) -> int:
        """Connections that wait for their last ACK, as the kernel tells."""
        ports = {
            listener.getsockname()[1] for state, _, listener in self._listeners if state == "half-opened"
        }
        found = 0
        for table in ("tcp", "tcp6"):
            for line in Path("/proc/thread-self/net", table).read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                found += int(state, 16) == _SYN_RECV and int(local.rpartition(":")[2], 16) in ports
        return found

    # --- client -----------------------------------------------------------------------------------

    def open(self, group: str, state: State, address: str, port: int, count: int) -> None:
        """Begins `count` connections; one that is to be established is so a moment later."""
        made = self._groups.setdefault(group, [])
        for _ in range(count):
            one = _socket(address, socket.SOCK_DGRAM if state == "datagrams" else socket.SOCK_STREAM)
            if state == "half-opened":
                _drop_everything(one)
            with suppress(BlockingIOError):
                one.connect((address, port))
            made.append(one)

    def listen_again(self) -> None:
        """What dropped SYN-ACKs drops no more: who waits for one may get the next."""
        for group in self._groups.values():
            for made in group:
                with suppress(OSError):
                    made.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def speak(self) -> None:
        """A byte on every connection."""
        for group in self._groups.values():
            for made in group:
                with suppress(OSError):
                    made.send(b"x")

    def heard(self) -> dict[str, int]:
        """By group, how many connections have brought an answer since the last question."""
        return {name: sum(bool(_read(made)) for made in group) for name, group in self._groups.items()}

    # --- both -------------------------------------------------------------------------------------

    def living(self) -> dict[str, int]:
        """By group, how many TCP sockets are not closed; of datagrams, how many there are."""
        found = Counter[str]()
        for name, group in self._groups.items():
            found[name] = sum(_lives(made) for made in group)
        return dict(found)

    def established(self) -> dict[str, int]:
        """By group, how many connections stand."""
        found = {}
        for name, group in self._groups.items():
            poll = select.poll()
            for made in group:
                poll.register(made, select.POLLOUT)
            ready = (flags for _, flags in poll.poll(0))
            found[name] = sum(not flags & (select.POLLERR | select.POLLHUP) for flags in ready)
        return found

    def leave(self) -> None:
        """Close everything."""
        for group in self._groups.values():
            for made in group:
                if made.type == socket.SOCK_STREAM:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                made.close()
        for _, _, listener in self._listeners:
            listener.close()
        self._groups, self._listeners = {}, []


def _socket(address: str, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


def _drop_everything(made: socket.socket) -> None:
    """A filter of one instruction, "return 0"."""
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
    made.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("=H6xQ", 1, ctypes.addressof(instruction))
    )


def _lives(made: socket.socket) -> bool:
    return made.type == socket.SOCK_DGRAM or made.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 1)[0] != _CLOSED


def _read(made: socket.socket) -> bytes:
    try:
        return made.recv(16)
    except OSError:
        return b""
