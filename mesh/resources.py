"""How a node's records become bytes and back: JSON arrays, field by field, deterministic.

The only file that knows their form on the wire. The bodies stand inside a `google.protobuf.Any`
under our own type URLs, so that the discovery protocol carries them like any other resource.

The two ends may be of different versions for a while. A record with a field or a word more or less than
this version knows is refused whole: what one end dropped or made up could be what denied (threat N20).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache, lru_cache
from typing import Any, TypeVar, get_args

from mesh.model import METRICS, Attribute, Direction, Protocol, ServiceName, TagRule, WorkloadName
from mesh.node import (
    BlockRecord,
    Canonical,
    Collector,
    ConnectionLog,
    Form,
    Generation,
    Launch,
    LoggingRecord,
    Manifest,
    MetricChange,
    MetricsRecord,
    NamesRecord,
    PodRecord,
    PolicyClass,
    PolicySet,
    PortVerdict,
    Record,
    ServicePortRecord,
    ServiceRecord,
    TracingRecord,
    Verdict,
    WorkloadRecord,
)
from mesh.observability import cel

T = TypeVar("T")

_PREFIX = "type.googleapis.com/sluice.node.v1."

BODY_TYPE = _PREFIX + "Body"
MANIFEST_TYPE = _PREFIX + "Manifest"
GENERATION_TYPE = _PREFIX + "Generation"

#: Table of `NodeState` -> type URL, in the order in which they are sent.
TABLE_TYPES = {
    "workloads": _PREFIX + "Workload",
    "blocks": _PREFIX + "Block",
    "services": _PREFIX + "Service",
    "classes": _PREFIX + "PolicyClass",
    "sets": _PREFIX + "PolicySet",
    "pods": _PREFIX + "Pod",
    "names": _PREFIX + "Names",
    "tracings": _PREFIX + "Tracing",
    "metrics": _PREFIX + "Metrics",
    "loggings": _PREFIX + "Logging",
}

#: Every type of a node's stream in the order of sending; the generation closes a push.
NODE_TYPES = (*TABLE_TYPES.values(), BODY_TYPE, MANIFEST_TYPE, GENERATION_TYPE)


def encode(record: Record) -> bytes:
    """The record as a JSON array of its fields."""
    values = [getattr(record, f.name) for f in fields(record)]
    return json.dumps(values, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()


def decode(type_url: str, body: bytes) -> Record:
    """The record that `encode` made. Raises ValueError for any other type or form."""
    reader = _READERS.get(type_url)
    if reader is None:
        raise ValueError(f"{type_url} is not a record of a node")
    try:
        return reader(*json.loads(body))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"malformed {type_url}: {error}") from error


def _plain(value: Any) -> list[Any]:
    return [getattr(value, f.name) for f in fields(value)]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _exactly(kind: type[T], values: Any) -> T:
    """What is left out must not become a default, which may mean "no restriction"."""
    names = _field_names(kind)  # type: ignore[arg-type]
    if len(values) != len(names):
        raise ValueError(
            f"{kind.__name__} has {len(values)} fields, expected {len(names)}: {', '.join(names)}"
        )
    return kind(*map(_tuples, values))


@cache
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def _word(value: object, alternatives: Any) -> None:
    if value not in get_args(alternatives):
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, get_args(alternatives)))}")


def _workload(*values: Any) -> WorkloadRecord:
    name, *rest, telemetry = values
    return _exactly(WorkloadRecord, (WorkloadName(*name), *rest, _canonical(tuple(telemetry))))


@lru_cache(maxsize=16384)
def _canonical(values: tuple[str, ...]) -> Canonical:
    """The pods of one Deployment share one value."""
    return Canonical(*values)


def _pod(*values: Any) -> PodRecord:
    record = _exactly(PodRecord, values)
    launch = None if record.launch is None else _exactly(Launch, record.launch)
    return replace(record, name=WorkloadName(*record.name), launch=launch)


def _manifest(pod: list[str], resources: dict[str, dict[str, str]]) -> Manifest:
    for names in resources.values():
        if set(map(type, names.values())) - {str}:
            raise ValueError("a content hash is not a text")
    return Manifest(WorkloadName(*pod), resources)


def _service(*values: Any) -> ServiceRecord:
    record = _exactly(ServiceRecord, values)
    ports = tuple(_exactly(ServicePortRecord, port) for port in record.ports)
    for port in ports:
        _word(port.protocol, Protocol)
    return replace(record, name=ServiceName(*record.name), ports=ports)


def _class(*values: Any) -> PolicyClass:
    record = _exactly(PolicyClass, values)
    verdicts = tuple(_exactly(PortVerdict, verdict) for verdict in record.verdicts)
    for verdict in verdicts:
        _word(verdict.verdict, Verdict)
        if verdict.protocol is not None:
            _word(verdict.protocol, Protocol)
        if verdict.audit is not None:
            _word(verdict.audit, Verdict)
    return replace(record, verdicts=verdicts)


def _set(*values: Any) -> PolicySet:
    record = _exactly(PolicySet, values)
    _word(record.direction, Direction)
    return record


def _tracing(*values: Any) -> TracingRecord:
    record = _exactly(TracingRecord, values)
    return replace(record, pod=WorkloadName(*record.pod), collector=_collector(record.collector))


def _collector(values: Any) -> Collector:
    collector = _exactly(Collector, values)
    _word(collector.form, Form)
    service = None if collector.service is None else ServiceName(*collector.service)
    return replace(collector, service=service)


def _logging(*values: Any) -> LoggingRecord:
    record = _exactly(LoggingRecord, values)
    egress, ingress = (tuple(map(_connection_log, logs)) for logs in (record.egress, record.ingress))
    return LoggingRecord(WorkloadName(*record.pod), egress, ingress)


def _connection_log(values: Any) -> ConnectionLog:
    log = _exactly(ConnectionLog, values)
    if log.filter:
        cel.check(log.filter)
    return replace(log, collector=None if log.collector is None else _collector(log.collector))


def _metrics(*values: Any) -> MetricsRecord:
    record = _exactly(MetricsRecord, values)
    changes = tuple(_metric_change(_exactly(MetricChange, change)) for change in record.changes)
    return replace(record, pod=WorkloadName(*record.pod), changes=changes)


def _metric_change(change: MetricChange) -> MetricChange:
    _word(change.direction, Direction)
    if change.metric not in METRICS:
        raise ValueError(f"{change.metric!r} is no metric")
    tags = tuple(_exactly(TagRule, tag) for tag in change.tags)
    for tag in tags:
        if tag.attribute is not None:
            _word(tag.attribute, Attribute)
    return replace(change, tags=tags)


def _plainly(kind: type[BlockRecord] | type[NamesRecord] | type[Generation]) -> Callable[..., Record]:
    return lambda *values: _exactly(kind, values)


_READERS: dict[str, Callable[..., Record]] = {
    TABLE_TYPES["workloads"]: _workload,
    TABLE_TYPES["blocks"]: _plainly(BlockRecord),
    TABLE_TYPES["services"]: _service,
    TABLE_TYPES["classes"]: _class,
    TABLE_TYPES["sets"]: _set,
    TABLE_TYPES["pods"]: _pod,
    TABLE_TYPES["names"]: _plainly(NamesRecord),
    TABLE_TYPES["tracings"]: _tracing,
    TABLE_TYPES["metrics"]: _metrics,
    TABLE_TYPES["loggings"]: _logging,
    MANIFEST_TYPE: _manifest,
    GENERATION_TYPE: _plainly(Generation),
}
