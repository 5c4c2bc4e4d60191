"""Datadog's trace agent, as a tracer meets it. What the real one refuses, or mends and counts as malformed,
gets 400 here (datadog-agent, pkg/trace/api/api.go and pkg/trace/agent/normalizer.go).

Usage: trace_agent.py. Traces come in at port 8126, `GET /spans` at 8080 tells them, as JSON.
"""

from __future__ import annotations

import json
import queue
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgpack

Data = dict[str, Any]

_FIELDS = {
    "service": str,
    "name": str,
    "resource": str,
    "type": str,
    "trace_id": int,
    "span_id": int,
    "parent_id": int,
    "start": int,
    "duration": int,
    "error": int,
    "meta": dict,
    "metrics": dict,
}
_NAME = re.compile(r"(?=.{1,100}$)[a-zA-Z][a-zA-Z0-9]*([._][a-zA-Z0-9]+)*")
_SERVICE = re.compile(r"(?=.{1,100}$)[a-z:][a-z0-9:./-]*(_[a-z0-9:./-]+)*")
_UPPER_HALF = re.compile(r"[0-9a-f]{16}")
_YEAR_2000 = 946_684_800 * 10**9


def spans(content_type: str, trace_count: str, body: bytes) -> Iterator[Data]:
    """Each span of a message, flat; times are nanoseconds since the epoch. Raises ValueError."""
    chunks = _decoded(content_type, body)
    _require(type(chunks) is list and trace_count == str(len(chunks)), f"{trace_count} traces", chunks)
    for chunk in chunks:
        for span in chunk:
            _check(span)
        _require(len({span["trace_id"] for span in chunk}) == 1, "one trace", chunk)
        _require(len({span["span_id"] for span in chunk}) == len(chunk), "each span once", chunk)
        _require(chunk[0]["metrics"].get("_sampling_priority_v1") in (-1, 0, 1, 2), "a priority", chunk)
        upper = chunk[0]["meta"].get("_dd.p.tid", "0" * 16)
        _require(_UPPER_HALF.fullmatch(upper), "the upper half of an id", chunk)
        yield from (_flat(upper, span) for span in chunk)


def _decoded(content_type: str, body: bytes) -> Any:
    if content_type == "application/msgpack":
        return msgpack.unpackb(body)
    _require(content_type == "application/json", "msgpack or JSON", content_type)
    return json.loads(body)


def _check(span: Data) -> None:
    _require(span.keys() - {"span_links"} == _FIELDS.keys(), "all fields and no other", span)
    for name, kind in _FIELDS.items():
        _require(type(span[name]) is kind, f"{name} of type {kind.__name__}", span)
    _require(all(_is_id(span[name]) for name in ("trace_id", "span_id")), "ids of 64 bits", span)
    _require(span["parent_id"] == 0 or _is_id(span["parent_id"]), "a parent's id, or 0", span)
    _require(_YEAR_2000 <= span["start"] <= span["start"] + span["duration"] < 1 << 63, "nanoseconds", span)
    _require(span["error"] in (0, 1), "1 for an error", span)
    _require(_NAME.fullmatch(span["name"]), "a name", span)
    _require(_SERVICE.fullmatch(span["service"]), "a service", span)
    _require(1 <= len(span["resource"]) <= 5000 and len(span["type"]) <= 100, "resource and type", span)
    _require(all(type(value) is str for value in span["meta"].values()), "texts in meta", span)
    _require(all(type(n) in (int, float) for n in span["metrics"].values()), "numbers in metrics", span)
    for link in span.get("span_links", ()):
        _require(link.keys() == {"trace_id", "trace_id_high", "span_id"}, "ids of a link", span)
        _require(_is_id(link["trace_id"]) and _is_id(link["span_id"]), "ids of 64 bits", span)


def _is_id(number: int) -> bool:
    return 0 < number < 1 << 64


def _require(holds: object, what: str, found: object) -> None:
    if not holds:
        raise ValueError(f"it must be {what}: {found}")


def _flat(upper: str, span: Data) -> Data:
    return {
        "trace": f"{upper}{span['trace_id']:016x}",
        "id": f"{span['span_id']:016x}",
        "parent": f"{span['parent_id']:016x}" if span["parent_id"] else "",
        "operation": span["name"],
        "name": span["resource"],
        "type": span["type"],
        "start": span["start"],
        "end": span["start"] + span["duration"],
        "error": span["error"] == 1,
        "service": span["service"],
        "attributes": span["meta"],
        "metrics": span["metrics"],
        "links": [
            [f"{link['trace_id_high']:016x}{link['trace_id']:016x}", f"{link['span_id']:016x}"]
            for link in span.get("span_links", ())
        ],
    }


class TraceAgent:
    """Listens at `ports`; 0: any that is free. One that is `overloaded` drops what comes."""

    def __init__(self, *ports: int) -> None:
        self.overloaded = False
        self.told: deque[Data] = deque(maxlen=10_000)
        self._new: queue.Queue[Data | ValueError] = queue.Queue()
        self._servers = [_Server(("", port), _handler(self)) for port in ports]
        self.port: int = self._servers[0].server_address[1]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, count: int, timeout: float = 15) -> list[Data]:
        """The next spans; raises queue.Empty when they do not come within `timeout` seconds each, and
        ValueError for what is malformed."""
        found: list[Data] = []
        while len(found) < count:
            new = self._new.get(timeout=timeout)
            if isinstance(new, ValueError):
                raise new
            found.append(new)
        return found

    def add(self, content_type: str, trace_count: str, body: bytes) -> int:
        """The status of the answer to a message."""
        try:
            found = list(spans(content_type, trace_count, body))
        except ValueError as error:
            self._new.put(error)
            return 400
        self.told.extend(found)
        for span in found:
            self._new.put(span)
        return 200

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4: pods have both
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _handler(agent: TraceAgent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(200, list(agent.told)) if self.path == "/spans" else self._answer(404, {})

        def do_PUT(self) -> None:
            message = body(self)
            if self.path != "/v0.4/traces":
                self._answer(404, {})
            elif agent.overloaded:
                self._answer(429 if self.headers["datadog-send-real-http-status"] else 200, {})
            else:
                headers = (self.headers.get(name, "") for name in ("content-type", "x-datadog-trace-count"))
                self._answer(agent.add(*headers, message), {"rate_by_service": {}})

        do_POST = do_PUT  # as Envoy's tracer does

        def _answer(self, status: int, said: object) -> None:
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler


def body(handler: BaseHTTPRequestHandler) -> bytes:
    """Of a request, in one piece or in chunks."""
    found = handler.rfile.read(int(handler.headers.get("content-length", 0)))
    if "chunked" in handler.headers.get("transfer-encoding", ""):
        while size := int(handler.rfile.readline(), 16):
            found += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
    return found


if __name__ == "__main__":
    TraceAgent(8126, 8080)
    threading.Event().wait()
