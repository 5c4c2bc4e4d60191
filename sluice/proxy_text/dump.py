"""The parts of Envoy's `/config_dump` (envoy.admin.v3.ConfigDump). Resources are handed on as Envoy
printed them: the active ones, dynamic before static. What still warms is not in force and not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Data = dict[str, Any]

_PREFIX = "type.googleapis.com/envoy.admin.v3."


def part(dump: Data, kind: str) -> Data:
    """One part by its message's name, such as `ClustersConfigDump`; empty where Envoy has none."""
    return next((found for found in dump["configs"] if found["@type"] == _PREFIX + kind), {})


def clusters(dump: Data) -> Iterator[tuple[str, Data]]:
    """Version and cluster; that of a static one is empty."""
    found = part(dump, "ClustersConfigDump")
    for entry in (*found.get("dynamic_active_clusters", ()), *found.get("static_clusters", ())):
        yield entry.get("version_info", ""), entry["cluster"]


def listeners(dump: Data) -> Iterator[tuple[str, Data]]:
    """Version and listener."""
    found = part(dump, "ListenersConfigDump")
    for entry in found.get("dynamic_listeners", ()):
        if active := entry.get("active_state"):
            yield active.get("version_info", ""), active["listener"]
    for entry in found.get("static_listeners", ()):
        yield "", entry["listener"]


def routes(dump: Data) -> Iterator[tuple[str, Data]]:
    """Version and route configuration."""
    found = part(dump, "RoutesConfigDump")
    for entry in (*found.get("dynamic_route_configs", ()), *found.get("static_route_configs", ())):
        yield entry.get("version_info", ""), entry["route_config"]


def address(holder: Data) -> tuple[str, int]:
    """Host and port of an envoy.config.core.v3.Address; a Unix socket is `unix://PATH` and port 0."""
    if socket := holder.get("socket_address"):
        return socket["address"], socket.get("port_value", 0)
    return f"unix://{holder.get('pipe', {}).get('path', '')}", 0
