"""Which requests of a workload are traced, and by whom: MeshConfig, then the Telemetries of the root
namespace, of the workload's own, and of the workload, each field by the narrowest that says it.

As in Istio (telemetry.proto). Of several at one level the first by name counts. Knows no Envoy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from mesh.model import Direction, MeshConfig, ServiceName, Telemetry, TracingProvider, Workload
from mesh.node import Collector, Form, TracingRecord
from mesh.observability.canonical import canonical
from mesh.proxy import Tracing

#: Telemetries by namespace, in the order of their names.
Homes = Mapping[str, Sequence[Telemetry]]


def tracing(
    config: MeshConfig, applied: Iterable[Telemetry], workload: Workload, direction: Direction
) -> Tracing | None:
    """What makes spans of the requests that a workload sends or gets, by the Telemetries that are `applying`;
    None: nothing does."""
    known = config.tracing
    if not known.providers:
        return None
    provider, sampling, tags, disabled = known.default, known.sampling, known.tags, False
    by_request_id = istio_tags = True
    for rule in (rule for telemetry in applied for rule in telemetry.tracing):
        if direction in rule.directions:
            provider = provider if rule.provider is None else rule.provider
            sampling = sampling if rule.sampling is None else rule.sampling
            disabled = disabled if rule.disabled is None else rule.disabled
            tags = tags if rule.tags is None else rule.tags
            by_request_id = by_request_id if rule.by_request_id is None else rule.by_request_id
            istio_tags = istio_tags if rule.istio_tags is None else rule.istio_tags
    chosen = next((p for p in known.providers if p.name == provider), None)
    if disabled or chosen is None:
        return None
    own, namespace = canonical(workload), workload.name.namespace
    name = f"{own.service}.{namespace}"
    return Tracing(chosen, sampling, tags, workload.name, name, own, by_request_id, istio_tags)


def connections(sent: Tracing, service: ServiceName | None) -> TracingRecord:
    """What makes spans of a pod's connections where no Envoy does. `service`: the provider, if it is a
    Service of the mesh."""
    to = sent.provider
    host = to.service.rpartition("/")[2]
    collector = Collector(host, to.port, service, to.path, to.headers, to.timeout_ms, _form(to))
    # The others are of a request, or of Envoy's environment.
    tags = tuple((tag.name, tag.value) for tag in sent.tags if tag.kind == "literal")
    return TracingRecord(sent.pod, collector, sent.sampling, sent.service_name, sent.canonical.revision, tags)


def _form(provider: TracingProvider) -> Form:
    match provider.kind:
        case "opentelemetry":
            return "otlp"
        case "zipkin":
            return "zipkin" if provider.long_ids else "zipkin-64"
    return "datadog"


def by_namespace(telemetries: Iterable[Telemetry]) -> Homes:
    """All of a mesh, made once for all of its workloads."""
    found: dict[str, list[Telemetry]] = {}
    for telemetry in sorted(telemetries, key=lambda one: one.ref):
        found.setdefault(telemetry.ref.namespace, []).append(telemetry)
    return found


def applying(config: MeshConfig, homes: Homes, workload: Workload) -> tuple[Telemetry, ...]:
    """Those that are about a workload, the widest first; of several at one level the first by name."""
    namespace, labels = workload.name.namespace, dict(workload.labels)
    own = homes.get(namespace, ())
    levels = (
        (one for one in homes.get(config.root_namespace, ()) if one.subject is None),
        (one for one in own if one.subject is None and namespace != config.root_namespace),
        (one for one in own if one.subject is not None and one.subject.matches(labels)),
    )
    return tuple(one for level in levels for one in islice(level, 1))
