"""Which metrics of a pod have which labels: Istio's, but for what Telemetries say (`MetricsRecord`)."""

from __future__ import annotations

from typing import NamedTuple

from agent.telemetry.conversation import Conversation
from mesh.model import CONNECTION_METRICS, REQUEST_METRICS, Direction, Metric, TagRule
from mesh.node import MetricsRecord


class Group(NamedTuple):
    """Metrics that have the same labels, and how those differ from Istio's."""

    metrics: tuple[Metric, ...]
    tags: tuple[TagRule, ...] = ()


class Shape:
    """Of the metrics of one pod; without a record they are the standard ones."""

    def __init__(self, record: MetricsRecord | None = None) -> None:
        changes = record.changes if record else ()
        self._changes = {(change.direction, change.metric): change for change in changes}
        self._source = self._groups("egress", REQUEST_METRICS), self._groups("egress", CONNECTION_METRICS)
        self._destination = (
            self._groups("ingress", REQUEST_METRICS),
            self._groups("ingress", CONNECTION_METRICS),
        )

    def of(self, said: Conversation) -> tuple[Group, ...]:
        """The groups that count it."""
        groups = self._source if said.reporter == "source" else self._destination
        return groups[said.protocol == "tcp"]

    def _groups(self, direction: Direction, metrics: tuple[Metric, ...]) -> tuple[Group, ...]:
        found: dict[tuple[TagRule, ...], list[Metric]] = {}
        for metric in metrics:
            change = self._changes.get((direction, metric))
            if change is None or not change.disabled:
                found.setdefault(change.tags if change else (), []).append(metric)
        return tuple(Group(tuple(own), tags) for tags, own in found.items())


#: Of pods of which no Telemetry speaks.
STANDARD = Shape()
