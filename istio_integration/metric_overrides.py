"""`metrics` of Telemetry (istio/api, telemetry.proto): which of the standard metrics are told, with which
labels. They are made by the agent and told in Prometheus' format, so Prometheus is the one provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast, get_args

from istio_integration.modes import directions
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import printable
from mesh.model import METRICS, Attribute, Metric, MetricRule, TagRule
from mesh.observability import cel

RULE = Fields(("providers", "overrides"), refused=("reportingInterval",))
PROVIDER = Fields(("name",))
OVERRIDE = Fields(("match", "disabled", "tagOverrides"))
MATCH = Fields(("metric", "customMetric", "mode"))
TAG = Fields(("operation", "value"))

_PROMETHEUS = "prometheus"
#: Istio's names of the standard metrics.
_NAMES: dict[str, tuple[Metric, ...]] = {
    "ALL_METRICS": METRICS,
    "REQUEST_COUNT": ("istio_requests_total",),
    "REQUEST_DURATION": ("istio_request_duration_milliseconds",),
    "REQUEST_SIZE": ("istio_request_bytes",),
    "RESPONSE_SIZE": ("istio_response_bytes",),
    "GRPC_REQUEST_MESSAGES": ("istio_request_messages_total",),
    "GRPC_RESPONSE_MESSAGES": ("istio_response_messages_total",),
    "TCP_OPENED_CONNECTIONS": ("istio_tcp_connections_opened_total",),
    "TCP_CLOSED_CONNECTIONS": ("istio_tcp_connections_closed_total",),
    "TCP_SENT_BYTES": ("istio_tcp_sent_bytes_total",),
    "TCP_RECEIVED_BYTES": ("istio_tcp_received_bytes_total",),
}
_LABEL = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,127}")
#: Labels of a bucket, and those that tell pods apart where one scrape tells of a whole node.
_TAKEN = ("le", "namespace", "pod")


def metric_rules(item: Reader) -> Iterator[MetricRule]:
    """One for each override of an entry of a Telemetry's `metrics`."""
    for provider in item.fields(RULE).at("providers").items():
        name = provider.fields(PROVIDER).at("name")
        if printable(name, 253) != _PROMETHEUS:
            name.refuse(f"{shown(name.value)} is not supported; metrics are told to {_PROMETHEUS} alone")
    for override in item.at("overrides").items():
        override.fields(OVERRIDE)
        match, disabled = override.at("match").fields(MATCH), override.at("disabled")
        entries = sorted(override.at("tagOverrides").entries(), key=lambda entry: entry[0])
        yield MetricRule(
            directions(match),
            _metrics(match),
            disabled.boolean() if disabled.present else None,
            tuple(_tag(name, tag) for name, tag in entries),
        )


def _metrics(match: Reader) -> tuple[Metric, ...]:
    name, custom = match.at("metric"), match.at("customMetric")
    if not custom.present:
        return _NAMES.get(name.choice(tuple(_NAMES), "ALL_METRICS"), ())
    if name.present:
        custom.refuse("stands beside metric; write one of them")
    wanted = f"istio_{custom.text().removeprefix('istio_')}"
    found = tuple(metric for metric in METRICS if metric == wanted)
    if not found:
        custom.refuse(f"{shown(custom.value)} is no metric of ours; they are {', '.join(METRICS)}")
    return found


def _tag(name: str, tag: Reader) -> TagRule:
    if not _LABEL.fullmatch(name) or name in _TAKEN:
        tag.refuse(f"{shown(name)} cannot be a label; write letters, digits and _, and none of {_TAKEN}")
    value = tag.fields(TAG).at("value")
    if tag.at("operation").choice(("UPSERT", "REMOVE"), "UPSERT") == "REMOVE":
        return TagRule(name)
    value.require()
    written = printable(value, 1024)
    plain = cel.literal(written)
    if plain is None and written in get_args(Attribute):
        return TagRule(name, attribute=cast(Attribute, written))
    if plain is None and value.present:
        value.refuse(
            f"{shown(written)} is not supported; write a text in quotes within, such as \"'a'\", or one of "
            f"{', '.join(get_args(Attribute))}"
        )
    return TagRule(name, plain or "")
