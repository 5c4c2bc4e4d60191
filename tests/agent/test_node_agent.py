"""The agent as a process in a node's namespace, with the real kernel, the real Envoy, and a control plane
that says exactly what the test wants."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mesh.discovery.envoy import LISTENER
from mesh.discovery.resource import Resource
from mesh.discovery.session import Acked, Event, Nacked
from mesh.discovery.wire import pack_any
from mesh.model import WorkloadName
from mesh.node import Generation, Manifest, PodRecord, Record, WorkloadRecord
from mesh.resources import BODY_TYPE, GENERATION_TYPE, MANIFEST_TYPE, TABLE_TYPES, encode
from sluice.mesh_directory import cgroup2_mount
from xds.server import AdsServer

pytestmark = pytest.mark.root

WEB = WorkloadName("shop", "web")
ADDRESSES = ("10.99.0.2", "fd51:ce00:63:1::2")
REASON = "CiliumNetworkPolicy shop/web ingress[0].toPorts[0]"


def ip(*commands: str, netns: str | None = None) -> None:
    where = ["-n", netns] if netns else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands), text=True, check=True)


class ControlPlane:
    """Serves what `say` was told last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._snapshot: dict[str, dict[str, Resource]] = {}
        self._server: AdsServer | None = None
        self.applied: list[str] = []
        self.refusals: list[dict[str, str]] = []

    async def start(self) -> None:
        self._server = AdsServer(lambda node: self._snapshot or None, self._hear)
        await self._server.start([f"unix:{self._path}"])

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        self._server = None

    def say(
        self, number: int, *records: tuple[str, str, Record], bodies: dict[str, bytes] | None = None
    ) -> None:
        snapshot: dict[str, dict[str, Resource]] = {}
        for type_url, name, record in (*records, (GENERATION_TYPE, "generation", Generation(number))):
            resource = Resource.of(type_url, name, encode(record))
            version = str(number) if type_url == GENERATION_TYPE else resource.version
            snapshot.setdefault(type_url, {})[name] = Resource(name, version, resource.any)
        for name, body in (bodies or {}).items():
            snapshot.setdefault(BODY_TYPE, {})[name] = Resource.of(BODY_TYPE, name, body)
        self._snapshot = snapshot
        if self._server is not None:
            self._server.publish(None)

    def _hear(self, node: str, event: Event) -> None:
        assert node == "node~node1"
        match event:
            case Acked(type_url=type_url, versions=versions) if type_url == GENERATION_TYPE:
                self.applied += versions.values()
            case Nacked(type_url=type_url, message=message) if type_url == MANIFEST_TYPE:
                self.refusals = json.loads(message)


class Node:
    """A node's namespace with one pod, and the agent in it."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex[:8]
        self.name = f"agt{self.id}"
        self.state, self.run = folder / "state", Path("/run") / self.name
        self.pin = Path("/sys/fs/bpf") / self.name
        self.cgroup = cgroup2_mount() / self.name
        self.control_plane = ControlPlane(self.run / "xds.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        self.run.mkdir(mode=0o700)
        self.cgroup.mkdir()
        (self.state / "sandboxes").mkdir(parents=True)
        pod = f"{self.name}p"
        ip(f"netns add {self.name}", f"netns add {pod}")
        host = f"slc{self.id}"
        ip(f"link add {host} type veth peer name eth0 netns {pod}", netns=self.name)
        ip("link set lo up", f"link set {host} up", netns=self.name)
        ip("link set lo up", "link set eth0 up", netns=pod)
        document = {
            "namespace": "shop", "name": "web", "uid": self.id, "node": "node1", "netns": f"/run/netns/{pod}",
            "host_interface": host, "addresses": list(ADDRESSES), "ready": True,
        }  # fmt: skip
        (self.state / "sandboxes" / "shop_web.json").write_text(json.dumps(document))

    def start_agent(self) -> None:
        command = [
            "nsenter", f"--net=/run/netns/{self.name}", sys.executable, "-m", "agent", "--name", self.name,
            "--state", str(self.state), "--run", str(self.run), "--pin", str(self.pin), "--cgroup",
            str(self.cgroup), "--node", "node1", "--control-plane", f"unix:{self.run / 'xds.sock'}",
        ]  # fmt: skip
        with (self.state / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, cwd=Path(__file__).parents[2])

    def kill_agent(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    async def status(self) -> dict[str, Any]:
        """What the agent says; {} while it does not answer."""
        connector = aiohttp.UnixConnector(str(self.run / "agent-admin.sock"))
        try:
            async with aiohttp.ClientSession(connector=connector) as session:
                async with session.get("http://agent/status") as answer:
                    status: dict[str, Any] = await answer.json()
                    return status
        except aiohttp.ClientError:
            return {}

    async def until(self, what: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first status that fits."""
        async with asyncio.timeout(40):
            while not ((status := await self.status()) and what(status)):
                await asyncio.sleep(0.02)
        return status

    def remove(self) -> None:
        self.kill_agent()
        for folder in (*self.cgroup.glob("proxies/*"), self.cgroup / "proxies", self.cgroup):
            if folder.is_dir():
                _remove(folder)
        ip(f"netns delete {self.name}p", f"netns delete {self.name}")
        shutil.rmtree(self.pin, ignore_errors=True)
        shutil.rmtree(self.run)


