"""Spans as JSON for Datadog's trace agent, which takes that as it takes MessagePack
(https://docs.datadoghq.com/tracing/guide/send_traces_to_agent_by_api, datadog-agent's pkg/trace/api).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from agent.tracing.tags import service, tags

#: The operation of all of them, beside Envoy's `envoy.proxy`; which connection it was is the resource.
_NAME = "tcp.connection"
#: AUTO_KEEP: what is not to be kept is no span.
_PRIORITY = 1


def encode_spans(spans: Sequence[ReadableSpan]) -> bytes:
    """The body of a PUT. Each is alone in its chunk: what stands in one is of one trace."""
    return json.dumps([[_span(span)] for span in spans]).encode()


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None and span.start_time is not None and span.end_time is not None
    high, low = _halves(context)
    meta = tags(span) | {"span.kind": span.kind.name.lower()}
    if high:
        meta["_dd.p.tid"] = f"{high:016x}"
    if why := span.status.description:
        meta["error.message"] = why
    return {
        "service": service(span),
        "name": _NAME,
        "resource": span.name,
        "type": "custom",
        "trace_id": low,
        "span_id": context.span_id,
        "parent_id": span.parent.span_id if span.parent else 0,
        "start": span.start_time,
        "duration": span.end_time - span.start_time,
        "error": 1 if why else 0,
        "meta": meta,
        "metrics": {"_sampling_priority_v1": _PRIORITY},
        "span_links": [_link(link.context) for link in span.links],
    }


def _link(to: SpanContext) -> dict[str, int]:
    high, low = _halves(to)
    return {"trace_id": low, "trace_id_high": high, "span_id": to.span_id}


def _halves(context: SpanContext) -> tuple[int, int]:
    """Of the trace's id, 64 bits each: Datadog's have so many, and a tag for the upper ones."""
    return divmod(context.trace_id, 1 << 64)
