"""All Envoys of this node: one for each pod that needs it, none for the others.

Envoys of an earlier agent are adopted; those of pods that are gone are ended. Knows which pods need a
proxy because it is told so, not why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from agent.access_log import Logged
from agent.envoy import running
from agent.proxy import BOOTSTRAP, ListenerTable, Places, Proxy, Reports
from agent.relay import Accepted
from agent.sandbox import Sandbox
from mesh.discovery.resource import Table
from mesh.discovery.session import Event
from mesh.model import WorkloadName
from mesh.node import Launch
from mesh.rollout import Serving

log = logging.getLogger(__name__)


class Proxies:
    """`launch(pod)` says how an Envoy is to be started. `on_*` are called in the event loop;
    `on_stopped(pod)` when nothing of a proxy is left."""

    def __init__(
        self,
        places: Places,
        table: ListenerTable,
        *,
        launch: Callable[[WorkloadName], Launch],
        on_event: Callable[[WorkloadName, Event], None],
        on_ready: Callable[[WorkloadName, int], None],
        on_down: Callable[[Sandbox], None],
        on_logged: Callable[[Sandbox, Logged], None],
        on_stopped: Callable[[WorkloadName], None],
    ) -> None:
        self._places = places
        self._table = table
        self._launch = launch
        self._on_event = on_event
        self._on_ready = on_ready
        self._on_down = on_down
        self._on_logged = on_logged
        self._on_stopped = on_stopped
        self._proxies: dict[WorkloadName, Proxy] = {}
        self._ending: dict[WorkloadName, asyncio.Task[None]] = {}
        self._failed: dict[WorkloadName, str] = {}

    async def want(
        self, pods: Mapping[WorkloadName, Sandbox], present: Mapping[WorkloadName, Sandbox]
    ) -> None:
        """Have a proxy for each of `pods`. Others drain and end; those whose sandbox is not among
        `present` end at once."""
        for pod, proxy in list(self._proxies.items()):
            gone = present.get(pod) != proxy.sandbox
            ending = self._ending.get(pod)
            if ending is not None and not proxy.draining:
                continue
            if gone or (pod in pods and ending is not None):
                if ending is not None:
                    self._ending.pop(pod).cancel()
            if gone or (pod not in pods and ending is None):
                self._end(pod, proxy, drain=not gone)
        self._failed = {pod: why for pod, why in self._failed.items() if pod in pods}
        for pod, sandbox in pods.items():
            if pod not in self._proxies:
                await self._start(pod, sandbox)

    @property
    def failing(self) -> bool:
        """Is there one that could not be started? It is tried again with the next `want`."""
        return bool(self._failed)

    async def adopt(self, present: Mapping[WorkloadName, Sandbox]) -> None:
        """Take over the Envoys of an earlier agent, and end those that belong to no pod any more."""
        owners = {str(self._places.folder(sandbox) / BOOTSTRAP): sandbox for sandbox in present.values()}
        for pid, bootstrap in running(self._places.cgroup):
            sandbox = owners.get(bootstrap)
            if sandbox is not None:
                await self._start(sandbox.pod, sandbox)
            elif bootstrap.startswith(f"{self._places.run}/"):
                log.info("Envoy %d has no pod any more and is ended", pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def serve(self, pod: WorkloadName, serving: Serving, snapshot: Mapping[str, Table]) -> None:
        """What a pod's proxy is to serve from now on, if it has one."""
        if pod in self._proxies:
            self._proxies[pod].serve(serving, snapshot)

    def served(self, pod: WorkloadName) -> tuple[Serving, Mapping[str, Table]]:
        """What a pod's proxy is to serve, as names and as resources. Revision 0: nothing yet."""
        proxy = self._proxies.get(pod)
        return (proxy.serving, proxy.snapshot) if proxy else (Serving(0, {}), {})

    def running(self) -> set[WorkloadName]:
        """Pods that have a proxy, be it one that drains."""
        return set(self._proxies)

    def pid(self, pod: WorkloadName) -> int | None:
        proxy = self._proxies.get(pod)
        return proxy.pid if proxy else None

    async def metrics(self, pod: WorkloadName) -> str:
        """What a pod's Envoy counts itself, in Prometheus' text format; "" if none answers."""
        proxy = self._proxies.get(pod)
        if proxy is None or proxy.pid is None:
            return ""
        try:
            return await proxy.metrics()
        except OSError as error:
            log.warning("the Envoy of pod %s does not tell its metrics: %s", pod, error)
            return ""

    def error(self, pod: WorkloadName) -> str:
        """Why the pod's proxy does not run or serve; "" when nothing is wrong."""
        proxy = self._proxies.get(pod)
        return proxy.error if proxy else self._failed.get(pod, "")

    def admin(self, pod: WorkloadName) -> Path | None:
        """The admin socket of the pod's Envoy, if one runs."""
        proxy = self._proxies.get(pod)
        return proxy.admin if proxy and proxy.pid else None

    def accepted(self, pod: WorkloadName) -> Accepted:
        """What the pod's Envoy has accepted, by its own account."""
        proxy = self._proxies.get(pod)
        return proxy.accepted() if proxy else {}

    async def _start(self, pod: WorkloadName, sandbox: Sandbox) -> None:
        proxy = Proxy(
            sandbox,
            self._places,
            self._table,
            lambda: self._launch(pod),
            Reports(
                event=lambda event: self._on_event(pod, event),
                ready=lambda revision: self._on_ready(pod, revision),
                down=lambda: self._on_down(sandbox),
                logged=lambda logged: self._on_logged(sandbox, logged),
            ),
        )
        try:
            await proxy.start()
        except (OSError, RuntimeError) as error:
            why = f"start the proxy of pod {pod} failed: {error}"
            if self._failed.get(pod) != why:
                log.error("%s", why)
            self._failed[pod] = why
        else:
            self._failed.pop(pod, None)
            self._proxies[pod] = proxy

    def _end(self, pod: WorkloadName, proxy: Proxy, *, drain: bool) -> None:
        async def end() -> None:
            await proxy.stop(drain=drain)
            del self._proxies[pod]
            del self._ending[pod]
            self._on_stopped(pod)

        self._ending[pod] = asyncio.get_running_loop().create_task(end())
