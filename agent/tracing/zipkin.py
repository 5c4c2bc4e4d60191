"""Spans as Zipkin's JSON (API v2, https://zipkin.io/zipkin-api/#/default/post_spans).

Our own, not OpenTelemetry's exporter for Zipkin: that dials one endpoint for ever, and is deprecated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from agent.tracing.tags import service, tags

#: Attributes that name both ends of a connection.
_LOCAL, _PEER = "network.local", "network.peer"


def encode_spans(spans: Sequence[ReadableSpan], *, long_ids: bool = True) -> bytes:
    """The body of a POST. `long_ids`: ids of traces have 128 bits, else the lower 64 of them."""
    return json.dumps([dict(_span(span, 32 if long_ids else 16)) for span in spans]).encode()


def _span(span: ReadableSpan, digits: int) -> Iterator[tuple[str, Any]]:
    context, attributes = span.get_span_context(), dict(span.attributes or {})
    assert context is not None and span.start_time is not None and span.end_time is not None
    yield "traceId", f"{context.trace_id:032x}"[-digits:]
    yield "id", f"{context.span_id:016x}"
    if span.parent is not None:
        yield "parentId", f"{span.parent.span_id:016x}"
    if span.kind is SpanKind.CLIENT:
        yield "kind", "CLIENT"
    yield "name", span.name
    # Microseconds, and no span is shorter than one.
    yield "timestamp", span.start_time // 1000
    yield "duration", max(1, (span.end_time - span.start_time) // 1000)
    yield "localEndpoint", {"serviceName": service(span), **_end(attributes, _LOCAL)}
    yield "remoteEndpoint", _end(attributes, _PEER)
    found = tags(span)
    if span.status.status_code is StatusCode.ERROR:
        found["error"] = span.status.description or "true"
    # Zipkin has no links.
    for number, link in enumerate(span.links):
        at = link.context
        found[f"link.{number}"] = f"{at.trace_id:032x}-{at.span_id:016x}"
    yield "tags", found


def _end(attributes: dict[str, Any], which: str) -> dict[str, Any]:
    ip, port = str(attributes.get(f"{which}.address", "")), attributes.get(f"{which}.port", 0)
    return {"ipv6" if ":" in ip else "ipv4": ip, "port": port} if ip else {}
