"""N68: an application that looks like an Envoy. What counts is a cgroup into which no pod can put itself."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.kernel.namespace import run_in_netns
from bpf.layout import DropReason, EventFlags, EventType, PodFlags, Verdict
from tests.kernel.box import Box
from tests.kernel.host import TCP, Pod, arrives
from tests.threats.capture import captured

LISTENER, AT = 0x010203, "127.1.2.3"
SO_MARK, IP_TRANSPARENT, PR_SET_NAME = 36, 19, 15

#: What an application does to its process, then to its socket, before it connects.
Disguise = Callable[[socket.socket], None]


def as_user(number: int) -> Disguise:
    def disguise(client: socket.socket) -> None:
        os.setgroups([])
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)

    return disguise


def marked(mark: int) -> Disguise:
    return lambda client: client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)


def named(client: socket.socket) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"envoy")


def from_port(port: int) -> Disguise:
    return lambda client: client.bind(("", port))


def from_address(address: str) -> Disguise:
    """Such as the one from which an Envoy calls the application beside it."""

    def disguise(client: socket.socket) -> None:
        client.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        client.bind((address, 0))

    return disguise


DISGUISES: dict[str, Disguise] = {
    "none": lambda client: None,
    "uid-1337": as_user(1337),
    "uid-101": as_user(101),
    "mark-1337": marked(1337),
    "mark-of-cilium": marked(0x0B00),
    "mark-all": marked(-1),
    "name": named,
    "port-15006": from_port(15006),
    "port-80": from_port(80),
    "transparent": from_address("127.0.0.6"),
}


def run_as(pod: Pod, cgroup: Path | None, work: Callable[[], None]) -> None:
    """In a process of the pod's namespace that joins the cgroup. What goes wrong in it is not said."""
    pid = os.fork()
    if not pid:
        try:
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            run_in_netns(pod.netns, lambda: [work()])
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def dial(target: str, disguise: Disguise) -> Callable[[], None]:
    def work() -> None:
        with socket.socket() as client:
            client.settimeout(0.1)
            disguise(client)
            client.connect((target, 8080))

    return work


def steer_all(box: Box) -> None:
    box.select(box.pods[0], egress=1, flags=PodFlags.PROXY)
    box.peers(1, {(0, 0): 100})
    box.rule(100, Verdict.STEER, protocol=TCP, listener=LISTENER)
    box.apply()


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_application_is_steered_like_any_other(box: Box, name: str) -> None:
    one, two, _ = box.pods
    steer_all(box)
    with captured(two) as capture, two.listen(8080), one.listen(15001, address=AT, proxy=True) as envoy:
        run_as(one, one.cgroup, dial(two.ip4, DISGUISES[name]))
        assert arrives(envoy, 1)
        assert not capture.from_(one)
    (event,) = box.events(EventType.CONNECT)
    assert event.verdict == Verdict.STEER and not event.flags & EventFlags.BY_PROXY


@pytest.mark.parametrize("name", [name for name in DISGUISES if name != "transparent"])
def test_one_that_no_socket_hook_sees_is_dropped(box: Box, name: str) -> None:
    one, two, _ = box.pods
    steer_all(box)
    with captured(two) as capture, two.listen(8080):
        run_as(one, None, dial(two.ip4, DISGUISES[name]))
        assert not capture.from_(one)
    assert {e.reason for e in box.events(EventType.DROP)} == {DropReason.NOT_PROXY}


@pytest.mark.parametrize("below", ["proxies", "proxies/one", "envoy"])
def test_a_cgroup_of_ones_own_is_no_envoys(box: Box, below: str) -> None:
    one, two, _ = box.pods
    steer_all(box)
    own = one.cgroup / below
    own.mkdir(parents=True, exist_ok=True)
    with captured(two) as capture, two.listen(8080), one.listen(15001, address=AT, proxy=True) as envoy:
        run_as(one, own, dial(two.ip4, DISGUISES["none"]))
        assert arrives(envoy, 1)
        assert not capture.from_(one)


def test_a_program_that_is_called_envoy_is_no_envoy(box: Box, tmp_path: Path) -> None:
    one, two, _ = box.pods
    steer_all(box)
    program = tmp_path / "envoy"
    shutil.copy(shutil.which("bash") or "/bin/bash", program)
    code = f"exec 3<>/dev/tcp/{two.ip4}/8080"
    with captured(two) as capture, two.listen(8080), one.listen(15001, address=AT, proxy=True) as envoy:
        run_as(one, one.cgroup, lambda: os.execv(program, ["envoy", "-c", code]))
        assert arrives(envoy, 1)
        assert not capture.from_(one)


def test_an_envoy_itself_goes_through(box: Box) -> None:
    """So that what is shown above is not that nobody does."""
    one, two, _ = box.pods
    steer_all(box)
    with captured(two) as capture, two.listen(8080):
        run_as(one, one.proxies, dial(two.ip4, DISGUISES["none"]))
        assert capture.from_(one, expected=True)
