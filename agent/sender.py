"""Takes messages to a collector, over gRPC or HTTP, to an address that is asked for each time, because
backends come and go. What cannot be sent at once is lost and counted.

OpenTelemetry's own exporters dial one endpoint for ever and are told headers by the environment, which is the
operator's and not the mesh's.
"""

from __future__ import annotations

import http.client
import logging
from typing import Any

import grpc

from agent.collectors import Addresses
from mesh.node import Collector, Form

log = logging.getLogger(__name__)

#: Seconds, where the provider sets none.
_TIMEOUT = 1.0
#: Method and content type of each form over HTTP.
_HTTP: dict[Form, tuple[str, str]] = {
    "otlp": ("POST", "application/x-protobuf"),
    "zipkin": ("POST", "application/json"),
    "zipkin-64": ("POST", "application/json"),
    "datadog": ("PUT", "application/json"),
}
#: Backends that are tried.
_TRIES = 2


class Sender:
    """Of `what` (spans, say) to one collector, from one thread at a time; `method` is that of gRPC."""

    def __init__(self, what: str, collector: Collector, addresses: Addresses, method: str) -> None:
        self._what = what
        self._collector = collector
        self._addresses = addresses
        self._method = method
        self._is_failing = False
        #: Of `what`, how many nobody took.
        self.lost = 0
        self._timeout = collector.timeout_ms / 1000 or _TIMEOUT
        self._dialled: tuple[str, int] | None = None
        self._channel: Any = None

    def send(self, body: bytes, count: int) -> bool:
        """A message with so many, to the first backend that takes it. False if none does; the first time is
        logged."""
        to = self._collector
        why: object = "no backend is ready"
        for address in self._addresses(to)[:_TRIES]:
            try:
                if to.path:
                    self._request(address, body, count)
                else:
                    self._call(address, body)
            except (OSError, http.client.HTTPException, grpc.RpcError) as error:
                why = error
            else:
                self._is_failing = False
                return True
        self.lost += count
        if not self._is_failing:
            log.warning("send %s to %s:%d failed: %s", self._what, to.host, to.port, why)
        self._is_failing = True
        return False

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

    def _request(self, address: tuple[str, int], body: bytes, count: int) -> None:
        to = self._collector
        method, content = _HTTP[to.form]
        headers = {"host": f"{to.host}:{to.port}", "content-type": content}
        if to.form == "datadog":
            # Without the second the answer is 200 also to what is dropped.
            headers |= {"x-datadog-trace-count": str(count), "datadog-send-real-http-status": "true"}
        connection = http.client.HTTPConnection(*address, timeout=self._timeout)
        try:
            connection.request(method, to.path, body, headers | dict(to.headers))
            status = connection.getresponse().status
        finally:
            connection.close()
        if status >= 300:
            raise http.client.HTTPException(f"it answers {status}")
