"""Takes OpenTelemetry's spans to a collector, as OTLP or as Zipkin's JSON. What cannot be sent at once is
lost and counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agent.collectors import Addresses
from agent.sender import CollectorError, Sender
from agent.tracing import zipkin
from mesh.node import Collector

log = logging.getLogger(__name__)

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Exporter(SpanExporter):
    """To one collector; called on a thread of OpenTelemetry's."""

    def __init__(self, collector: Collector, addresses: Addresses) -> None:
        self._collector = collector
        self._sender = Sender(collector, addresses, _METHOD)
        self._is_failing = False
        #: Spans that were lost.
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them, to the first that takes them."""
        try:
            self._sender.send(self._encoded(spans))
        except CollectorError as error:
            self.lost += len(spans)
            if not self._is_failing:
                log.warning("send spans failed: %s", error)
            self._is_failing = True
            return SpanExportResult.FAILURE
        self._is_failing = False
        return SpanExportResult.SUCCESS

    def _encoded(self, spans: Sequence[ReadableSpan]) -> bytes:
        form = self._collector.form
        if form == "otlp":
            return bytes(encode_spans(spans).SerializeToString())
        return zipkin.encode_spans(spans, long_ids=form == "zipkin")

    def shutdown(self) -> None:
        self._sender.close()
