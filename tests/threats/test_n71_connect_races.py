"""N71: judged for one address, sent to another. One may talk to two and not to three, whatever it tries."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bpf.layout import Verdict
from tests.kernel.box import Box
from tests.kernel.host import Pod, child
from tests.threats.capture import captured
from tests.threats.ways import sockaddr

VIP = "10.128.0.10"
#: Both addresses must have been met so often; on a busy machine the other process does not always run.
ENOUGH = 1_000
MOST_TRIES = 1_000_000

_libc = ctypes.CDLL(None, use_errno=True)


def permit_two(box: Box) -> tuple[Pod, Pod, Pod]:
    one, two, three = box.pods
    box.select(one, egress=1)
    box.peers(1, {(two.id, 0): 100})
    box.rule(100, Verdict.ALLOW)
    box.service(VIP, 8080, [(two.ip4, 8080)])
    box.service(VIP, 8080, [(two.ip4, 8080)], protocol=socket.IPPROTO_UDP)
    box.apply()
    return one, two, three


@contextmanager
def flipping(*addresses: str) -> Iterator[int]:
    """The memory address of a sockaddr that another process rewrites all the time."""
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        names = [sockaddr(socket.AF_INET, address, 8080) for address in addresses]
        memory[:16] = names[0]
        pid = os.fork()
        if not pid:
            while True:
                for name in names:
                    memory[:16] = name
        try:
            yield ctypes.addressof(ctypes.c_char.from_buffer(memory))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def unsettled(outcomes: Counter[int]) -> bool:
    """Must there be more tries, of which some are refused and some are not?"""
    assert outcomes.total() < MOST_TRIES, outcomes
    return min(outcomes[errno.EPERM], outcomes.total() - outcomes[errno.EPERM]) < ENOUGH


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
@pytest.mark.parametrize("friend", ["two", VIP], ids=["pod", "service"])
def test_an_address_that_changes_while_connect_looks_at_it(box: Box, kind: int, friend: str) -> None:
    one, two, three = permit_two(box)
    outcomes: Counter[int] = Counter()
    with captured(three) as at_three, captured(two) as at_two:
        for _ in range(2):
            outcomes.clear()
            fds = child(one.netns, one.cgroup, lambda: [socket.socket(type=kind).detach()])
            with (
                socket.socket(type=kind, fileno=fds[0]) as client,
                flipping(two.ip4 if friend == "two" else friend, three.ip4) as name,
            ):
                client.setblocking(False)
                while unsettled(outcomes):
                    ctypes.set_errno(0)
                    _libc.connect(client.fileno(), ctypes.c_void_p(name), 16)
                    outcomes[ctypes.get_errno()] += 1
                    if kind == socket.SOCK_DGRAM:
                        _libc.send(client.fileno(), b"x", 1, 0)
                    _libc.connect(client.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)
        assert not at_three.from_(one)
        assert at_two.from_(one, expected=True)


def test_an_address_that_changes_while_sendto_looks_at_it(box: Box) -> None:
    one, two, three = permit_two(box)
    outcomes: Counter[int] = Counter()
    with (
        captured(three) as at_three,
        captured(two) as at_two,
        one.open_socket(type=socket.SOCK_DGRAM) as client,
    ):
        with flipping(two.ip4, three.ip4) as name:
            while unsettled(outcomes):
                ctypes.set_errno(0)
                _libc.sendto(client.fileno(), b"x", 1, 0, ctypes.c_void_p(name), 16)
                outcomes[ctypes.get_errno()] += 1
        assert not at_three.from_(one)
        assert at_two.from_(one, expected=True)


def disconnect(client: socket.socket) -> None:
    assert not _libc.connect(client.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)


@pytest.mark.parametrize("friend", ["two", VIP], ids=["pod", "service"])
def test_a_connection_that_is_taken_back_and_made_again_is_judged_again(box: Box, friend: str) -> None:
    one, two, three = permit_two(box)
    address = two.ip4 if friend == "two" else friend
    with captured(three) as at_three, two.listen(8080), one.open_socket() as client:
        client.connect((address, 8080))
        disconnect(client)
        with pytest.raises(PermissionError):
            client.connect((three.ip4, 8080))
        client.connect((address, 8080))
        assert client.getpeername() == (address, 8080)
        assert not at_three.from_(one)


def test_a_datagram_socket_keeps_nothing_of_its_last_peer(box: Box) -> None:
    one, two, three = permit_two(box)
    with (
        captured(three) as at_three,
        two.open_socket(type=socket.SOCK_DGRAM) as server,
        one.open_socket(type=socket.SOCK_DGRAM) as client,
    ):
        server.bind(("", 8080))
        client.connect((VIP, 8080))
        client.send(b"x")
        assert server.recv(1)
        with pytest.raises(PermissionError):
            client.sendto(b"x", (three.ip4, 8080))
        with pytest.raises(PermissionError):
            client.connect((three.ip4, 8080))
        client.send(b"x")
        assert server.recv(1), "two is still the peer"
        disconnect(client)
        with pytest.raises(OSError):
            client.send(b"x")
        with pytest.raises(PermissionError):
            client.sendto(b"x", (three.ip4, 8080))
        assert not at_three.from_(one)


def test_a_second_connect_changes_no_connection_that_is_being_made(box: Box) -> None:
    one, two, three = permit_two(box)
    with captured(three) as at_three, captured(two) as at_two, one.open_socket() as client:
        client.setblocking(False)
        # The SYN is dropped on its way: nothing answers, and connect() goes on.
        box.forget(two)
        with pytest.raises(BlockingIOError):
            client.connect((two.ip4, 8080))
        for _ in range(20):
            assert client.connect_ex((three.ip4, 8080)) in (errno.EALREADY, errno.EPERM)
        assert not at_three.from_(one) and not at_two.from_(one)


@pytest.mark.parametrize("where", ["outside", "another pod's"])
def test_a_process_that_moves_takes_its_sockets_verdict_along(box: Box, where: str) -> None:
    """A socket's cgroup is that in which it was made, its pod that of its network namespace."""
    one, _, three = permit_two(box)
    cgroup: Path = box.cgroup.parent if where == "outside" else three.cgroup
    before = one.open_socket()
    with captured(three) as at_three:
        after = child(one.netns, cgroup, lambda: [socket.socket().detach()])
        with before, socket.socket(fileno=after[0]) as moved:
            for client in (before, moved):
                client.settimeout(0.1)
                with pytest.raises((PermissionError, TimeoutError)):
                    client.connect((three.ip4, 8080))
        assert not at_three.from_(one)
