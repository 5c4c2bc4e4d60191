"""What a real Envoy says of itself: ready is not before nothing warms any more (rule 27)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.envoy_admin import EnvoyAdmin
from proxy_configs.binary import envoy_binary

#: Somebody who never answers: what is asked of him stays away for ever.
NOBODY = {
    "api_config_source": {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "nobody"}}],
    },
    "initial_fetch_timeout": "0s",
    "resource_api_version": "V3",
}
TYPES = "type.googleapis.com/envoy"
MANAGER = f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {
    "name": "router",
    "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"},
}


def listener(routes: dict[str, Any]) -> dict[str, Any]:
    manager = {"@type": MANAGER, "stat_prefix": "x", "http_filters": [ROUTER], **routes}
    return {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": "door",
        "address": {"pipe": {"path": "@sluice-test-door"}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def cluster(**settings: Any) -> dict[str, Any]:
    return {"@type": f"{TYPES}.config.cluster.v3.Cluster", "name": "shop", **settings}


SETTLED = listener({"route_config": {"name": "here"}})
WITHOUT_ROUTES = listener({"rds": {"route_config_name": "elsewhere", "config_source": NOBODY}})
WITHOUT_ENDPOINTS = cluster(type="EDS", eds_cluster_config={"eds_config": NOBODY})


class FileFed:
    """An Envoy that is given resources by files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in ("lds", "cds"):
            self.give(kind)
        paths = {kind: {"path": f"{folder}/{kind}.json"} for kind in ("lds", "cds")}
        sources = {f"{kind}_config": {"path_config_source": path} for kind, path in paths.items()}
        config = folder / "envoy.json"
        config.write_text(
            json.dumps(
                {
                    "node": {"id": "x", "cluster": "x"},
                    "admin": {"address": {"pipe": {"path": f"{folder}/admin.sock"}}},
                    "dynamic_resources": sources,
                    "static_resources": {"clusters": [{"name": "nobody", "type": "STATIC"}]},
                }
            )
        )
        binary = envoy_binary()
        assert binary is not None
        self.process = subprocess.Popen(
            [binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "off"]
        )
        self.admin = EnvoyAdmin(folder / "admin.sock")

    def give(self, kind: str, *resources: dict[str, Any]) -> None:
        # Envoy looks when a file is moved to the place.
        beside = self._folder / "new"
        beside.write_text(json.dumps({"resources": resources}))
        beside.rename(self._folder / f"{kind}.json")

    async def says(self, stat: str, value: int) -> bool:
        """Its own gauge, within ten seconds."""
        async with asyncio.timeout(10):
            while (await self.admin._gauges(f"^{stat}$")).get(stat) != value:
                await asyncio.sleep(0.02)
        return True


@pytest.fixture
async def envoy() -> AsyncIterator[FileFed]:
    """One that is live."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        envoy = FileFed(Path(folder))
        try:
            async with asyncio.timeout(10):
                while not await is_live(envoy.admin):
                    await asyncio.sleep(0.02)
            yield envoy
        finally:
            envoy.process.kill()
            envoy.process.wait()


async def is_live(admin: EnvoyAdmin) -> bool:
    try:
        return await admin.is_live()
    except OSError:
        return False


async def test_an_envoy_with_all_it_refers_to_warms_nothing(envoy: FileFed) -> None:
    envoy.give("cds", cluster(type="STATIC"))
    envoy.give("lds", SETTLED)
    assert await envoy.says("listener_manager.total_listeners_active", 1)
    assert await envoy.says("cluster_manager.active_clusters", 2)
    assert await envoy.admin.listeners() == {"door"}
    assert not await envoy.admin.is_warming()


async def test_a_listener_without_its_routes_is_warming(envoy: FileFed) -> None:
    envoy.give("lds", WITHOUT_ROUTES)
    assert await envoy.says("listener_manager.total_listeners_warming", 1)
    assert await envoy.admin.is_warming()


async def test_a_listener_that_is_replaced_is_warming_while_the_old_one_serves(envoy: FileFed) -> None:
    envoy.give("lds", SETTLED)
    assert await envoy.says("listener_manager.total_listeners_active", 1)
    envoy.give("lds", WITHOUT_ROUTES)
    assert await envoy.says("listener_manager.total_listeners_warming", 1)
    assert await envoy.admin.is_warming()


async def test_a_cluster_without_its_endpoints_is_warming(envoy: FileFed) -> None:
    envoy.give("cds", WITHOUT_ENDPOINTS)
    assert await envoy.says("cluster_manager.warming_clusters", 1)
    assert await envoy.admin.is_warming()


async def test_an_envoy_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        await EnvoyAdmin(tmp_path / "nobody").is_warming()
