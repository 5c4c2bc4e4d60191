"""Where Prometheus finds a pod's metrics: `:15020/stats/prometheus` and `:15090/stats/prometheus` on the
pod's own addresses, as with Istio.

The sockets are the agent's, made inside the pod's namespace once there is something to tell. Who connects is
judged like anyone who connects to that port of the pod. A pod whose application has such a port keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from agent.kernel.error import KernelError
from agent.kernel.namespace import run_in_netns
from agent.sandbox import Sandbox
from mesh.model import WorkloadName

log = logging.getLogger(__name__)

#: Istio's ports: the agent's merged metrics and Envoy's own.
PORTS = (15020, 15090)
PATH = "/stats/prometheus"
#: Prometheus' text format.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BACKLOG = 16
#: Connections to one port of a pod. Prometheus needs one.
MOST = 8

#: The metrics of a pod, as text.
Tell = Callable[[WorkloadName], Awaitable[str]]
#: Calls what may block elsewhere.
Aside = Callable[..., Awaitable[Any]]


class Scrapes:
    """The servers of this node's pods."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._open: dict[Sandbox, list[web.ServerRunner]] = {}

    async def want(self, pods: Mapping[WorkloadName, Sandbox], aside: Aside) -> None:
        """Serve these pods and no others. A socket that stayed open would keep a namespace alive."""
        wanted = set(pods.values())
        for sandbox in self._open.keys() - wanted:
            for runner in self._open.pop(sandbox):
                await runner.cleanup()
        for sandbox in wanted - self._open.keys():
            self._open[sandbox] = []
            for port in PORTS:
                await self._serve(sandbox, port, aside)

    async def _serve(self, sandbox: Sandbox, port: int, aside: Aside) -> None:
        pod = sandbox.pod
        try:
            own = await aside(partial(run_in_netns, sandbox.netns, partial(_listen, port)))
        except (KernelError, OSError) as error:
            log.warning("serve the metrics of pod %s on port %d failed: %s", pod, port, error)
            return
        runner = web.ServerRunner(_Bounded(partial(self._answer, pod), access_log=None))
        await runner.setup()
        await web.SockSite(runner, own, backlog=_BACKLOG).start()
        self._open[sandbox].append(runner)

    async def _answer(self, pod: WorkloadName, request: web.BaseRequest) -> web.Response:
        if request.path != PATH:
            return web.Response(status=404, text=f"metrics are at {PATH}\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        return web.Response(text=await self._tell(pod), headers={"Content-Type": CONTENT_TYPE})


class _Bounded(web.Server):
    """Whoever is one too many takes the place of the one that came first: the silent are in nobody's way, and
    a pod cannot use up the agent's descriptors."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > MOST:
            self.connections[0].force_close()


def _listen(port: int) -> socket.socket:
    """On all of the pod's addresses, of both families where it has both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
