"""Takes OpenTelemetry's spans to a collector, as OTLP, as Zipkin's JSON or as Datadog's."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agent.collectors import Addresses
from agent.sender import Sender
from agent.tracing import datadog, zipkin
from mesh.node import Collector

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Exporter(SpanExporter):
    """To one collector; called on a thread of OpenTelemetry's."""

    def __init__(self, collector: Collector, addresses: Addresses) -> None:
        self._collector = collector
        self._sender = Sender("spans", collector, addresses, _METHOD)

    @property
    def lost(self) -> int:
        """Spans that nobody took."""
        return self._sender.lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them, to the first that takes them."""
        sent = self._sender.send(self._encoded(spans), len(spans))
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def _encoded(self, spans: Sequence[ReadableSpan]) -> bytes:
        match self._collector.form:
            case "otlp":
                return bytes(encode_spans(spans).SerializeToString())
            case "datadog":
                return datadog.encode_spans(spans)
            case form:
                return zipkin.encode_spans(spans, long_ids=form == "zipkin")

    def shutdown(self) -> None:
        self._sender.close()
