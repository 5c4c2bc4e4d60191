"""Readiness probes, as the kubelet does them, from the node's namespace."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

import aiohttp
from yarl import URL

from mesh.model import Exec, HttpGet, Probe, TcpSocket
from sluice.processes import Process

#: Until a container is ready for the first time it is asked at least this often (seconds), so that
#: the start of a mesh does not last as long as Kubernetes' default period of 10 s.
STARTING_PERIOD = 0.2


class Prober:
    """Asks one container. `launch` runs a command inside it; one that is `eager` to start is asked more often
    until it is ready for the first time."""

    def __init__(
        self,
        probe: Probe,
        address: str,
        http: aiohttp.ClientSession,
        launch: Callable[[Sequence[str]], Process],
        *,
        eager: bool = True,
    ) -> None:
        self._probe = probe
        self._address = address
        self._http = http
        self._launch = launch
        self._eager = eager

    async def watch(self, ready: bool, report: Callable[[bool], None]) -> None:
        """Report each change of readiness for ever, starting from `ready`."""
        probe = self._probe
        started = ready or not self._eager
        row = 0  # answers in a row that differ from the state reported
        if not ready:
            await asyncio.sleep(probe.initial_delay)
        while True:
            answer = await self._ask()
            row = row + 1 if answer != ready else 0
            if row >= (probe.success_threshold if answer else probe.failure_threshold):
                ready, row = answer, 0
                started = started or ready
                report(ready)
            await asyncio.sleep(probe.period if started else min(probe.period, STARTING_PERIOD))

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._probe.timeout):
                match self._probe.action:
                    case Exec(command):
                        return await self._run(command)
                    case HttpGet() as get:
                        return await self._get(get)
                    case TcpSocket(port, host):
                        _, writer = await asyncio.open_connection(host or self._address, port)
                        writer.close()
                        return True
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            # ValueError: a header or path that no request can have. It is never ready, and is asked on.
            return False

    async def _get(self, get: HttpGet) -> bool:
        host = get.host or self._address
        host = f"[{host}]" if ":" in host else host
        url = URL(f"{get.scheme.lower()}://{host}:{get.port}{get.path}", encoded=True)
        async with self._http.get(url, headers=get.headers, allow_redirects=False, ssl=False) as answer:
            return 200 <= answer.status < 400

    async def _run(self, command: Sequence[str]) -> bool:
        process = self._launch(command)
        try:
            return await process.wait() == 0
        except asyncio.CancelledError:
            process.signal(signal.SIGKILL)
            await process.wait()
            raise
