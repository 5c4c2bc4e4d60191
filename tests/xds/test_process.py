"""`python -m xds` as a process, with a bare discovery client, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from mesh.discovery.subscriber import Subscriber, Update
from mesh.resources import GENERATION_TYPE, MANIFEST_TYPE, NODE_TYPES
from tests.threats.key_server import saying, serving
from tests.xds.manifests import SHOP, http_policy, policy, write_sandboxes

PATIENCE = 30
#: A public key on P-256 (RFC 7517, A.1).
KEYS = (
    '{"keys": [{"kty": "EC", "crv": "P-256", "kid": "the-key", '
    '"x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", '
    '"y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}'
)
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class ControlPlane:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests = folder / "m"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *more: str) -> None:
        arguments = ["--name", "test", "--state", f"{self.folder}/s", "--run", f"{self.folder}/r"]
        with open(self.folder / "log", "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "xds", *arguments, "-f", str(self.manifests), *more, stderr=log
            )
        while True:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                await self.ask("/status")
                return
            if self.process.returncode is not None:
                pytest.fail((self.folder / "log").read_text())
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def ask(self, path: str, body: str | None = None) -> Any:
        connector = aiohttp.UnixConnector(f"{self.folder}/r/xds-admin.sock")
        async with aiohttp.ClientSession("http://xds", connector=connector) as session:
            method = "GET" if body is None else "POST"
            async with session.request(method, path, data=body) as response:
                return await response.json()


class Node:
    """An agent without a kernel: accepts everything, and keeps what it has when the stream breaks."""

    def __init__(self, folder: Path) -> None:
        self._address = f"unix:{folder}/r/xds.sock"
        self._subscriber = Subscriber("node~local", NODE_TYPES)
        self.held: dict[str, dict[str, str]] = {type_url: {} for type_url in NODE_TYPES}
        self.updates: list[Update] = []

    @property
    def generation(self) -> int:
        return int(self.held[GENERATION_TYPE].get("generation", 0))

    async def follow(self, until: Any) -> None:
        """Connect, and accept updates until the condition holds."""
        async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(self._address) as channel:
            call = channel.stream_stream(ADS)()
            for request in self._subscriber.connect():
                await call.write(request)
            while not until():
                update = self._subscriber.receive(await call.read())
                self.updates.append(update)
                held = self.held[update.type_url]
                held.update({name: resource.version for name, resource in update.changed.items()})
                for name in update.removed:
                    held.pop(name, None)
                await call.write(self._subscriber.ack(update))
            await call.done_writing()
            # The end of the stream says that the last ACK was read.
            while await call.read() is not grpc.aio.EOF:
                pass


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    plane.manifests.mkdir()
    (plane.manifests / "shop.yaml").write_text(SHOP)
    (plane.manifests / "items.yaml").write_text(http_policy())
    write_sandboxes(tmp_path / "s")
    await plane.start()
    yield plane
    if plane.process is not None and plane.process.returncode is None:
        await plane.kill()


async def test_a_saved_file_reaches_the_node_and_its_acceptance_ends_the_wait(plane: ControlPlane) -> None:
    node = Node(plane.folder)
    await node.follow(until=lambda: node.generation == 1)
    assert set(node.held[MANIFEST_TYPE]) == {"shop/cart"}
    assert [update.type_url for update in node.updates][-1] == GENERATION_TYPE
    following = asyncio.create_task(node.follow(until=lambda: node.generation == 2))
    (plane.manifests / "p.yaml").write_text(policy("p"))
    await following
    answer = await plane.ask(f"/wait?generation=2&timeout={PATIENCE}")
    assert answer == {"generation": 2, "applied": {"local": 2}}


async def test_killed_and_started_again_it_sends_nothing_and_knows_what_the_node_holds(
    plane: ControlPlane,
) -> None:
    node = Node(plane.folder)
    (plane.manifests / "p.yaml").write_text(policy("p"))
    await node.follow(until=lambda: node.generation == 2)
    await plane.ask("/apply", policy("q"))
    await node.follow(until=lambda: node.generation == 3)
    status = await plane.ask("/status")
    held = {type_url: dict(versions) for type_url, versions in node.held.items()}
    for _ in range(3):
        await plane.kill()
        await plane.start()
        assert (await plane.ask("/status")) | {"applied": None} == status | {"applied": None}
    node.updates.clear()
    following = asyncio.create_task(node.follow(until=lambda: node.generation > status["generation"]))
    reached = status["generation"]
    answer = await plane.ask(f"/wait?generation={reached}&timeout={PATIENCE}")
    assert answer["applied"] == {"local": reached}
    assert not any(update.changed or update.removed for update in node.updates)
    assert node.held == held
    (plane.manifests / "p.yaml").unlink()
    await following
    assert node.generation == reached + 1


async def test_what_happened_to_files_while_it_was_dead_is_noticed(plane: ControlPlane) -> None:
    (plane.manifests / "broken.yaml").write_text("a: [")
    await plane.kill()
    (plane.manifests / "items.yaml").unlink()
    await plane.start()
    status = await plane.ask("/status")
    assert [problem["field"] for problem in status["problems"]] == ["line 1"]
    assert (await plane.ask("/render"))["pods"]["shop/cart"]["reasons"] == []


async def test_keys_are_fetched_from_where_the_operator_allows_it_and_survive(plane: ControlPlane) -> None:
    async def until(condition: Callable[[dict[str, Any], str], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(await plane.ask("/status"), str(await plane.ask("/render?pod=shop/cart"))):
                await asyncio.sleep(0.02)

    async with serving(saying(KEYS)) as server:
        (plane.manifests / "tokens.yaml").write_text(
            "{apiVersion: security.istio.io/v1, kind: RequestAuthentication, "
            "metadata: {name: t, namespace: shop},"
            f" spec: {{jwtRules: [{{issuer: i, jwksUri: '{server.url()}'}}]}}}}"
        )
        await until(lambda status, _: "--jwks-allow does not name it" in str(status["problems"]))
        assert server.paths == []
        await plane.kill()
        await plane.start("--jwks-allow", "127.0.0.1")
        await until(lambda status, rendered: not status["problems"] and "the-key" in rendered)
        generation = (await plane.ask("/status"))["generation"]
        await plane.kill()
        server.answer = saying("", 500)
        await plane.start("--jwks-allow", "127.0.0.1")
        assert "the-key" in str(await plane.ask("/render?pod=shop/cart"))
        await until(lambda status, _: "the keys from before stay in force" in str(status["problems"]))
        assert (await plane.ask("/status"))["generation"] == generation
        assert KEYS not in (plane.folder / "log").read_text()


async def test_a_second_one_on_the_same_state_is_refused_in_one_line(plane: ControlPlane) -> None:
    arguments = ["--name", "test", "--state", f"{plane.folder}/s", "--run", f"{plane.folder}/r"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "xds", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().count("\n") == 1
    assert "another control plane" in said.decode()
    await plane.ask("/status")


async def test_a_signal_ends_it_cleanly(plane: ControlPlane) -> None:
    assert plane.process is not None
    os.kill(plane.process.pid, signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        assert await plane.process.wait() == 0


async def test_it_fits_into_its_memory_with_proxies_rendered(plane: ControlPlane) -> None:
    assert plane.process is not None
    status = Path(f"/proc/{plane.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < 130 << 10
