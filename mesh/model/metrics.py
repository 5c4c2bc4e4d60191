"""Metrics: which of Istio's standard ones a workload reports, and with which labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mesh.model.names import Direction

RequestMetric = Literal[
    "istio_requests_total",
    "istio_request_duration_milliseconds",
    "istio_request_bytes",
    "istio_response_bytes",
]
#: Of requests that are calls of gRPC.
CallMetric = Literal["istio_request_messages_total", "istio_response_messages_total"]
ConnectionMetric = Literal[
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
]
Metric = RequestMetric | CallMetric | ConnectionMetric

REQUEST_METRICS: tuple[RequestMetric, ...] = get_args(RequestMetric)
CALL_METRICS: tuple[CallMetric, ...] = get_args(CallMetric)
CONNECTION_METRICS: tuple[ConnectionMetric, ...] = get_args(ConnectionMetric)
METRICS: tuple[Metric, ...] = (*REQUEST_METRICS, *CALL_METRICS, *CONNECTION_METRICS)

#: What a label can be made of besides a text: what the agent knows of a request.
Attribute = Literal[
    "request.host", "request.method", "request.path", "request.url_path", "response.code", "response.flags"
]


@dataclass(frozen=True, slots=True)
class TagRule:
    """What becomes of a label: it is the text `value`, or what an attribute says, or (None) it goes."""

    name: str
    value: str | None = None
    attribute: Attribute | None = None


@dataclass(frozen=True, slots=True)
class MetricRule:
    """One override of a Telemetry, for what a workload sends (egress) or gets (ingress). Labels that it does
    not speak of, and `disabled` None, are left to a wider one."""

    directions: tuple[Direction, ...]
    metrics: tuple[Metric, ...]
    disabled: bool | None = None
    tags: tuple[TagRule, ...] = ()
