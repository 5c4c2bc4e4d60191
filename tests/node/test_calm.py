"""Killing any part of it breaks no connection that it need not break (promise 3)."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.node.manifests import GET_ONLY
from tests.node.mesh import RUN, RunningMesh, until

LOAD = Path(__file__).with_name("load.py")
KILLS = 20
SECONDS = 12
V1 = "endpointSelector: {matchLabels: {app: web, version: v1}}"


@contextmanager
def load(mesh: RunningMesh, url: str) -> Iterator[Popen[str]]:
    words = [sys.executable, "-u", str(LOAD), url, "500", str(SECONDS)]
    with Popen(
        [*RUN, "exec", "--name", mesh.name, "shop/client", "--", *words], stdout=PIPE, text=True
    ) as run:
        assert run.stdout and run.stdout.readline() == "ready\n"
        yield run


def kill(mesh: RunningMesh, *modules: str) -> None:
    for module in modules:
        for pid in mesh.pids("-m", module):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("who", [("agent",), ("xds",), ("agent", "xds")], ids=" and ".join)
@pytest.mark.parametrize("path", ["kernel", "envoy"])
@pytest.mark.timeout(180)
def test_no_request_fails_while_it_is_killed_twenty_times(
    mesh: RunningMesh, who: tuple[str, ...], path: str
) -> None:
    if path == "envoy":
        mesh.apply(GET_ONLY)
    try:
        with load(mesh, "http://web/public") as run:
            for _ in range(KILLS):
                kill(mesh, *who)
                time.sleep(SECONDS / KILLS / 2)
            assert run.stdout
            result = json.loads(run.stdout.readline())
        print(result["sent"], "requests")
        assert result["failed"] == []
        assert result["sent"] > SECONDS * 100
    finally:
        until(lambda: mesh.pids("-m", "agent") and mesh.pids("-m", "xds"), "both are back")
        mesh.run("status", "--wait")
        if path == "envoy":
            mesh.delete(GET_ONLY)


def test_a_killed_envoy_fails_closed_and_is_back_while_the_kernel_path_does_not_notice(
    mesh: RunningMesh,
) -> None:
    only_v1 = GET_ONLY.replace("endpointSelector: {matchLabels: {app: web}}", V1)
    mesh.apply(only_v1)
    try:
        with load(mesh, "http://web-v2/secret") as run:
            for _ in range(3):
                pid = mesh.pod("shop/web-v1")["proxy"]["pid"]
                os.kill(pid, signal.SIGKILL)
                # Whatever the moment: an answer of its own or none, never what the rule forbids.
                assert mesh.get("shop/client", "http://web-v1/secret")[0] in (0, 403)
                until(lambda: mesh.pod("shop/web-v1")["proxy"]["pid"] not in (None, pid), "another runs")  # noqa: B023
                until(lambda: mesh.get("shop/client", "http://web-v1/public")[0] == 200, "it serves")
                assert mesh.get("shop/client", "http://web-v1/secret")[0] == 403
            assert run.stdout
            result = json.loads(run.stdout.readline())
        assert result["failed"] == []
        assert result["sent"] > SECONDS * 100
    finally:
        mesh.delete(only_v1)
