"""A pod's end and its probes, when something goes wrong on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from mesh.model import HttpGet, Probe, WorkloadName
from sluice.failure import Failure
from sluice.pods import Pod
from sluice.probes import Prober

WEB = WorkloadName("shop", "web")


class Sandboxes:
    """Busy, the first time."""

    def __init__(self, folder: Path) -> None:
        self.left = [SimpleNamespace(cgroup=str(folder), addresses=("10.0.0.1",), ready=True)]
        self.failures = [Failure("its cgroup is busy")]

    def find(self, _: WorkloadName) -> Any:
        return self.left[0]

    def set_ready(self, sandbox: Any, ready: bool) -> Any:
        return sandbox

    def destroy(self, _: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.left.clear()


async def test_a_pod_that_cannot_be_ended_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.pods.signal_all", lambda *_: None)
    monkeypatch.setattr("sluice.pods.is_populated", lambda _: False)
    sandboxes, told = Sandboxes(tmp_path), list[str]()
    mesh: Any = SimpleNamespace(pod_files=lambda _: tmp_path / "files")
    runtime: Any = SimpleNamespace(mesh=mesh, sandboxes=sandboxes, changed=lambda: told.append(pod.message))
    pod = Pod(WEB, runtime)
    async with asyncio.timeout(20):
        await pod.run()
    assert told == ["its cgroup is busy"] and not sandboxes.left


async def test_a_probe_that_no_request_can_be_made_of_answers_no_and_goes_on() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    get = HttpGet(server.sockets[0].getsockname()[1], headers=(("x-odd", "a\nb"),))
    said: list[bool] = []
    async with aiohttp.ClientSession() as http:
        prober = Prober(Probe(get, failure_threshold=1), "127.0.0.1", http, lambda _: pytest.fail("none"))
        watching = asyncio.create_task(prober.watch(True, said.append))
        async with asyncio.timeout(20):
            while not (said or watching.done()):
                await asyncio.sleep(0.01)
        assert said == [False] and not watching.done()
        watching.cancel()
    server.close()
