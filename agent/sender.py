"""Takes messages to a collector, over gRPC or HTTP, to an address that is asked for each time,
because backends come and go.

OpenTelemetry's own exporters dial one endpoint for ever and are told headers by the environment, which is the
operator's and not the mesh's.
"""

from __future__ import annotations

import http.client
from typing import Any

import grpc

from agent.collectors import Addresses
from mesh.node import Collector

#: Seconds, where the provider sets none.
_TIMEOUT = 1.0
_TYPES = {
    "otlp": "application/x-protobuf",
    "zipkin": "application/json",
    "zipkin-64": "application/json",
}
#: Backends that are tried.
_TRIES = 2


class CollectorError(Exception):
    """A collector did not take a message; the text says where it is and why."""


class Sender:
    """To one collector, from one thread at a time; `method` is that of gRPC."""

    def __init__(self, collector: Collector, addresses: Addresses, method: str) -> None:
        self._collector = collector
        self._addresses = addresses
        self._method = method
        self._timeout = collector.timeout_ms / 1000 or _TIMEOUT
        self._dialled: tuple[str, int] | None = None
        self._channel: Any = None

    def send(self, body: bytes) -> None:
        """To the first backend that takes it. Raises CollectorError."""
        to = self._collector
        why: object = "no backend is ready"
        for address in self._addresses(to)[:_TRIES]:
            try:
                if to.path:
                    self._post(address, body)
                else:
                    self._call(address, body)
            except (OSError, http.client.HTTPException, grpc.RpcError) as error:
                why = error
            else:
                return
        raise CollectorError(f"{to.host}:{to.port}: {why}")

    def close(self) -> None:
        """Let go of the connection."""
        if self._channel is not None:
            self._channel.close()

    def _call(self, address: tuple[str, int], body: bytes) -> None:
        if address != self._dialled:
            self.close()
            ip, port = address
            target = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            options = [("grpc.default_authority", self._collector.host), ("grpc.enable_http_proxy", 0)]
            self._channel, self._dialled = grpc.insecure_channel(target, options), address
        self._channel.unary_unary(self._method)(body, timeout=self._timeout, metadata=self._collector.headers)

    def _post(self, address: tuple[str, int], body: bytes) -> None:
        to = self._collector
        headers = {"host": f"{to.host}:{to.port}", "content-type": _TYPES[to.form]}
        connection = http.client.HTTPConnection(*address, timeout=self._timeout)
        try:
            connection.request("POST", to.path, body, headers | dict(to.headers))
            status = connection.getresponse().status
        finally:
            connection.close()
        if status >= 300:
            raise http.client.HTTPException(f"it answers {status}")
