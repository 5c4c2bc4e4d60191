"""A collector of spans that fits on a page: OTLP over gRPC comes in at 4317, `GET /spans` at 8080 tells
everything that came, as JSON. It keeps the newest 10,000 in memory.

Usage: collector.py
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
ERROR = 2

SPANS: deque[dict[str, Any]] = deque(maxlen=10_000)


def spans(request: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    """Each span, flat; times are nanoseconds since the epoch."""
    for group in request.resource_spans:
        resource = attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield {
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "error": span.status.code == ERROR,
                    "service": resource.get("service.name", "unknown"),
                    "resource": resource,
                    "attributes": attributes(span.attributes),
                    "links": [[link.trace_id.hex(), link.span_id.hex()] for link in span.links],
                }


def attributes(pairs: Any) -> dict[str, str]:
    return {
        pair.key: str(getattr(pair.value, pair.value.WhichOneof("value") or "string_value")) for pair in pairs
    }


def export(request: ExportTraceServiceRequest, _: grpc.ServicerContext) -> ExportTraceServiceResponse:
    SPANS.extend(spans(request))
    return ExportTraceServiceResponse()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(list(SPANS)).encode() if self.path == "/spans" else b"see /spans\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    method = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": method}),))
    server.add_insecure_port("0.0.0.0:4317")
    server.start()
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()


if __name__ == "__main__":
    main()
