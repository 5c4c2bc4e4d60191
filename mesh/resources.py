"""How a node's records become bytes and back: JSON arrays, field by field, deterministic.

The only file that knows their form on the wire. The bodies stand inside a `google.protobuf.Any`
under our own type URLs, so that the discovery protocol carries them like any other resource.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from mesh.model import ServiceName, WorkloadName
from mesh.node import (
    BlockRecord,
    Generation,
    Manifest,
    NamesRecord,
    PodRecord,
    PolicyClass,
    PolicySet,
    PortVerdict,
    Record,
    ServicePortRecord,
    ServiceRecord,
    WorkloadRecord,
)

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
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"malformed {type_url}: {error}") from error


def _plain(value: Any) -> list[Any]:
    return [getattr(value, f.name) for f in fields(value)]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _service(name: Any, vips: Any, affinity: int, ports: Any) -> ServiceRecord:
    return ServiceRecord(
        ServiceName(*name),
        tuple(vips),
        affinity,
        tuple(ServicePortRecord(p[0], p[1], _tuples(p[2]), tuple(p[3])) for p in ports),
    )


def _workload(name: Any, security_id: int, addresses: Any, node: str) -> WorkloadRecord:
    return WorkloadRecord(WorkloadName(*name), security_id, tuple((a, c) for a, c in addresses), node)


def _class(number: int, verdicts: Any, rules: Any) -> PolicyClass:
    return PolicyClass(
        number,
        tuple(PortVerdict(*map(_tuples, verdict)) for verdict in verdicts),
        tuple(rules),
    )


def _pod(name: Any, *rest: Any) -> PodRecord:
    return PodRecord(WorkloadName(*name), *map(_tuples, rest))


def _manifest(pod: Any, resources: Any) -> Manifest:
    return Manifest(WorkloadName(*pod), _tuples(resources))


_READERS: dict[str, Callable[..., Record]] = {
    TABLE_TYPES["workloads"]: _workload,
    TABLE_TYPES["blocks"]: BlockRecord,
    TABLE_TYPES["services"]: _service,
    TABLE_TYPES["classes"]: _class,
    TABLE_TYPES["sets"]: lambda *values: PolicySet(*map(_tuples, values)),
    TABLE_TYPES["pods"]: _pod,
    TABLE_TYPES["names"]: lambda patterns, sequence: NamesRecord(tuple(patterns), sequence),
    MANIFEST_TYPE: _manifest,
    GENERATION_TYPE: Generation,
}
