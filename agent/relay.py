"""What one Envoy sees of the control plane: a discovery server on a Unix socket of its own, and the receiver
of its access log.

Who asks is known by the socket, never by what the client says of itself. The protocol is
`mesh.discovery.session`; what to serve, and when, is `mesh.rollout`'s business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from agent import access_log
from agent.access_log import Logged
from mesh.discovery.envoy import CLUSTER, ENVOY_TYPES, LISTENER
from mesh.discovery.resource import Snapshot
from mesh.discovery.session import Event, Session, Subscribed
from mesh.discovery.wire import WireError

log = logging.getLogger(__name__)

_DISCOVERY = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
)
#: An Envoy that has not asked for these yet is still at its start.
_FIRST_TYPES = {CLUSTER, LISTENER}

#: Type URL -> name -> content hash.
Accepted = Mapping[str, Mapping[str, str]]


@dataclass(slots=True)
class _Stream:
    session: Session
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    subscribed: set[str] = field(default_factory=set)
    settled: int = 0


class Relay:
    """The sockets `xds.sock` and `als.sock` in a folder that only root may enter."""

    def __init__(
        self,
        folder: Path,
        on_event: Callable[[Event], None],
        on_settled: Callable[[int], None],
        on_logged: Callable[[Logged], None],
    ) -> None:
        """`on_settled(revision)`: everything of that revision was sent and accepted."""
        self._folder = folder
        self._on_event = on_event
        self._on_settled = on_settled
        self._on_logged = on_logged
        self._served: tuple[int, Snapshot] | None = None
        self._newest: _Stream | None = None
        self._streams: list[_Stream] = []
        self._server: Any = None

    @property
    def discovery(self) -> Path:
        return self._folder / "xds.sock"

    @property
    def access_log(self) -> Path:
        return self._folder / "als.sock"

    async def start(self) -> None:
        """Listen. Raises OSError, or RuntimeError where gRPC cannot bind."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        for path in (self.discovery, self.access_log):
            path.unlink(missing_ok=True)
            self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()
        for path in (self.discovery, self.access_log):
            path.chmod(0o600)

    async def stop(self) -> None:
        """Hang up and stop listening."""
        await self._server.stop(grace=None)

    def serve(self, revision: int, snapshot: Snapshot) -> None:
        """From now on serve this."""
        self._served = (revision, snapshot)
        for stream in self._streams:
            stream.wake.set()

    def accepted(self) -> Accepted:
        """What the Envoy that is connected has accepted; nothing while there is none."""
        if self._newest is None or self._newest not in self._streams:
            return {}
        return {type_url: self._newest.session.acked(type_url) for type_url in ENVOY_TYPES}

    async def discover(self, _: Any, context: Any) -> None:
        """One discovery stream, until either end closes it."""
        stream = _Stream(Session(ENVOY_TYPES, delta=True))
        self._streams.append(stream)
        self._newest = stream
        reader = asyncio.create_task(self._read(stream, context))
        reader.add_done_callback(lambda _: stream.wake.set())
        try:
            while not reader.done():
                stream.wake.clear()
                await self._write(stream, context)
                await stream.wake.wait()
        finally:
            reader.cancel()
            self._streams.remove(stream)

    async def receive_log(self, messages: AsyncIterator[bytes], _: Any) -> bytes:
        """One access-log stream."""
        async for message in messages:
            try:
                for logged in access_log.entries(message):
                    self._on_logged(logged)
            except WireError as error:
                log.warning("read the access log of %s failed: %s", self._folder.name, error)
            except Exception:
                # It holds what users' requests and filters left there.
                log.exception("some records of %s are passed over: a fault of ours", self._folder.name)
        return b""

    async def _write(self, stream: _Stream, context: Any) -> None:
        if self._served is None:
            return
        revision, snapshot = self._served
        stream.session.update(snapshot)
        while (message := stream.session.send()) is not None:
            await context.write(message)
        is_news = stream is self._newest and self._served[0] == revision != stream.settled
        if is_news and stream.subscribed >= _FIRST_TYPES and stream.session.settled():
            stream.settled = revision
            self._on_settled(revision)

    async def _read(self, stream: _Stream, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            try:
                events = stream.session.receive(message)
            except WireError as error:
                log.warning("read a request of Envoy %s failed: %s", self._folder.name, error)
                return
            for event in events:
                if isinstance(event, Subscribed):
                    stream.subscribed.add(event.type_url)
                elif stream is self._newest:
                    self._on_event(event)
            stream.wake.set()


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == _DISCOVERY:
            return grpc.stream_stream_rpc_method_handler(self._relay.discover)
        if handler_call_details.method == access_log.METHOD:
            return grpc.stream_unary_rpc_method_handler(self._relay.receive_log)
        return None
