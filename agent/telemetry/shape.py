"""Which metrics of a pod have which labels: Istio's, but for what Telemetries say (`MetricsRecord`)."""

from __future__ import annotations

from typing import NamedTuple

from agent.telemetry.conversation import Conversation, Protocol, Reporter
from mesh.model import CALL_METRICS, CONNECTION_METRICS, REQUEST_METRICS, Direction, Metric, TagRule
from mesh.node import MetricsRecord

_DIRECTIONS: dict[Reporter, Direction] = {"source": "egress", "destination": "ingress"}
_METRICS: dict[Protocol, tuple[Metric, ...]] = {
    "http": REQUEST_METRICS,
    "grpc": (*REQUEST_METRICS, *CALL_METRICS),
    "tcp": CONNECTION_METRICS,
}


#: Labels of requests that Istio's counters of messages have not: these count while a call lasts.
_NOT_OF_CALLS = tuple(
    TagRule(name)
    for name in (
        "request_protocol",
        "response_code",
        "grpc_response_status",
        "response_flags",
        "connection_security_policy",
    )
)


class Group(NamedTuple):
    """Metrics that have the same labels, and how those differ from the conversation's."""

    metrics: tuple[Metric, ...]
    tags: tuple[TagRule, ...] = ()


class Shape:
    """Of the metrics of one pod; without a record they are the standard ones."""

    def __init__(self, record: MetricsRecord | None = None) -> None:
        changes = record.changes if record else ()
        self._changes = {(change.direction, change.metric): change for change in changes}
        self._found = {
            (reporter, protocol): self._groups(direction, metrics)
            for reporter, direction in _DIRECTIONS.items()
            for protocol, metrics in _METRICS.items()
        }

    def of(self, said: Conversation) -> tuple[Group, ...]:
        """The groups that count it."""
        return self._found[said.reporter, said.protocol]

    def _groups(self, direction: Direction, metrics: tuple[Metric, ...]) -> tuple[Group, ...]:
        found: dict[tuple[TagRule, ...], list[Metric]] = {}
        for metric in metrics:
            change = self._changes.get((direction, metric))
            if change is None or not change.disabled:
                own = _NOT_OF_CALLS if metric in CALL_METRICS else ()
                found.setdefault((*own, *(change.tags if change else ())), []).append(metric)
        return tuple(Group(tuple(own), tags) for tags, own in found.items())


#: Of pods of which no Telemetry speaks.
STANDARD = Shape()
