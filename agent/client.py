"""The node's one stream to the control plane: it stays connected, and hands on what comes.

`mesh.discovery.subscriber` knows the protocol; this file knows gRPC and when to try again. What
updates mean, when they are accepted and where they are kept is the caller's business, and nothing
is taken back while the control plane is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio

from mesh.discovery.subscriber import Subscriber, Update
from mesh.discovery.wire import WireError

log = logging.getLogger(__name__)

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A new connection for each attempt: no subchannel of an earlier one with its own backoff.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
#: Seconds between attempts: the first, doubled up to the last (rule 28).
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 0.5


class DiscoveryClient:
    """Calls `on_update` in the event loop for each update, in order; answer each, at once or later,
    with `ack` or `nack`. One that was not acknowledged when the connection broke comes again, and
    the late answer to the first is dropped."""

    def __init__(
        self,
        target: str,
        node: str,
        types: Sequence[str],
        on_update: Callable[[Update], None],
        known: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """`target`: gRPC address such as `unix:/run/xds.sock`; `types`: in the order of subscribing;
        `known`: type -> name -> version of what the caller still holds from an earlier life."""
        self._target = target
        self._subscriber = Subscriber(node, types, known or {})
        self._on_update = on_update
        self._requests: asyncio.Queue[bytes] = asyncio.Queue()
        self._connected = False

    @property
    def connected(self) -> bool:
        """Did the control plane answer on the present stream?"""
        return self._connected

    def ack(self, update: Update) -> None:
        """Accept an update."""
        self._enqueue(self._subscriber.ack(update))

    def nack(self, update: Update, message: str) -> None:
        """Refuse an update; `message` is shown to the control plane's user."""
        self._enqueue(self._subscriber.nack(update, message))

    async def run(self) -> NoReturn:
        """Connect, and again whenever the stream ends, until cancelled. An outage is logged once
        when it begins and once when it is over."""
        backoff = FIRST_BACKOFF
        reported = False
        while True:
            try:
                await self._stream(reported)
                reason = "the control plane closed the stream"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            except WireError as error:
                reason = f"a response is malformed: {error}"
            outage = f"connect to {self._target} failed"
            if self._connected:
                self._connected, reported, backoff = False, False, FIRST_BACKOFF
                outage = f"the stream from {self._target} broke"
            if not reported:
                log.warning(
                    "%s; %s; is the control plane running? "
                    "The last good state stays in force; trying again every %g s",
                    outage,
                    reason,
                    LAST_BACKOFF,
                )
                reported = True
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF)

    async def _stream(self, reported: bool) -> None:
        requests: asyncio.Queue[bytes] = asyncio.Queue()
        for request in self._subscriber.connect():
            requests.put_nowait(request)
        self._requests = requests
        async with grpc.aio.insecure_channel(self._target, options=_OPTIONS) as channel:
            call = channel.stream_stream(_METHOD)(wait_for_ready=False)
            writer = asyncio.create_task(_write(call, requests))
            try:
                async for response in call:
                    if not self._connected:
                        self._connected = True
                        if reported:
                            log.info("connected to %s again", self._target)
                    self._on_update(self._subscriber.receive(response))
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                call.cancel()

    def _enqueue(self, request: bytes) -> None:
        if request:
            self._requests.put_nowait(request)


async def _write(call: Any, requests: asyncio.Queue[bytes]) -> None:
    while True:
        await call.write(await requests.get())