def _remove(cgroup: Path) -> None:
    """A cgroup is busy until the last process in it is reaped."""
    for _ in range(500):
        for pid in (cgroup / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            cgroup.rmdir()
            return
        except OSError:
            time.sleep(0.01)
    raise AssertionError(f"{cgroup} stays busy")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    try:
        made.make()
        await made.control_plane.start()
        made.start_agent()
        yield made
    finally:
        await made.control_plane.stop()
        made.remove()


def records(**pod: Any) -> list[tuple[str, str, Record]]:
    workload = WorkloadRecord(WEB, 300, tuple((address, 0) for address in ADDRESSES), "node1")
    return [
        (TABLE_TYPES["workloads"], "shop/web", workload),
        (TABLE_TYPES["pods"], "shop/web", PodRecord(WEB, ADDRESSES, 300, **pod)),
    ]


def is_enforced(status: dict[str, Any]) -> bool:
    return any(pod["name"] == "shop/web" and pod["enforced"] for pod in status["pods"])


async def test_a_pod_is_enforced_when_its_generation_is_in_force_and_not_before(node: Node) -> None:
    status = await node.until(lambda status: status["pods"])
    assert not is_enforced(status)
    assert status["generation"] == 0
    node.control_plane.say(7, *records())
    status = await node.until(is_enforced)
    assert status["generation"] == 7
    await node.until(lambda _: node.control_plane.applied == ["7"])


async def test_an_agent_that_starts_while_the_control_plane_is_away_enforces_what_it_did(node: Node) -> None:
    node.control_plane.say(7, *records())
    saved = node.state / "agent" / "last-good"
    before = await node.until(lambda status: is_enforced(status) and saved.exists())
    node.kill_agent()
    await node.control_plane.stop()
    node.start_agent()
    after = await node.until(is_enforced)
    assert after["generation"] == 7
    assert after["kernel_generation"] == before["kernel_generation"], "nothing had to be written"
    await node.control_plane.start()
    node.control_plane.say(8, *records(routes=False))
    await node.until(lambda status: status["generation"] == 8)


async def test_what_an_envoy_refuses_is_told_upstream_and_holds_up_nothing(node: Node) -> None:
    manifest = Manifest(WEB, {LISTENER: {"bad": "h1"}})
    node.control_plane.say(
        7,
        *records(reasons=(REASON,)),
        (MANIFEST_TYPE, "shop/web", manifest),
        bodies={"h1": pack_any(LISTENER, b"\xff\xff")},
    )
    status = await node.until(is_enforced)
    (problem,) = status["problems"]
    assert (problem["pod"], problem["type"], problem["name"]) == ("shop/web", LISTENER, "bad")
    await node.until(lambda _: node.control_plane.refusals)
    assert node.control_plane.refusals == [problem]
    await node.until(lambda status: status["pods"][0]["proxy"]["ready"])


async def test_an_envoy_outlives_the_agent_and_is_restarted_when_it_dies_itself(node: Node) -> None:
    node.control_plane.say(7, *records(reasons=(REASON,)), (MANIFEST_TYPE, "shop/web", Manifest(WEB, {})))

    def is_ready(status: dict[str, Any]) -> bool:
        return bool(status["pods"] and status["pods"][0]["proxy"]["ready"])

    pid = (await node.until(is_ready))["pods"][0]["proxy"]["pid"]
    node.kill_agent()
    node.start_agent()
    assert (await node.until(is_ready))["pods"][0]["proxy"]["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    await node.until(lambda status: is_ready(status) and status["pods"][0]["proxy"]["pid"] != pid)
    node.control_plane.say(8, *records())
    status = await node.until(lambda status: not status["pods"][0]["proxy"]["running"])
    assert status["generation"] == 8
