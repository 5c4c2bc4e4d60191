"""Tries flows of one pod, over and over, and notes what became of each try and when.

A process in the pod's network namespace and cgroup. It holds the servers' sockets too (they were made in
the servers' pods), so a datagram that came through is mostly seen a moment after it was sent. It knows no
policy.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import socket
import struct
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.kernel.namespace import run_in_netns
from tests.agreement.history import now

#: "udp" says with each datagram where it goes, so a socket hook judges it; of a connected socket's datagrams
#: only tc sees anything. "tcp" is a new connection each time.
Kind = Literal["udp", "udp-connected", "tcp"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PR_SET_PDEATHSIG = 1
#: ns after which what has not come is lost.
_LOST = 300_000_000
_NUMBER = struct.Struct("!Q")

ALLOWED, DENIED, LOST = 1, 0, 2


@dataclass(frozen=True, slots=True)
class Flow:
    """`number` is the place in every list of flows, and no two share a port."""

    number: int
    kind: Kind
    client: str
    source: str
    server: str
    target: str
    port: int

    @property
    def protocol(self) -> Literal["TCP", "UDP"]:
        return "TCP" if self.kind == "tcp" else "UDP"

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.target else socket.AF_INET


class Prober:
    """The process, as its owner sees it. Rows are (flow, since, until, ALLOWED, DENIED or LOST); a lost
    datagram's `until` is when it was given up."""

    def __init__(
        self,
        netns: Path,
        cgroup: Path | None,
        flows: Sequence[Flow],
        servers: Mapping[int, socket.socket],
        pause: float,
    ) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._ending = context.Event()
        self._count = context.RawValue("Q", 0)

        def live() -> None:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            loop = _Loop(flows, servers, pause)

            def work() -> None:
                loop.open()
                theirs.send("ready")
                while not self._ending.is_set():
                    loop.turn()
                    self._count.value = len(loop.rows) // 4

            run_in_netns(netns, work)
            loop.finish()
            theirs.send_bytes(loop.rows.tobytes())

        self._process = context.Process(target=live, daemon=True)
        self._process.start()
        theirs.close()
        assert self._pipe.poll(20) and self._pipe.recv() == "ready"

    @property
    def count(self) -> int:
        """Rows so far."""
        return int(self._count.value)

    def finish(self) -> Iterator[tuple[int, int, int, int]]:
        """Stop, and tell everything."""
        self._ending.set()
        rows = array("q")
        rows.frombytes(self._pipe.recv_bytes())
        self._process.join()
        for at in range(0, len(rows), 4):
            yield rows[at], rows[at + 1], rows[at + 2], rows[at + 3]

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def serve(flow: Flow) -> socket.socket:
    """The server's socket, to be made in its pod."""
    kind = socket.SOCK_STREAM if flow.kind == "tcp" else socket.SOCK_DGRAM
    made = socket.socket(flow.family, kind | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((flow.target, flow.port))
    if flow.kind == "tcp":
        made.listen(4096)
    return made


class _Loop:
    def __init__(self, flows: Sequence[Flow], servers: Mapping[int, socket.socket], pause: float) -> None:
        self.rows = array("q")
        self._flows = flows
        self._servers = servers
        self._pause = pause
        self._due = time.monotonic()
        self._sockets: dict[int, socket.socket] = {}
        #: Datagrams on their way: flow -> number -> when sent. Connections being made: socket, when begun.
        self._sent: dict[int, dict[int, int]] = {flow.number: {} for flow in flows}
        self._connecting: dict[int, list[tuple[socket.socket, int]]] = {flow.number: [] for flow in flows}
        self._number = 0

    def open(self) -> None:
        """Connects what is to be connected while everything is allowed still."""
        for flow in self._flows:
            if flow.kind == "tcp":
                continue
            made = self._sockets[flow.number] = socket.socket(
                flow.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            )
            made.bind((flow.source, flow.port))
            if flow.kind == "udp-connected":
                made.connect((flow.target, flow.port))

    def turn(self) -> None:
        for flow in self._flows:
            if flow.kind == "tcp":
                self._dial(flow)
            else:
                self._send(flow)
        self._due = max(self._due + self._pause, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))

    def finish(self) -> None:
        """What is still under way has time to come."""
        time.sleep(_LOST / 1e9)
        for flow in self._flows:
            if flow.kind == "tcp":
                self._look(flow)
            else:
                self._receive(flow, now())

    def _note(self, flow: Flow, since: int, until: int, outcome: int) -> None:
        self.rows.extend((flow.number, since, until, outcome))

    # --- datagrams --------------------------------------------------------------------------------

    def _send(self, flow: Flow) -> None:
        self._number += 1
        data, client = _NUMBER.pack(self._number), self._sockets[flow.number]
        since = now()
        try:
            if flow.kind == "udp":
                client.sendto(data, (flow.target, flow.port))
            else:
                client.send(data)
        except PermissionError:
            self._note(flow, since, now(), DENIED)
        else:
            self._sent[flow.number][self._number] = since
        self._receive(flow, since)

    def _receive(self, flow: Flow, next_sent: int) -> None:
        server, sent = self._servers[flow.number], self._sent[flow.number]
        while True:
            try:
                data = server.recv(16)
            except BlockingIOError:
                break
            (number,) = _NUMBER.unpack(data)
            self._note(flow, sent.pop(number), now(), ALLOWED)
        for number, since in list(sent.items()):
            if since + _LOST > next_sent:
                break
            del sent[number]
            self._note(flow, since, since + _LOST, LOST)

    # --- connections ------------------------------------------------------------------------------

    def _dial(self, flow: Flow) -> None:
        made = socket.socket(flow.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        since = now()
        try:
            made.connect((flow.target, flow.port))
        except BlockingIOError:
            self._connecting[flow.number].append((made, since))
        except PermissionError:
            self._note(flow, since, now(), DENIED)
            made.close()
        self._look(flow)
        server = self._servers[flow.number]
        while True:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                break

    def _look(self, flow: Flow) -> None:
        left = []
        for made, since in self._connecting[flow.number]:
            poll = select.poll()
            poll.register(made, select.POLLOUT)
            if poll.poll(0):
                failed = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._note(flow, since, now(), DENIED if failed else ALLOWED)
            elif now() - since > 10 * _LOST:
                self._note(flow, since, now(), DENIED)
            else:
                left.append((made, since))
                continue
            made.close()
        self._connecting[flow.number] = left
