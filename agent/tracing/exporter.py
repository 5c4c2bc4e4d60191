"""Takes OpenTelemetry's spans to a collector: OTLP over gRPC or HTTP, to an address that is asked for each
time, because backends come and go. What cannot be sent at once is lost and counted.

OpenTelemetry's own exporters dial one endpoint for ever and are told headers by the environment, which is the
operator's and not the mesh's.
"""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mesh.node import Collector

log = logging.getLogger(__name__)

Addresses = Callable[[Collector], tuple[tuple[str, int], ...]]

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#: Seconds, where the provider sets none.
_TIMEOUT = 1.0
#: Backends that are tried.
_TRIES = 2


class OtlpExporter(SpanExporter):
    """To one collector; called on a thread of OpenTelemetry's."""

    def __init__(self, collector: Collector, addresses: Addresses) -> None:
        self._collector = collector
        self._addresses = addresses
        self._timeout = collector.timeout_ms / 1000 or _TIMEOUT
        self._dialled: tuple[str, int] | None = None
        self._channel: Any = None
        self._is_failing = False
        #: Spans that were lost.
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them, to the first that takes them."""
        body = encode_spans(spans).SerializeToString()
        why: object = "no backend is ready"
        for address in self._addresses(self._collector)[:_TRIES]:
            try:
                self._send(address, body)
            except (OSError, http.client.HTTPException, grpc.RpcError) as error:
                why = error
            else:
                self._is_failing = False
                return SpanExportResult.SUCCESS
        self.lost += len(spans)
        if not self._is_failing:
            log.warning("send spans to %s:%d failed: %s", self._collector.host, self._collector.port, why)
        self._is_failing = True
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def _send(self, address: tuple[str, int], body: bytes) -> None:
        if self._collector.path:
            self._post(address, body)
            return
        if address != self._dialled:
            self.shutdown()
            ip, port = address
            target = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            options = [("grpc.default_authority", self._collector.host), ("grpc.enable_http_proxy", 0)]
            self._channel, self._dialled = grpc.insecure_channel(target, options), address
        self._channel.unary_unary(_METHOD)(body, timeout=self._timeout, metadata=self._collector.headers)

    def _post(self, address: tuple[str, int], body: bytes) -> None:
        to = self._collector
        headers = {"host": f"{to.host}:{to.port}", "content-type": "application/x-protobuf"}
        connection = http.client.HTTPConnection(*address, timeout=self._timeout)
        try:
            connection.request("POST", to.path, body, headers | dict(to.headers))
            status = connection.getresponse().status
        finally:
            connection.close()
        if status >= 300:
            raise http.client.HTTPException(f"it answers {status}")
