"""A second, independent client: gRPC's own xDS, in a process of its own (its settings are global)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, LISTENER, ROUTES
from mesh.discovery.session import Nacked
from tests.protocol.proxied import PATIENCE, api_listener, cluster, endpoints, routes
from tests.protocol.served import NODE, Served

TARGET = "echo.shop:80"
#: Calls once for each line it reads, and says who answered.
CLIENT = """
import sys, grpc
channel = grpc.insecure_channel("xds:///" + sys.argv[1])
for line in sys.stdin:
    try:
        answer = channel.unary_unary("/test.Echo/Who")(b"", timeout=20, wait_for_ready=True).decode()
    except grpc.RpcError as error:
        answer = f"{error.code().name}: {error.details()}"
    print(answer, flush=True)
"""


@contextlib.asynccontextmanager
async def echo(name: str) -> AsyncIterator[int]:
    """A gRPC server that says its name; its port."""

    async def who(request: bytes, context: Any) -> bytes:
        return name.encode()

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(who)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Handlers(),))
    port: int = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


class Caller:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return (await asyncio.wait_for(self._process.stdout.readline(), 2 * PATIENCE)).decode().strip()

    async def until_answered_by(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.call() != name:
                pass


@contextlib.asynccontextmanager
async def caller(discovery: str) -> AsyncIterator[Caller]:
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": discovery,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": NODE},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CLIENT,
        TARGET,
        env=os.environ | {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Caller(process)
    finally:
        process.kill()
        await process.wait()


async def test_a_proxyless_client_finds_its_service_and_follows_it(served: Served) -> None:
    async with echo("one") as one, echo("two") as two, caller(served.address) as client:
        served.set(LISTENER, api_listener(TARGET, "r"))
        served.set(ROUTES, routes("r", "echo"))
        served.set(CLUSTER, cluster("echo"))
        served.put(ENDPOINTS, endpoints("echo", one))
        assert await client.call() == "one"
        served.put(ENDPOINTS, endpoints("echo", two))
        await client.until_answered_by("two")
        served.put(CLUSTER, cluster("other"))
        served.put(ENDPOINTS, endpoints("other", one))
        served.put(ROUTES, routes("r", "other"))
        await client.until_answered_by("one")
    assert not [event for _, event in served.events if isinstance(event, Nacked)]
