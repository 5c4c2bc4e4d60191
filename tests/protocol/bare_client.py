"""A discovery client that does nothing by itself: raw messages over gRPC, in both variants.

Silence is asserted without waiting: the client asks for something of a type that is served after
all others, so whatever the server still had to say would come before the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc.aio

from mesh.discovery.wire import DeltaRequest, DeltaResponse, DiscoveryRequest, DiscoveryResponse, fields, text
from tests.protocol.served import NODE

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
SENTINEL = "type.googleapis.com/sluice.test.Sentinel"
_PATIENCE = 10.0

Response = TypeVar("Response", DiscoveryResponse, DeltaResponse)


class _Client(Generic[Response]):
    method: str

    def __init__(self, address: str, method: str | None = None, node: str = NODE) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        )
        self._call: Any = self._channel.stream_stream(method or self.method)()
        self._node: str | None = node
        self._sentinels = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()

    def _first_node(self) -> str | None:
        node, self._node = self._node, None
        return node

    async def write(self, message: bytes) -> None:
        await self._call.write(message)

    async def read(self) -> bytes:
        message = await asyncio.wait_for(self._call.read(), _PATIENCE)
        assert isinstance(message, bytes), "the server ended the stream"
        return message

    async def status(self) -> grpc.StatusCode:
        code: grpc.StatusCode = await asyncio.wait_for(self._call.code(), _PATIENCE)
        return code


class WorldClient(_Client[DiscoveryResponse]):
    """State of the world. It remembers names, version and nonce per type and repeats them in ACKs."""

    method = ADS + "StreamAggregatedResources"

    def __init__(self, address: str, method: str | None = None, node: str = NODE) -> None:
        super().__init__(address, method, node)
        self.names: dict[str, tuple[str, ...]] = {}
        self.accepted: dict[str, DiscoveryResponse] = {}

    async def ask(self, type_url: str, *names: str) -> None:
        """Subscribe to exactly these names of a type."""
        self.names[type_url] = names
        last = self.accepted.get(type_url, DiscoveryResponse(type_url, "", ""))
        await self.write(
            DiscoveryRequest(type_url, self._first_node(), names, last.version, last.nonce).encode()
        )

    async def next(self) -> DiscoveryResponse:
        return DiscoveryResponse.decode(await self.read())

    async def ack(self, response: DiscoveryResponse) -> None:
        self.accepted[response.type_url] = response
        await self.ask(response.type_url, *self.names[response.type_url])

    async def nack(self, response: DiscoveryResponse, message: str) -> None:
        last = self.accepted.get(response.type_url, DiscoveryResponse(response.type_url, "", ""))
        names = self.names[response.type_url]
        await self.write(
            DiscoveryRequest(
                response.type_url, None, names, last.version, response.nonce, error=message
            ).encode()
        )

    async def take(self, type_url: str) -> dict[str, bytes]:
        """The next response, which must be of this type, by name; accepted."""
        response = await self.next()
        assert response.type_url == type_url
        await self.ack(response)
        return contents(response)

    async def assert_silent(self) -> None:
        self._sentinels += 1
        await self.ask(SENTINEL, *(f"sentinel-{n}" for n in range(self._sentinels)))
        assert await self.take(SENTINEL) == {}


class DeltaClient(_Client[DeltaResponse]):
    """Delta. It remembers nothing."""

    method = ADS + "DeltaAggregatedResources"

    async def ask(
        self,
        type_url: str,
        *subscribe: str,
        unsubscribe: tuple[str, ...] = (),
        initial: Mapping[str, str] | None = None,
    ) -> None:
        await self.write(
            DeltaRequest(type_url, self._first_node(), subscribe, unsubscribe, initial or {}).encode()
        )

    async def next(self) -> DeltaResponse:
        return DeltaResponse.decode(await self.read())

    async def ack(self, response: DeltaResponse) -> None:
        await self.write(DeltaRequest(response.type_url, nonce=response.nonce).encode())

    async def nack(self, response: DeltaResponse, message: str) -> None:
        await self.write(DeltaRequest(response.type_url, nonce=response.nonce, error=message).encode())

    async def take(self, type_url: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """The next response, which must be of this type: name -> version, and what is removed."""
        response = await self.next()
        assert response.type_url == type_url
        await self.ack(response)
        return {name: version for name, version, _ in response.resources}, response.removed

    async def assert_silent(self) -> None:
        self._sentinels += 1
        await self.ask(SENTINEL, f"sentinel-{self._sentinels}")
        assert await self.take(SENTINEL) == ({}, (f"sentinel-{self._sentinels}",))


def contents(response: DiscoveryResponse) -> dict[str, bytes]:
    """Name (field 1 of the message) -> encoded Any."""
    found = {}
    for any_ in response.resources:
        body = next(data for number, _, data in fields(any_) if number == 2)
        found[next(text(data) for number, _, data in fields(body) if number == 1)] = any_
    return found


def versions(*resources: Any) -> dict[str, str]:
    return {resource.name: resource.version for resource in resources}


def anys(*resources: Any) -> dict[str, bytes]:
    return {resource.name: resource.any for resource in resources}
