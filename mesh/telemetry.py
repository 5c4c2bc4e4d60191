"""Which requests of a workload are traced, and by whom: MeshConfig, then the Telemetries of the root
namespace, of the workload's own, and of the workload, each field by the narrowest that says it.

As in Istio (telemetry.proto). Of several at one level the first by name counts. Knows no Envoy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.canonical import canonical
from mesh.model import Direction, MeshConfig, ServiceName, Telemetry, Workload
from mesh.node import Collector, TracingRecord
from mesh.proxy import Tracing


def tracing(
    config: MeshConfig, telemetries: Iterable[Telemetry], workload: Workload, direction: Direction
) -> Tracing | None:
    """What makes spans of the requests that a workload sends or gets; None: nothing does."""
    known = config.tracing
    if not known.providers:
        return None
    provider, sampling, tags, disabled = known.default, known.sampling, known.tags, False
    for rule in (rule for one in applying(config, telemetries, workload) for rule in one.tracing):
        if direction in rule.directions:
            provider = provider if rule.provider is None else rule.provider
            sampling = sampling if rule.sampling is None else rule.sampling
            disabled = disabled if rule.disabled is None else rule.disabled
            tags = tags if rule.tags is None else rule.tags
    chosen = next((p for p in known.providers if p.name == provider), None)
    if disabled or chosen is None:
        return None
    own, namespace = canonical(workload), workload.name.namespace
    return Tracing(chosen, sampling, tags, workload.name, f"{own.service}.{namespace}", own)


def connections(sent: Tracing, service: ServiceName | None) -> TracingRecord | None:
    """What makes spans of a pod's connections where no Envoy does; None where the provider does not speak
    OpenTelemetry. `service`: the provider, if it is a Service of the mesh."""
    to = sent.provider
    if to.kind != "opentelemetry":
        return None
    host = to.service.rpartition("/")[2]
    collector = Collector(host, to.port, service, to.path, to.headers, to.timeout_ms)
    # The others are of a request, or of Envoy's environment.
    tags = tuple((tag.name, tag.value) for tag in sent.tags if tag.kind == "literal")
    return TracingRecord(sent.pod, collector, sent.sampling, sent.service_name, sent.canonical.revision, tags)


def unknown_providers(config: MeshConfig, telemetry: Telemetry) -> Iterator[tuple[int, str]]:
    """Entries of a Telemetry that name no tracing provider of the mesh, and what they name."""
    known = {provider.name for provider in config.tracing.providers}
    for index, rule in enumerate(telemetry.tracing):
        if rule.provider is not None and rule.provider not in known:
            yield index, rule.provider


def applying(
    config: MeshConfig, telemetries: Iterable[Telemetry], workload: Workload
) -> Iterator[Telemetry]:
    """Those that are about a workload, the widest first; of several at one level the first by name."""
    namespace, labels = workload.name.namespace, dict(workload.labels)
    levels: list[list[Telemetry]] = [[], [], []]
    for telemetry in sorted(telemetries, key=lambda one: one.ref):
        home = telemetry.ref.namespace
        if telemetry.subject is None and home == config.root_namespace:
            levels[0].append(telemetry)
        elif telemetry.subject is None and home == namespace:
            levels[1].append(telemetry)
        elif telemetry.subject is not None and home == namespace and telemetry.subject.matches(labels):
            levels[2].append(telemetry)
    for level in levels:
        yield from level[:1]
