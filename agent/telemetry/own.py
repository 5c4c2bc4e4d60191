"""Metrics of the agent's own work, `sluice_*`, from its status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from agent.telemetry.conversation import text

_Kind = Literal["gauge", "counter"]

_DROPPED, _AUDITED = "dropped_", "audit_"
_LOST = {
    "events_lost": "sluice_events_lost_total",
    "flows_lost": "sluice_flow_entries_lost_total",
    "traffic_lost": "sluice_connections_uncounted_total",
    "flows_untold": "sluice_flows_untold_total",
    "spans_untold": "sluice_spans_untold_total",
    "connection_logs_dropped": "sluice_connection_logs_dropped_total",
}


def own(status: Mapping[str, Any], series: int, dropped: int) -> str:
    """In Prometheus' text format, of `NodeAgent.status` and what `Telemetry` holds."""
    pods, counters = status["pods"], status["counters"]
    proxies = [pod["proxy"] for pod in pods]
    applying = status["applying"]
    lines = [
        *_one("sluice_generation", "gauge", status["generation"]),
        *_one("sluice_generation_wanted", "gauge", status["wanted"]),
        *_one("sluice_kernel_generation", "gauge", status["kernel_generation"]),
        *_one("sluice_control_plane_connected", "gauge", int(status["connected"])),
        *_one("sluice_pods", "gauge", len(pods)),
        *_one("sluice_pods_enforced", "gauge", sum(pod["enforced"] for pod in pods)),
        *_one("sluice_envoys_running", "gauge", sum(proxy["running"] for proxy in proxies)),
        *_one("sluice_envoys_ready", "gauge", sum(proxy["running"] and proxy["ready"] for proxy in proxies)),
        *_one("sluice_problems", "gauge", len(status["problems"])),
        *_some("sluice_drops_total", "reason", _DROPPED, counters),
        *_some("sluice_audited_total", "verdict", _AUDITED, counters),
        "# TYPE sluice_generation_apply_seconds summary",
        f"sluice_generation_apply_seconds_sum {applying['seconds']:.6f}",
        f"sluice_generation_apply_seconds_count {applying['count']}",
        *_one("sluice_metrics_series", "gauge", series),
        *_one("sluice_metrics_dropped_total", "counter", dropped),
    ]
    for key, name in _LOST.items():
        lines += _one(name, "counter", counters[key])
    return "".join(f"{line}\n" for line in lines)


def _one(name: str, kind: _Kind, value: float) -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    yield f"{name} {value}"


def _some(name: str, label: str, prefix: str, counters: Mapping[str, int]) -> Iterator[str]:
    """A counter with a sample for each key that begins with `prefix`."""
    yield f"# TYPE {name} counter"
    for key, value in counters.items():
        if key.startswith(prefix):
            word = key.removeprefix(prefix).upper()
            yield f"{name}{{{text([(label, word)])}}} {value}"
