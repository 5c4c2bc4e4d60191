"""The agent's own HTTP interface on a Unix socket: is this pod enforced, status, flows, metrics."""

from __future__ import annotations

import json
from pathlib import Path

from aiohttp import web

from agent.flows import FlowLog
from agent.node_agent import NodeAgent
from agent.telemetry.scrape import CONTENT_TYPE
from agent.telemetry.scrape import PATH as METRICS
from mesh.answers.flow import Flow
from mesh.model import WorkloadName

#: Flows in an answer that does not say how many.
DEFAULT_LAST = 100


class Admin:
    """`GET /status`, `GET /pods/<namespace>/<pod>`, `GET /proxies`, `GET /flows?last=N&follow=1`, and
    `GET /stats/prometheus` of the agent and all pods, below `/pods/<namespace>/<pod>` of one pod and its
    Envoy."""

    def __init__(self, agent: NodeAgent) -> None:
        self._agent = agent
        self._flows: FlowLog = agent.flows

    async def serve(self, path: Path) -> None:
        """Answer on `path`, which only root may open, from now on. Raises OSError."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/pods/{namespace}/{pod}", self._pod),
                web.get("/proxies", self._proxies),
                web.get("/flows", self._show_flows),
                web.get(METRICS, self._metrics),
                web.get("/pods/{namespace}/{pod}" + METRICS, self._pod_metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        await web.UnixSite(runner, path).start()
        path.chmod(0o600)

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._agent.status())

    async def _pod(self, request: web.Request) -> web.Response:
        pod = WorkloadName(request.match_info["namespace"], request.match_info["pod"])
        return web.json_response({"enforced": self._agent.is_enforced(pod)})

    async def _proxies(self, _: web.Request) -> web.Response:
        return web.json_response(self._agent.proxies())

    async def _metrics(self, _: web.Request) -> web.Response:
        return _prometheus(await self._agent.metrics.node(self._agent.status()))

    async def _pod_metrics(self, request: web.Request) -> web.Response:
        pod = WorkloadName(request.match_info["namespace"], request.match_info["pod"])
        if not self._agent.has(pod):
            raise web.HTTPNotFound(text=f"pod {pod} is not on this node\n")
        return _prometheus(await self._agent.metrics.pod(pod))

    async def _show_flows(self, request: web.Request) -> web.StreamResponse:
        try:
            last = int(request.query.get("last", DEFAULT_LAST))
        except ValueError:
            raise web.HTTPBadRequest(text="last is not a number\n") from None
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        if request.query.get("follow", "") in ("", "0"):
            await response.write(b"".join(map(_line, self._flows.last(last))))
            return response
        async for flow in self._flows.follow(last):
            await response.write(_line(flow))
        return response


def _prometheus(text: str) -> web.Response:
    return web.Response(text=text, headers={"Content-Type": CONTENT_TYPE})


def _line(flow: Flow) -> bytes:
    return json.dumps(flow.to_json(), separators=(",", ":")).encode() + b"\n"
