"""The discovery service on gRPC: streams in, `mesh.discovery.session.Session` in the middle, bytes out.

It carries bytes and wakes writers. What is sent, and in which order, is the session's decision;
what a node's snapshot holds is the caller's. Messages pass gRPC as raw bytes, so no generated
class is ever built.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

from mesh.discovery.envoy import CLUSTER, ENDPOINTS, ENVOY_TYPES, EXTENSION, LISTENER, ROUTES, SECRET
from mesh.discovery.resource import Snapshot
from mesh.discovery.session import Event, Session
from mesh.discovery.wire import WireError
from mesh.resources import NODE_TYPES

log = logging.getLogger(__name__)

#: What our own nodes ask for, then what an Envoy or gRPC client that comes by itself asks for.
DEFAULT_ORDER = (*NODE_TYPES, *ENVOY_TYPES)

_OPTIONS = (
    # Without these two gRPC resets all but about 3000 of the streams that come at once.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    # An older server that was forgotten must be an error, not share the port.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 64 << 20),
    # A peer that vanished without a word is noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_SERVICES: Mapping[str, tuple[str, str]] = {
    "envoy.service.cluster.v3.ClusterDiscoveryService": ("Clusters", CLUSTER),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": ("Endpoints", ENDPOINTS),
    "envoy.service.listener.v3.ListenerDiscoveryService": ("Listeners", LISTENER),
    "envoy.service.route.v3.RouteDiscoveryService": ("Routes", ROUTES),
    "envoy.service.extension.v3.ExtensionConfigDiscoveryService": ("ExtensionConfigs", EXTENSION),
    "envoy.service.secret.v3.SecretDiscoveryService": ("Secrets", SECRET),
}


class AdsServer:
    """Serves each node the newest snapshot that `snapshot_for(node id)` gives.

    A node for which it gives None waits, its stream open and silent, until one is published: "not
    yet known" never means "removed". `on_event` is told, in order, what each client subscribes to,
    accepts and refuses. Everything runs in the event loop that `start` runs in.
    """

    def __init__(
        self,
        snapshot_for: Callable[[str], Snapshot | None],
        on_event: Callable[[str, Event], None] = lambda node, event: None,
        *,
        order: Sequence[str] = DEFAULT_ORDER,
    ) -> None:
        self._snapshot_for = snapshot_for
        self._on_event = on_event
        self._streams: defaultdict[str, set[_Stream]] = defaultdict(set)
        self._calls: set[asyncio.Task[Any]] = set()
        self._server: Any = None
        self._order = order

    async def start(self, addresses: Iterable[str]) -> list[int]:
        """Listen on each address (`unix:/path`, mode 0600, or `host:port`, port 0 for any free one)
        and return the ports, in order. Raises OSError if one cannot be bound."""
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_Handlers(self._methods()),))
        ports = []
        for address in addresses:
            try:
                port = server.add_insecure_port(address)
            except RuntimeError as error:
                raise OSError(
                    f"listen on {address} for discovery: {error}; is another control plane running?"
                ) from error
            if address.startswith("unix:"):
                os.chmod(address.removeprefix("unix:").removeprefix("//"), 0o600)
            ports.append(port)
        await server.start()
        self._server = server
        return ports

    async def stop(self) -> None:
        """End every stream and stop listening; clients keep what they have."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
        # gRPC cancels the calls and does not wait for them: a loop that is closed now would break them off.
        if self._calls:
            await asyncio.wait(self._calls)

    def publish(self, node: str | None = None) -> None:
        """Say that the snapshot of a node (None: of all) is another one now. A stream that is busy
        takes only the newest when it comes to it."""
        if node is not None:
            chosen: Iterable[set[_Stream]] = (self._streams.get(node, set()),)
        else:
            chosen = self._streams.values()
        for streams in chosen:
            for stream in streams:
                stream.is_stale = True
                stream.wake.set()

    def accepted(self, node: str, type_url: str) -> Mapping[str, str]:
        """Name -> version of what the node's clients hold of a type by their own account, from
        earlier streams too."""
        return {
            name: version
            for stream in self._streams.get(node, ())
            for name, version in stream.session.acked(type_url).items()
        }

    def nodes(self) -> Mapping[str, int]:
        """Node id -> number of its open streams."""
        return {node: len(streams) for node, streams in self._streams.items()}

    def _methods(self) -> dict[str, Any]:
        ads = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
        methods = {
            ads + "StreamAggregatedResources": self._method(self._order, delta=False),
            ads + "DeltaAggregatedResources": self._method(self._order, delta=True),
        }
        for service, (plural, type_url) in _SERVICES.items():
            methods[f"/{service}/Stream{plural}"] = self._method((type_url,), delta=False)
            methods[f"/{service}/Delta{plural}"] = self._method((type_url,), delta=True)
        return methods

    def _method(self, order: Sequence[str], *, delta: bool) -> Any:
        async def serve(requests: Any, context: Any) -> None:
            if (call := asyncio.current_task()) is not None:
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            await self._serve(_Stream(Session(order, delta=delta)), requests, context)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _serve(self, stream: _Stream, requests: Any, context: Any) -> None:
        malformed: WireError | None = None
        try:
            # If the writer fails, the group ends the reader with it: no stream is left half alive.
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(stream, context))
                try:
                    await self._read(stream, requests)
                except WireError as error:
                    malformed = error
                writer.cancel()
        finally:
            self._forget(stream)
        if malformed is not None:
            log.warning(
                "the discovery stream of node %r ends: a request is malformed: %s", stream.node, malformed
            )
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(malformed))

    async def _read(self, stream: _Stream, requests: Any) -> None:
        async for request in requests:
            events = stream.session.receive(request)
            if stream.node is None:
                stream.node = stream.session.node
                self._streams[stream.node].add(stream)
            for event in events:
                self._on_event(stream.node, event)
            if not stream.session.settled():
                stream.wake.set()

    async def _write(self, stream: _Stream, context: Any) -> None:
        while True:
            await stream.wake.wait()
            stream.wake.clear()
            if stream.is_stale and (snapshot := self._snapshot_for(stream.session.node)) is not None:
                stream.is_stale = False
                stream.session.update(snapshot)
            while (response := stream.session.send()) is not None:
                try:
                    await context.write(response)
                except grpc.aio.BaseError:
                    return  # The client is gone; the reader learns it too.

    def _forget(self, stream: _Stream) -> None:
        if stream.node is not None:
            self._streams[stream.node].discard(stream)
            if not self._streams[stream.node]:
                del self._streams[stream.node]


class _Stream:
    """A session and its writer's alarm. It is stale until it has the newest snapshot, and of no
    node until the first request."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.node: str | None = None
        self.wake = asyncio.Event()
        self.is_stale = True


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._methods = methods

    def service(self, details: Any) -> Any:
        return self._methods.get(details.method)
