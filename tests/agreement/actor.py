"""Processes that live in a pod: they serve, they dial, and they tell what became of it.

Each is in one network namespace and one cgroup for its whole life, so whatever socket it makes is
judged as that of an application, of an Envoy, or of somebody whom no hook of ours sees. Nothing blocks:
a call returns at once and what became of it is asked for later. It knows no policy.
"""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from agent.kernel import Kernel
from agent.kernel.namespace import run_in_netns
from bpf.layout import ListenerKey, packed_address
from mesh.listener import EGRESS_PORT, INGRESS_PORT, egress_addresses, ingress_addresses
from tests.kernel.host import original_dst

#: "udp" and "icmp" say with each datagram where it goes, the connected ones say it once.
Kind = Literal["tcp", "udp", "udp-connected", "icmp", "icmp-connected"]
Outcome = Literal["connected", "refused", "answered", "silence"]

_PR_SET_PDEATHSIG = 1
_TRANSPARENT = {socket.AF_INET: (socket.IPPROTO_IP, 19), socket.AF_INET6: (socket.IPPROTO_IPV6, 75)}
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_ECHO = {socket.AF_INET: b"\x08", socket.AF_INET6: b"\x80"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call. `number` is its source port, for an echo request the identifier: no other has it."""

    number: int
    kind: Kind
    source: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Called:
    """What the call said at once, such as "EPERM", and when it returned: ns of CLOCK_BOOTTIME."""

    error: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a server took in: "app", "inbound 256" or "outbound 256" by its class, and where the caller
    wanted to go as the server learns it; a datagram's server learns the port only."""

    server: str
    address: str
    port: int


class Actor:
    """The process, as its owner sees it. `begin` and `finish` let many work at once."""

    def __init__(self, netns: Path, cgroup: Path | None, body: Callable[[], object]) -> None:
        """`body` makes, over there, what takes the orders, such as `Body`."""
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(netns, cgroup, body, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, order: str, *arguments: object) -> None:
        """`order` is the name of a method of the body."""
        self._pipe.send((order, arguments))

    def finish(self) -> Any:
        """The answer to the oldest order; raises what the order raised."""
        if not self._pipe.poll(20):
            raise TimeoutError("an actor does not answer")
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def tell(self, order: str, *arguments: object) -> Any:
        """One order, and its answer."""
        self.begin(order, *arguments)
        return self.finish()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _live(netns: Path, cgroup: Path | None, body: Callable[[], object], pipe: Connection) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cgroup is not None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    run_in_netns(netns, lambda: _obey(pipe, body()))


def _obey(pipe: Connection, body: object) -> None:
    while True:
        order, arguments = pipe.recv()
        try:
            pipe.send(getattr(body, order)(*arguments))
        except Exception as error:
            pipe.send(error)


class Body:
    """What an actor can do."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._calls: dict[int, tuple[Kind, socket.socket]] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._servers: dict[socket.socket, str] = {}
        self._accepted: list[socket.socket] = []
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")

    # --- serving ------------------------------------------------------------------------------------

    def serve(self, ports: Sequence[int]) -> None:
        """TCP and UDP, both families."""
        for port in ports:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                self._listen(socket.AF_INET6, kind, "::", port, "app")

    def be_proxy(self, addresses: Sequence[str], inbound: Sequence[int], outbound: Sequence[int]) -> None:
        """Listen for these classes and no others, and give the kernel the inbound listeners of a pod with
        these addresses, as the agent does for an Envoy."""
        for server in self._servers:
            server.close()
        self._servers = {}
        for number in outbound:
            for address in egress_addresses(number):
                self._listen(_family(address), socket.SOCK_STREAM, address, EGRESS_PORT, f"outbound {number}")
        for number in inbound:
            for address in ingress_addresses(number):
                family = _family(address)
                made = self._listen(family, socket.SOCK_STREAM, address, INGRESS_PORT, f"inbound {number}")
                for own in addresses:
                    if _family(own) == family:
                        key = ListenerKey(packed_address(own), number, family)
                        self._kernel.put_listener(key.pack(), made.fileno())

    def _listen(self, family: int, kind: int, address: str, port: int, name: str) -> socket.socket:
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        self._servers[made] = name
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if name != "app":
            made.setsockopt(*_FREEBIND[socket.AddressFamily(family)], 1)
        if name.startswith("inbound"):
            made.setsockopt(*_TRANSPARENT[socket.AddressFamily(family)], 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(512)
        return made

    def arrivals(self) -> dict[int, list[Arrival]]:
        """By the callers' numbers, what came since the last question."""
        found: dict[int, list[Arrival]] = {}
        ready = select.poll()
        servers = {server.fileno(): server for server in self._servers}
        for number in servers:
            ready.register(number, select.POLLIN)
        for number, _ in ready.poll(0):
            server = servers[number]
            take = self._accept if server.type == socket.SOCK_STREAM else self._receive
            while (taken := take(server)) is not None:
                found.setdefault(taken[0], []).append(taken[1])
        return found

    def _accept(self, server: socket.socket) -> tuple[int, Arrival] | None:
        try:
            accepted, peer = server.accept()
        except BlockingIOError:
            return None
        self._accepted.append(accepted)
        name = self._servers[server]
        # An inbound listener is transparent: its socket's own address is what was dialled.
        host, port = original_dst(accepted) if name.startswith("outbound") else accepted.getsockname()[:2]
        return peer[1], Arrival(name, _plain(host), port)

    def _receive(self, server: socket.socket) -> tuple[int, Arrival] | None:
        try:
            _, peer = server.recvfrom(64)
        except BlockingIOError:
            return None
        return peer[1], Arrival(self._servers[server], "", server.getsockname()[1])

    # --- calling ------------------------------------------------------------------------------------

    def call(self, attempts: Sequence[Attempt]) -> dict[int, Called]:
        """One after the other, so what a hook tells between two returns is of the second."""
        called = {}
        for attempt in attempts:
            try:
                self._call(attempt)
                error = ""
            except BlockingIOError:  # a TCP connection is on its way
                error = ""
            except OSError as failure:
                self._calls.pop(attempt.number)[1].close()
                error = errno.errorcode.get(failure.errno or 0, str(failure))
            called[attempt.number] = Called(error, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        return called

    def _call(self, attempt: Attempt) -> None:
        name, _, connected = attempt.kind.partition("-")
        family = socket.AF_INET6 if ":" in attempt.host else socket.AF_INET
        data, kind, protocol = b"x", socket.SOCK_DGRAM, 0
        if name == "tcp":
            kind = socket.SOCK_STREAM
        elif name == "icmp":
            data = _ECHO[family] + bytes(7)
            protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        self._calls[attempt.number] = (attempt.kind, made)
        made.bind((attempt.source, attempt.number))
        target = (attempt.host, attempt.port)
        if name == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            made.connect(target)
        elif connected:
            made.connect(target)
            made.send(data)
        else:
            made.sendto(data, target)

    def outcomes(self) -> dict[int, Outcome]:
        """What became of every call so far."""
        ready = select.poll()
        for number, (kind, made) in self._calls.items():
            if number not in self._outcomes:
                ready.register(made, select.POLLOUT if kind == "tcp" else select.POLLIN)
        events = dict(ready.poll(0))
        for number, (kind, made) in self._calls.items():
            if number not in self._outcomes and made.fileno() in events:
                failed = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._outcomes[number] = "refused" if failed else "connected" if kind == "tcp" else "answered"
        return {number: self._outcomes.get(number, "silence") for number in self._calls}

    def rest(self) -> None:
        """Forget all calls and whatever came."""
        for _, made in self._calls.values():
            made.close()
        for accepted in self._accepted:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            accepted.close()
        self._calls, self._outcomes, self._accepted = {}, {}, []
        while self.arrivals():
            for accepted in self._accepted:
                accepted.close()
            self._accepted = []


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")
