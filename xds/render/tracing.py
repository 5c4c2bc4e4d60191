"""Spans: who takes them stands in the listener, what they say at the routes, so that a change of tags binds
live connections and drains none (rule 6).

How many are made stands at the routes as well, but for OpenTelemetry: its tracer drops the child of a sampled
parent where the route's own sampling says no, so there the listener has a sampler that asks the parent first.
Trace context goes on as W3C's `traceparent`, with Zipkin and Datadog as their own beside it. A client's
`x-request-id` is never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from envoy_data_plane.envoy.config.core.v3 import (
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    HttpService,
    HttpUri,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.route.v3 import Route
from envoy_data_plane.envoy.config.route.v3 import Tracing as RouteTracing
from envoy_data_plane.envoy.config.trace.v3 import (
    DatadogConfig,
    OpenTelemetryConfig,
    TracingHttp,
    ZipkinConfig,
    ZipkinConfigCollectorEndpointVersion,
    ZipkinConfigTraceContextOption,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerTracing,
    RequestIdExtension,
)
from envoy_data_plane.envoy.extensions.request_id.uuid.v3 import UuidRequestIdConfig
from envoy_data_plane.envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    StaticConfigResourceDetectorConfig,
)
from envoy_data_plane.envoy.extensions.tracers.opentelemetry.samplers.v3 import (
    ParentBasedSamplerConfig,
    TraceIdRatioBasedSamplerConfig,
)
from envoy_data_plane.envoy.type.metadata.v3 import (
    MetadataKey,
    MetadataKeyPathSegment,
    MetadataKind,
    MetadataKindRequest,
)
from envoy_data_plane.envoy.type.tracing.v3 import (
    CustomTag,
    CustomTagEnvironment,
    CustomTagHeader,
    CustomTagLiteral,
    CustomTagMetadata,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType, Percent

from mesh.model import ALL, TracingProvider
from mesh.model import CustomTag as Tag
from mesh.proxy import Tracing
from xds.render import naming
from xds.render.encoding import typed

#: Tag -> what the RBAC filters leave in the request's metadata (see `xds.render.filters`): the verdict of
#: network policy, and the rules that decided.
_JUDGED = {
    "sluice.verdict": "enforced_engine_result",
    "sluice.policy": "enforced_effective_policy_id",
    "sluice.policy.deny": "deny_enforced_effective_policy_id",
    "sluice.policy.allow": "allow_enforced_effective_policy_id",
}

_TIMEOUT = timedelta(seconds=1)


def structure(tracing: Tracing | None) -> Tracing | None:
    """What of it listeners are made of."""
    if tracing is None:
        return None
    sampling = tracing.sampling if _asks_parent(tracing) else 0
    return replace(tracing, sampling=sampling, tags=(), istio_tags=True)


def host(provider: TracingProvider) -> str:
    """The name of the collector, without the namespace that may stand before it."""
    return provider.service.rpartition("/")[2]


def place(provider: TracingProvider) -> tuple[str, int, Literal["grpc", "http"]]:
    return host(provider), provider.port, provider.protocol


def cluster_name(provider: TracingProvider) -> str:
    return naming.provider(*place(provider))


def trace(manager: HttpConnectionManager, tracing: Tracing | None) -> HttpConnectionManager:
    """The manager with tracing, if there is any; requests that no route takes begin no trace."""
    if tracing is None:
        return manager
    provider = tracing.provider
    manager.tracing = HttpConnectionManagerTracing(
        random_sampling=Percent(value=0.0),
        max_path_tag_length=provider.max_tag_length or None,
        provider=_provider(tracing),
    )
    manager.generate_request_id = True
    manager.request_id_extension = RequestIdExtension(typed_config=typed(_request_id(tracing)))
    return manager


def _request_id(tracing: Tracing) -> UuidRequestIdConfig:
    """Where the id does not decide, Envoy leaves each request to its tracer, whatever a route samples: one
    whose id is none is traced then, and of tracers without a sampler all are."""
    found = UuidRequestIdConfig(pack_trace_reason=False)
    if not tracing.by_request_id:
        found.use_request_id_for_trace_sampling = False
    return found


def traced(routes: Iterable[Route], tracing: Tracing | None, steered_by: Iterable[str] = ()) -> list[Route]:
    """The routes with what spans of their requests are to say. `steered_by`: why the connection met this
    Envoy, where that is not the route itself."""
    found = list(routes)
    if tracing is not None:
        for route in found:
            route.tracing = RouteTracing(
                random_sampling=_share(ALL if _asks_parent(tracing) else tracing.sampling),
                custom_tags=_tags(tracing, route.name, "; ".join(steered_by) or route.name),
            )
    return found


def _asks_parent(tracing: Tracing) -> bool:
    return tracing.provider.kind == "opentelemetry"


def _share(sampling: int) -> FractionalPercent:
    return FractionalPercent(numerator=sampling, denominator=FractionalPercentDenominatorType.TEN_THOUSAND)


def _tags(tracing: Tracing, route: str, steered_by: str) -> list[CustomTag]:
    own = tracing.canonical
    said = {
        "istio.canonical_service": own.service,
        "istio.canonical_revision": own.revision,
        "istio.namespace": tracing.pod.namespace,
    }
    said = (said if tracing.istio_tags else {}) | {"sluice.route": route, "sluice.steered_by": steered_by}
    tags = [CustomTag(tag=name, literal=CustomTagLiteral(value=value)) for name, value in said.items()]
    tags += [CustomTag(tag=name, metadata=_judged(key)) for name, key in _JUDGED.items()]
    return tags + [_custom(tag) for tag in tracing.tags]


def _judged(key: str) -> CustomTagMetadata:
    return CustomTagMetadata(
        kind=MetadataKind(request=MetadataKindRequest()),
        metadata_key=MetadataKey(key=naming.RBAC, path=[MetadataKeyPathSegment(key=key)]),
    )


def _custom(tag: Tag) -> CustomTag:
    match tag.kind:
        case "literal":
            return CustomTag(tag=tag.name, literal=CustomTagLiteral(value=tag.value))
        case "environment":
            named = CustomTagEnvironment(name=tag.value, default_value=tag.default)
            return CustomTag(tag=tag.name, environment=named)
    return CustomTag(tag=tag.name, request_header=CustomTagHeader(name=tag.value, default_value=tag.default))


def _provider(tracing: Tracing) -> TracingHttp:
    provider, cluster = tracing.provider, cluster_name(tracing.provider)
    match provider.kind:
        case "opentelemetry":
            return TracingHttp(name=naming.OPENTELEMETRY, typed_config=typed(_opentelemetry(tracing)))
        case "zipkin":
            zipkin = ZipkinConfig(
                collector_cluster=cluster,
                collector_endpoint=provider.path,
                collector_endpoint_version=ZipkinConfigCollectorEndpointVersion.HTTP_JSON,
                collector_hostname=host(provider),
                trace_id_128bit=provider.long_ids,
                # A span of each end: one span that both ends share confuses who is whose parent.
                shared_span_context=False,
                trace_context_option=ZipkinConfigTraceContextOption.USE_B3_WITH_W3C_PROPAGATION,
            )
            return TracingHttp(name=naming.ZIPKIN, typed_config=typed(zipkin))
    datadog = DatadogConfig(
        collector_cluster=cluster, service_name=tracing.service_name, collector_hostname=host(provider)
    )
    return TracingHttp(name=naming.DATADOG, typed_config=typed(datadog))


def _opentelemetry(tracing: Tracing) -> OpenTelemetryConfig:
    provider, cluster = tracing.provider, cluster_name(tracing.provider)
    attributes = {
        "k8s.namespace.name": tracing.pod.namespace,
        "k8s.pod.name": tracing.pod.name,
        "service.version": tracing.canonical.revision,
    }
    ratio = TraceIdRatioBasedSamplerConfig(sampling_percentage=_share(tracing.sampling))
    root = TypedExtensionConfig(name=naming.RATIO_SAMPLER, typed_config=typed(ratio))
    sampler = ParentBasedSamplerConfig(wrapped_sampler=root)
    detector = StaticConfigResourceDetectorConfig(attributes=attributes)
    config = OpenTelemetryConfig(
        service_name=tracing.service_name,
        resource_detectors=[TypedExtensionConfig(name=naming.STATIC_RESOURCE, typed_config=typed(detector))],
    )
    config.sampler = TypedExtensionConfig(name=naming.PARENT_SAMPLER, typed_config=typed(sampler))
    timeout = timedelta(milliseconds=provider.timeout_ms) if provider.timeout_ms else _TIMEOUT
    if provider.protocol == "grpc":
        config.grpc_service = GrpcService(
            envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=cluster, authority=host(provider)), timeout=timeout
        )
        return config
    uri = f"http://{host(provider)}:{provider.port}{provider.path}"
    config.http_service = HttpService(
        http_uri=HttpUri(uri=uri, cluster=cluster, timeout=timeout),
        request_headers_to_add=[
            HeaderValueOption(header=HeaderValue(key=name, value=value.replace("%", "%%")))
            for name, value in provider.headers
        ],
    )
    return config
