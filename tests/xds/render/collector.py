"""Collectors of spans and log records: OTLP over gRPC (opentelemetry-proto, read from the wire), and what
comes by HTTP."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from mesh.discovery.wire import fields, text
from tests.trace_agent import body
from tests.xds.render.grpc_server import GrpcServer
from tests.xds.render.http_server import Handler, HttpServer

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
LOGS = "opentelemetry.proto.collector.logs.v1.LogsService"


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    tags: dict[str, str]
    resource: dict[str, str] = field(default_factory=dict)


def spans(request: bytes) -> Iterator[Span]:
    """Of one ExportTraceServiceRequest."""
    for resource_spans in _parts(request, 1):
        resource = {k: v for part in _parts(resource_spans, 1) for k, v in _attributes(part, 1)}
        for scope in _parts(resource_spans, 2):
            for span in _parts(scope, 2):
                values = {number: data for number, _, data in fields(span)}
                ids = (values.get(number, b"").hex() for number in (1, 2, 4))
                yield Span(*ids, text(values.get(5, b"")), dict(_attributes(span, 9)), resource)


@dataclass(frozen=True)
class LogRecord:
    body: str
    attributes: dict[str, str]
    resource: dict[str, str]


def log_records(request: bytes) -> Iterator[LogRecord]:
    """Of one ExportLogsServiceRequest."""
    for resource_logs in _parts(request, 1):
        resource = {k: v for part in _parts(resource_logs, 1) for k, v in _attributes(part, 1)}
        for scope in _parts(resource_logs, 2):
            for record in _parts(scope, 2):
                body = "".join(text(part) for value in _parts(record, 5) for part in _parts(value, 1))
                yield LogRecord(body, dict(_attributes(record, 6)), resource)


def _parts(message: bytes, number: int) -> Iterator[bytes]:
    return (data for found, _, data in fields(message) if found == number)


def _attributes(message: bytes, number: int) -> Iterator[tuple[str, str]]:
    for pair in _parts(message, number):
        values = {number: data for number, _, data in fields(pair)}
        for value in _parts(values.get(2, b""), 1):
            yield text(values[1]), text(value)
        if 2 in values and not any(True for _ in _parts(values[2], 1)):
            yield text(values[1]), ""


class OtlpCollector(GrpcServer):
    """Takes what Envoys export."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._spans: queue.Queue[Span] = queue.Queue()
        self.logs: queue.Queue[LogRecord] = queue.Queue()
        exports = {SERVICE: self._export, LOGS: self._export_logs}
        super().__init__(
            {name: {"Export": grpc.unary_unary_rpc_method_handler(one)} for name, one in exports.items()},
            address,
        )

    def take(self, count: int, timeout: float = 15) -> list[Span]:
        """The next spans; raises queue.Empty when they do not come within `timeout` seconds each."""
        return [self._spans.get(timeout=timeout) for _ in range(count)]

    def _export(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        for span in spans(request):
            self._spans.put(span)
        return b""

    def _export_logs(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        for record in log_records(request):
            self.logs.put(record)
        return b""


class HttpCollector(HttpServer):
    """Keeps every body that is sent to it, with its path and headers."""

    def __init__(self) -> None:
        self.received: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        super().__init__(_handler(self))


def zipkin(body: bytes) -> list[Span]:
    """Of one POST to /api/v2/spans."""
    found: list[dict[str, Any]] = json.loads(body)
    return [
        Span(s["traceId"], s["id"], s.get("parentId", ""), s.get("name", ""), s.get("tags", {}))
        for s in found
    ]


def _handler(collector: HttpCollector) -> type[Handler]:
    class Answering(Handler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            collector.received.put((self.path, headers, body(self)))
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

    return Answering
