"""Spans by OpenTelemetry's SDK: a provider for each pod, whose resource is that of its Envoy's spans, a queue
for each collector. Loaded only where somebody is traced: the SDK costs memory.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from agent.collectors import Addresses
from agent.tracing.exporter import Exporter
from agent.tracing.span import Context, Span
from mesh.node import Collector, TracingRecord

#: Milliseconds that a span waits for others, spans that wait, and those of one message.
_DELAY, _QUEUE, _BATCH = 500, 2048, 256


class Tracers:
    """`addresses` says where a collector is at the moment."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._tracers: dict[TracingRecord, Tracer] = {}
        self._queues: dict[Collector, tuple[BatchSpanProcessor, Exporter]] = {}
        self._lost = 0

    @property
    def lost(self) -> int:
        """Spans that no collector took."""
        return self._lost + sum(exporter.lost for _, exporter in self._queues.values())

    def emit(self, span: Span) -> Context:
        """Tell a span that has ended; which one it became."""
        parent = set_span_in_context(NonRecordingSpan(_context(span.parent))) if span.parent else None
        made = self._tracer(span.record).start_span(
            span.name,
            context=parent,
            kind=SpanKind.CLIENT,
            attributes={**dict(span.record.tags), **span.attributes},
            links=[Link(_context(link)) for link in span.links],
            start_time=span.start,
        )
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(span.end)
        told = made.get_span_context()
        return Context(told.trace_id, told.span_id)

    def keep(self, records: Collection[TracingRecord]) -> None:
        """Forget all others; what waits for their collectors is still sent."""
        self._tracers = {record: own for record, own in self._tracers.items() if record in records}
        for collector in self._queues.keys() - {record.collector for record in records}:
            queue, exporter = self._queues.pop(collector)
            self._lost += exporter.lost
            threading.Thread(target=queue.shutdown, daemon=True).start()

    def _tracer(self, record: TracingRecord) -> Tracer:
        if record not in self._tracers:
            # Not Resource.create: it adds what the environment and the SDK say of themselves.
            resource = Resource(
                {
                    "service.name": record.service_name,
                    "service.version": record.version,
                    "k8s.namespace.name": record.pod.namespace,
                    "k8s.pod.name": record.pod.name,
                }
            )
            provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
            provider.add_span_processor(self._queue(record.collector))
            self._tracers[record] = provider.get_tracer("sluice")
        return self._tracers[record]

    def _queue(self, collector: Collector) -> BatchSpanProcessor:
        if collector not in self._queues:
            exporter = Exporter(collector, self._addresses)
            self._queues[collector] = BatchSpanProcessor(exporter, _QUEUE, _DELAY, _BATCH), exporter
        return self._queues[collector][0]


def _context(context: Context) -> SpanContext:
    return SpanContext(*context, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
