"""Envoy's admin interface on its Unix socket: is it ready, what is warming, who is connected.

Only questions; nothing here changes an Envoy. Knows no mesh.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

#: Seconds for one answer. Envoy's main thread answers, so a busy one may take its time.
TIMEOUT = 2.0

#: What waits: clusters, and what listeners miss. Gauges tell it too, but Envoy's main thread walks all its
#: statistics for one of them, half a second with a thousand clusters, in which it takes no configuration.
_WARMING = ("/config_dump?resource=dynamic_warming_clusters", "/init_dump")
_CONNECTIONS = "^listener.*downstream_cx_active$"


class EnvoyAdmin:
    """Every method raises OSError (or TimeoutError, which is one) when Envoy does not answer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def is_live(self) -> bool:
        """`/ready` answers 200."""
        status, _ = await self._get("/ready")
        return status == 200

    async def is_warming(self) -> bool:
        """Does some listener or cluster still wait for what it refers to?"""
        return any([await self._json(question) for question in _WARMING])

    async def listeners(self) -> set[str]:
        """Names of the active listeners."""
        _, body = await self._get("/listeners")
        return {line.partition("::")[0] for line in body.splitlines() if line}

    async def connections(self) -> int:
        """Downstream connections that are open, but for those of this interface."""
        stats = await self._gauges(_CONNECTIONS)
        return sum(value for name, value in stats.items() if not name.startswith("listener.admin."))

    async def prometheus(self) -> str:
        """Envoy's own metrics that were ever used, in Prometheus' text format."""
        _, body = await self._get("/stats/prometheus?usedonly")
        return body

    async def _gauges(self, pattern: str) -> dict[str, int]:
        found = await self._json(f"/stats?format=json&type=Gauges&filter={_quoted(pattern)}")
        return {entry["name"]: entry["value"] for entry in found.get("stats", ()) if "name" in entry}

    async def _json(self, target: str) -> dict[str, Any]:
        status, body = await self._get(target)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if status != 200 or not isinstance(found, dict):
            raise OSError(f"Envoy at {self._path} answered {target} with {status} and {body[:200]!r}")
        return found

    async def _get(self, target: str) -> tuple[int, str]:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(self._path)
            try:
                # The answer ends with the connection.
                writer.write(f"GET {target} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n".encode())
                return _answer(await reader.read(-1))
            finally:
                writer.close()


def _answer(data: bytes) -> tuple[int, str]:
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise OSError("Envoy's admin interface answered with no status")
    if b"transfer-encoding: chunked" in head.lower():
        body = _unchunked(body)
    return int(words[1]), body.decode(errors="replace")


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.partition(b";")[0] or b"0", 16)
        if not length:
            break
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)


def _quoted(pattern: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else f"%{ord(c):02X}" for c in pattern)
