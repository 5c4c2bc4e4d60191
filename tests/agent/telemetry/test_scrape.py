"""Who scrapes, and who only connects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.sandbox import Sandbox
from agent.telemetry import scrape
from mesh.model import WorkloadName

POD = WorkloadName("shop", "web")


async def test_silent_connections_are_bounded_and_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    own = scrape.socket.create_server(("127.0.0.1", 0))
    port = own.getsockname()[1]
    monkeypatch.setattr(scrape, "PORTS", (port,))

    async def tell(_: WorkloadName) -> str:
        return "up 1\n"

    async def aside(_: Any) -> Any:
        return own

    sandbox = Sandbox(POD, "uid", Path("/none"), "slckey", ("127.0.0.1",))
    scrapes = scrape.Scrapes(tell)
    await scrapes.want({POD: sandbox}, aside)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5 * scrape.MOST)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {scrape.PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        assert (await reader.read()).endswith(b"up 1\n")
        ended = [await one.read() for one, _ in silent[: -scrape.MOST]]
    assert ended == [b""] * (4 * scrape.MOST)
    await scrapes.want({}, aside)
    for _, one in silent:
        one.close()
    writer.close()
