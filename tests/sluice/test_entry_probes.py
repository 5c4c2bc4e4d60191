"""Health of machines outside: whose it is, and what becomes of it when things change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from mesh.model import Probe
from sluice.entry_probes import EntryProbes
from sluice.mesh_directory import MeshDirectory
from sluice.probes import Prober
from sluice.registration import workload_entry

ISTIO = "networking.istio.io/v1"
HERE = "192.0.2.7"


class Near(Prober):
    """Of the machines one is this one, and no other answers."""

    def __init__(self, probe: Probe, address: str, *rest: Any, **more: Any) -> None:
        super().__init__(probe, "127.0.0.1" if address == HERE else "127.0.0.2", *rest, **more)


def group(port: int, **more: Any) -> dict[str, Any]:
    probe = {"periodSeconds": 1, "failureThreshold": 1, "tcpSocket": {"port": port}}
    metadata = {"name": "legacy", "namespace": "shop"}
    spec = {"template": {}, "probe": probe, **more}
    return {"apiVersion": ISTIO, "kind": "WorkloadGroup", "metadata": metadata, "spec": spec}


class Store:
    """What the supervisor sees of a mesh on disk, and what it writes."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.mesh = cast(MeshDirectory, SimpleNamespace(state=state, objects=state / "objects"))

    def put(self, item: dict[str, Any], folder: str = "objects") -> None:
        path = self.state / folder / item["kind"] / f"shop_{item['metadata']['name']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}")
        beside.write_text(json.dumps(item))
        beside.rename(path)

    def health(self) -> dict[str, bool]:
        files = (self.state / "health").glob("*.json")
        return {path.stem: json.loads(path.read_text())["healthy"] for path in files}

    async def becomes(self, health: dict[str, bool]) -> None:
        async with asyncio.timeout(20):
            while self.health() != health:
                await asyncio.sleep(0.02)


def entry(port: int, address: str) -> dict[str, Any]:
    found = workload_entry(group(port), address, {}, {})
    found["metadata"]["name"] = "one"
    return found


async def test_health_is_of_the_machine_that_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another address begins anew; an unreadable group leaves the last valid one in force, over a restart."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = Store(tmp_path)
    store.put(group(port))
    store.put(entry(port, HERE))
    monkeypatch.setattr("sluice.entry_probes.Prober", Near)
    async with server, aiohttp.ClientSession() as http:
        keeping = asyncio.create_task(EntryProbes(store.mesh).keep(http))
        try:
            await store.becomes({"shop_one": True})
            store.put(group(port), "last-valid")
            store.put(group(port, unknown=1))
            await asyncio.sleep(0.2)
            assert store.health() == {"shop_one": True}
        finally:
            keeping.cancel()
        keeping = asyncio.create_task(EntryProbes(store.mesh).keep(http))
        try:
            await asyncio.sleep(0.3)
            assert store.health() == {"shop_one": True}, "another supervisor finds it as it was"
            store.put(entry(port, "192.0.2.8"))
            await store.becomes({})
            store.put(entry(port, HERE))
            await store.becomes({"shop_one": True})
            server.close()
            await store.becomes({"shop_one": False})
        finally:
            keeping.cancel()
