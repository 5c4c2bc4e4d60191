"""The control plane's own work as OpenTelemetry traces: a trace for each generation, from the change that was
seen to the last node's acknowledgement, under the id that the log tells and the nodes are sent.

Made only where the operator names a collector: SLUICE_OTLP_ENDPOINT, else the standard variables of
OpenTelemetry's gRPC exporter; a URL or `unix:/path`, which leads out of the embedded mesh's network
namespace. OpenTelemetry is not loaded otherwise.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from xds.work import UNSEEN, Work

#: The first that is set counts.
ENDPOINTS = ("SLUICE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

#: Generations that wait for nodes; then the oldest is told without those.
WAITING = 64
#: Milliseconds that a span waits for others.
_DELAY = 500


def seen(mesh: str, environment: Mapping[str, str] = os.environ) -> Work:
    """Who looks at the work of this mesh's control plane. Raises ValueError for what is not supported."""
    endpoint = next((environment[name] for name in ENDPOINTS if environment.get(name)), None)
    if endpoint is None:
        return UNSEEN
    for name in _PROTOCOLS:
        if environment.get(name, "grpc") != "grpc":
            raise ValueError(f"{name}={environment[name]} is not supported: spans are sent over grpc")
    return Traced(mesh, endpoint, environment.get("OTEL_SERVICE_NAME", "sluice-control-plane"))


@dataclass
class _Generation:
    """A generation that is under way."""

    number: int
    root: Any
    published: int
    waiting: set[str]


class Traced:
    """Traces, sent to `endpoint`."""

    def __init__(self, mesh: str, endpoint: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            """Traces are called as generations are."""

            next = 0

            def generate_trace_id(self) -> int:
                return self.next

        self._ids = Ids()
        resource = Resource.create({"service.name": service, "sluice.mesh": mesh})
        # Nothing waits at the end: a collector that is away must not hold up who starts next.
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        is_local = endpoint.startswith("unix:")
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True if is_local else None)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY))
        self._tracer = provider.get_tracer("sluice")
        self._since = 0
        self._steps: list[tuple[str, int, int]] = []
        self._waiting: list[_Generation] = []

    def begin(self, since: int) -> None:
        self._since = since
        self._steps = []

    def step(self, name: str) -> AbstractContextManager[None]:
        return self._timed(name)

    def published(self, number: int, trace: str, what: str, nodes: Iterable[str]) -> None:
        self._ids.next = int(trace, 16)
        said: dict[str, str | int] = {"sluice.generation": number, "sluice.objects": what}
        root = self._tracer.start_span(f"generation {number}", start_time=self._since, attributes=said)
        for name, start, end in self._steps:
            self._child(root, name, start, end)
        self._waiting.append(_Generation(number, root, time.time_ns(), set(nodes)))
        if len(self._waiting) > WAITING:
            oldest = self._waiting.pop(0)
            oldest.root.set_attribute("sluice.unacknowledged", sorted(oldest.waiting))
            oldest.root.end()

    def applied(self, node: str, number: int) -> None:
        now = time.time_ns()
        for generation in self._waiting:
            if generation.number <= number and node in generation.waiting:
                generation.waiting.discard(node)
                self._child(generation.root, f"apply {node}", generation.published, now)
                if not generation.waiting:
                    generation.root.end(now)
        self._waiting = [generation for generation in self._waiting if generation.waiting]

    def _child(self, root: Any, name: str, start: int, end: int) -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer.start_span(name, context=set_span_in_context(root), start_time=start).end(end)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.time_ns()
        yield
        self._steps.append((name, start, time.time_ns()))
