"""`sluice trace`: the kernel seen through bcc while real connections are made; nothing of it stays."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from sluice.trace_machine import Lacking, headers, python_with_bcc
from tests.node.mesh import RUN, RunningMesh, sluice, until

TRACEPOINTS = ("inet_sock_set_state", "tcp_probe", "kfree_skb")


@pytest.fixture(scope="module")
def bcc() -> None:
    try:
        python_with_bcc(), headers()
    except Lacking as lacking:
        pytest.skip(str(lacking))


def traced(mesh: RunningMesh, what: str, act: Callable[[], object], *pod: str) -> list[dict[str, Any]]:
    """What a trace tells of what `act` does, which begins when the trace has. Ctrl-C ends it."""
    command = [*RUN, "trace", "--name", mesh.name, what, *pod, "-o", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    try:
        begun = process.stderr.readline()
        assert begun == f"tracing {what}; Ctrl-C ends it\n", begun + process.stderr.read()
        act()
        process.send_signal(signal.SIGINT)
        told, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return [json.loads(text) for text in told.splitlines()]


def programs() -> list[str]:
    listed = subprocess.run(["bpftool", "prog", "show"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if any(name[:15] in line for name in TRACEPOINTS)]


@pytest.mark.usefixtures("bcc")
def test_connects_are_timed_and_told_by_pod_and_service(mesh: RunningMesh) -> None:
    ip = mesh.pod("shop/web-v1")["ip"]

    def act() -> None:
        assert mesh.get("shop/client", "http://web-v1/", "-4")[0] == 200
        # One of several: the kernel runs a program at a tracepoint not again while it interrupts itself.
        assert all(mesh.get("shop/client", f"http://{ip}:8099/")[0] == 0 for _ in range(3))

    found = traced(mesh, "connect", act, "shop/client")
    served, refused = (
        [t for t in found if t["command"] == "curl" and t["destination"]["port"] == port]
        for port in (8080, 8099)
    )
    assert served and served[0]["established"] and 0 < served[0]["us"] < 1e6
    assert (served[0]["pod"], served[0]["destination"]["name"]) == ("shop/client", "shop/web-v1")
    assert "shop/web-v1:80" in served[0]["destination"]["services"]
    assert refused and not refused[0]["established"] and refused[0]["error"] == "Connection refused"
    assert all("shop/client" in (t["pod"], t["destination"]["name"], t["source"]["name"]) for t in found)


@pytest.mark.usefixtures("bcc")
def test_connections_are_told_with_round_trips_and_resets(mesh: RunningMesh) -> None:
    ip = mesh.pod("shop/web-v1")["ip"]

    def act() -> None:
        mesh.get("shop/client", "http://web-v1/", "-4")
        mesh.get("shop/client", f"http://{ip}:8099/")

    found = traced(mesh, "tcp", act, "shop/client")
    served = [t for t in found if t["pod"] == "shop/client" and t["destination"]["port"] == 8080]
    assert served and served[0]["samples"] and 0 < served[0]["rtt_us"]["min"] <= served[0]["rtt_us"]["max"]
    (refused,) = (t for t in found if t["pod"] == "shop/client" and t["destination"]["port"] == 8099)
    assert refused["resets_received"] == 1


@pytest.mark.usefixtures("bcc")
def test_dropped_packets_are_told_with_the_kernels_reason(mesh: RunningMesh) -> None:
    ip = mesh.pod("shop/web-v1")["ip"]
    code = f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('{ip}', 7777))"
    found = traced(mesh, "drops", lambda: mesh.python("shop/client", code))
    (drop,) = (t for t in found if t["destination"]["port"] == 7777)
    assert (drop["reason"], drop["protocol"], drop["pod"]) == ("NO_SOCKET", 17, "shop/web-v1")
    assert (drop["source"]["name"], drop["destination"]["name"]) == ("shop/client", "shop/web-v1")
    assert drop["at"]


@pytest.mark.usefixtures("bcc")
def test_nothing_is_left_behind_even_by_a_trace_that_was_killed(mesh: RunningMesh) -> None:
    before = len(programs())
    process = subprocess.Popen(
        [*RUN, "trace", "--name", mesh.name, "connect"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr and process.stderr.readline().startswith("tracing")
    assert len(programs()) == before + 1
    process.kill()
    process.wait()
    until(lambda: len(programs()) == before, "the programs are gone")


def test_without_bcc_it_says_which_packages_bring_it(mesh: RunningMesh) -> None:
    """In a mount namespace in which no Python has any package of Debian's."""
    hidden = 'at=/usr/lib/python3/dist-packages; mkdir -p $at && mount -t tmpfs none $at && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hidden, "sh", *RUN, "trace", "--name", mesh.name, "drops"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.startswith(
        "sluice: bcc is not installed; apt-get install python3-bpfcc linux-headers-"
    )


def test_a_pod_that_is_not_there_ends_with_1(mesh: RunningMesh) -> None:
    done = sluice("trace", "--name", mesh.name, "tcp", "shop/ghost")
    assert (done.returncode, done.stdout) == (1, "") and "runs no pod shop/ghost" in done.stderr
