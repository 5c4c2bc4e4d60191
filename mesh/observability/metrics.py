"""How the metrics of a workload differ from Istio's standard ones: the Telemetries of the root namespace, of
the workload's own, and of the workload. Each label, and whether a metric is told, is the narrowest one's to
say; of several at one level the first by name counts. Knows no registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.model import METRICS, Direction, Metric, MetricRule, TagRule, Telemetry, WorkloadName
from mesh.node import MetricChange, MetricsRecord

_DIRECTIONS: tuple[Direction, Direction] = ("egress", "ingress")


def metrics_record(applied: Iterable[Telemetry], pod: WorkloadName) -> MetricsRecord | None:
    """What the agent is told of a pod by the Telemetries about it (`mesh.observability.telemetry.applying`);
    None: its metrics are the standard ones."""
    rules = [rule for telemetry in applied for rule in telemetry.metrics]
    changes = tuple(_changes(rules)) if rules else ()
    return MetricsRecord(pod, changes) if changes else None


def _changes(rules: list[MetricRule]) -> Iterator[MetricChange]:
    for direction in _DIRECTIONS:
        for metric in METRICS:
            found = _change(direction, metric, rules)
            if found.disabled or found.tags:
                yield found


def _change(direction: Direction, metric: Metric, rules: list[MetricRule]) -> MetricChange:
    disabled = False
    tags: dict[str, TagRule] = {}
    for rule in rules:
        if direction in rule.directions and metric in rule.metrics:
            disabled = disabled if rule.disabled is None else rule.disabled
            tags.update({tag.name: tag for tag in rule.tags})
    return MetricChange(
        direction, metric, disabled, () if disabled else tuple(tags[name] for name in sorted(tags))
    )
