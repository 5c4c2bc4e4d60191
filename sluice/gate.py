"""What a pod waits for before its containers start."""

from __future__ import annotations

from typing import Protocol

import aiohttp

from mesh.model import WorkloadName


class Gate(Protocol):
    """Decides when a pod may run. A gate that cannot tell says no and is asked again."""

    async def is_enforced(self, pod: WorkloadName) -> bool: ...


class AgentGate:
    """Opens when the node's agent enforces policy on the pod's link."""

    def __init__(self, agent: aiohttp.ClientSession) -> None:
        self._agent = agent

    async def is_enforced(self, pod: WorkloadName) -> bool:
        try:
            async with self._agent.get(f"/pods/{pod.namespace}/{pod.name}") as answer:
                return answer.status == 200 and bool((await answer.json()).get("enforced"))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False
