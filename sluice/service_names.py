"""The Services of the mesh and their addresses, as the control plane last told them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from mesh.model import ServiceName
from sluice.hosts import Services

#: Seconds a long poll stays open (while a node cannot apply what is new, names lag by as much), and
#: the time between two questions while the control plane is away.
_LONG, _PAUSE = 5, 0.05


class ServiceNames:
    """Follows the control plane; while it is away the last known addresses stay."""

    def __init__(self, control_plane: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        self._control_plane = control_plane
        self._changed = changed
        self.services: Services = {}
        #: False until the control plane has answered once: then hosts files are left as they are.
        self.known = False
        #: The generation that pods' hosts files are at.
        self.generation = 0

    async def follow(self) -> None:
        while True:
            try:
                async with self._control_plane.get("/services") as answer:
                    answer.raise_for_status()
                    status = await answer.json()
                self._take(status)
                following = {"generation": str(status["generation"] + 1), "timeout": str(_LONG)}
                async with self._control_plane.get("/wait", params=following) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
                await asyncio.sleep(_PAUSE)

    def _take(self, status: dict[str, Any]) -> None:
        services: dict[ServiceName, tuple[str, ...]] = {}
        for service in status["services"]:
            namespace, _, name = service["name"].partition("/")
            if service["addresses"]:
                services[ServiceName(namespace, name)] = tuple(service["addresses"])
        self.services, self.known, self.generation = services, True, status["generation"]
        self._changed()
