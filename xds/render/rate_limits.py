"""RateLimits as Envoy's `local_ratelimit`, or as `ratelimit` where a service counts for all proxies.

How much is too much is a rule like any other, so it travels by route configuration (rule 6): the listener
holds an empty `filter_chain`, and the route fills it, with a filter for each local limit and one for each
service. A request becomes a descriptor: the limit, if the request fits it, then a value for each key. Buckets
belong to the route configuration, so they are full again once that changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from itertools import product

import re2
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    HeaderValueOption,
    RuntimeFractionalPercent,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.ratelimit.v3 import RateLimitServiceConfig
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RateLimitAction,
    RateLimitActionGenericKey,
    RateLimitActionHeaderValueMatch,
    RateLimitActionRequestHeaders,
    RateLimitOverride,
    RateLimitOverrideRateLimitOverride,
)
from envoy_data_plane.envoy.config.route.v3 import RateLimit as Descriptors
from envoy_data_plane.envoy.extensions.common.ratelimit.v3 import (
    LocalRateLimitDescriptor,
    RateLimitDescriptorEntry,
    XRateLimitHeadersRfcVersion,
)
from envoy_data_plane.envoy.extensions.filters.http.filter_chain.v3 import (
    FilterChain,
    FilterChainConfig,
    FilterChainConfigPerRoute,
)
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit.v3 import LocalRateLimit
from envoy_data_plane.envoy.extensions.filters.http.ratelimit.v3 import (
    RateLimit,
    RateLimitXRateLimitHeadersRfcVersion,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.matching.common_inputs.network.v3 import DirectSourceIpInput
from envoy_data_plane.envoy.extensions.rate_limit_descriptors.expr.v3 import Descriptor
from envoy_data_plane.envoy.type.v3 import (
    FractionalPercent,
    HttpStatus,
    RateLimitUnit,
    StatusCode,
    TokenBucket,
)
from envoy_data_plane.google.protobuf import Any

from mesh.model import BucketKey, Limit, RateLimitService, TextMatch
from mesh.proxy import RateLimitPart
from xds.render import naming, rbac, texts
from xds.render.encoding import typed
from xds.render.request_match import header_match

#: The first entry of each descriptor; the value of a header that is not there.
LIMIT, ABSENT = "limit", "-"
#: Buckets that are kept for each limit with keys, because clients choose the values. The one that was not
#: asked for longest goes, so that whoever goes on asking too much is not forgotten.
REMEMBERED = 1000

_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_UNITS = {"second": RateLimitUnit.SECOND, "minute": RateLimitUnit.MINUTE, "hour": RateLimitUnit.HOUR}
_ALWAYS = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def dormant() -> HttpFilter:
    """What the listener holds: no filter at all."""
    return HttpFilter(name=naming.RATE_LIMITS, typed_config=typed(FilterChainConfig()), disabled=True)


def per_route(parts: tuple[RateLimitPart, ...]) -> Any:
    """An entry of `typed_per_filter_config`."""
    filters = [filter_ for part in parts for filter_ in _filters(part)]
    return typed(FilterChainConfigPerRoute(filter_chain=FilterChain(filters=filters)))


def _filters(part: RateLimitPart) -> Iterator[TypedExtensionConfig]:
    if part.counted_by is not None:
        config = typed(_global(part, part.counted_by))
        yield TypedExtensionConfig(name=f"{naming.RATE_LIMIT}.{part.origin}", typed_config=config)
        return
    for key, limit in zip(part.keys, part.limits, strict=True):
        config = typed(_local(key, limit))
        yield TypedExtensionConfig(name=f"{naming.LOCAL_RATE_LIMIT}.{key}", typed_config=config)


def _local(key: str, limit: Limit) -> LocalRateLimit:
    """Envoy counts only what has a descriptor; there is no bucket beside."""
    seconds = _SECONDS[limit.unit]
    bucket = TokenBucket(
        max_tokens=limit.burst, tokens_per_fill=limit.requests, fill_interval=timedelta(seconds=seconds)
    )
    entries = [RateLimitDescriptorEntry(key=LIMIT, value=key)]
    # An entry without a value makes a bucket for each.
    entries += [RateLimitDescriptorEntry(key=by.name or by.kind) for by in limit.by]
    wait = HeaderValue(key="retry-after", value=str(math.ceil(seconds / limit.requests)))
    return LocalRateLimit(
        stat_prefix=key,
        status=HttpStatus(code=StatusCode(limit.status)),
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        rate_limits=list(_descriptors(key, limit)),
        descriptors=[LocalRateLimitDescriptor(entries=entries, token_bucket=bucket)],
        max_dynamic_descriptors=REMEMBERED,
        response_headers_to_add=[HeaderValueOption(header=wait)],
        enable_x_ratelimit_headers=XRateLimitHeadersRfcVersion.DRAFT_VERSION_03,
        rate_limited_as_resource_exhausted=True,
    )


def _global(part: RateLimitPart, service: RateLimitService) -> RateLimit:
    """The service is told what the limits are."""
    grpc = GrpcServiceEnvoyGrpc(
        cluster_name=naming.provider(service.host, service.port, "grpc"), authority=service.host
    )
    found = RateLimit(
        domain=service.domain,
        timeout=timedelta(milliseconds=service.timeout_ms),
        failure_mode_deny=not service.fail_open,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        rate_limited_status=HttpStatus(code=StatusCode(part.limits[0].status)),
        rate_limit_service=RateLimitServiceConfig(
            grpc_service=GrpcService(envoy_grpc=grpc), transport_api_version=ApiVersion.V3
        ),
        enable_x_ratelimit_headers=RateLimitXRateLimitHeadersRfcVersion.DRAFT_VERSION_03,
        rate_limited_as_resource_exhausted=True,
    )
    for key, limit in zip(part.keys, part.limits, strict=True):
        for descriptors in _descriptors(key, limit):
            amount = RateLimitOverrideRateLimitOverride(
                requests_per_unit=limit.requests, unit=_UNITS[limit.unit]
            )
            descriptors.limit = RateLimitOverride(rate_limit=amount)
            found.rate_limits.append(descriptors)
    return found


def _descriptors(key: str, limit: Limit) -> Iterator[Descriptors]:
    """Of these a request has one, if it fits the limit: without one of its actions there is no descriptor, so
    whether a header is there makes two."""
    for actions in product(*(_actions(by) for by in limit.by)):
        yield Descriptors(actions=[_fitting(key, limit), *actions])


def _fitting(key: str, limit: Limit) -> RateLimitAction:
    headers = [header_match(header) for header in limit.headers]
    if limit.paths:
        headers.append(rbac.matching(":path", "|".join(map(_path, limit.paths))))
    if limit.methods:
        headers.append(rbac.matching(":method", "|".join(map(re2.escape, limit.methods))))
    if not headers:
        return RateLimitAction(
            generic_key=RateLimitActionGenericKey(descriptor_key=LIMIT, descriptor_value=key)
        )
    return RateLimitAction(
        header_value_match=RateLimitActionHeaderValueMatch(
            descriptor_key=LIMIT, descriptor_value=key, headers=headers
        )
    )


def _path(text: TextMatch) -> str:
    """An RE2 expression for `:path`, in which the query stands as well."""
    escaped, query = re2.escape(text.value), rf"(?:\?{texts.ANYTHING})?"
    match text.kind:
        case "exact":
            return f"{escaped}{query}"
        case "suffix":
            return f"[^?]*{escaped}{query}"
    return texts.regex(text)


def _actions(by: BucketKey) -> tuple[RateLimitAction, ...]:
    """Of which exactly one finds a value."""
    match by.kind:
        case "header":
            name = rbac.header_name(by.name)
            value = RateLimitActionRequestHeaders(header_name=name, descriptor_key=by.name)
            there = HeaderMatcher(name=name, present_match=True)
            missing = RateLimitActionHeaderValueMatch(
                descriptor_key=by.name, descriptor_value=ABSENT, expect_match=False, headers=[there]
            )
            return RateLimitAction(request_headers=value), RateLimitAction(header_value_match=missing)
        case "path":
            # Envoy's `:path` has the query, which would make a bucket of each.
            config = typed(Descriptor(descriptor_key=by.kind, text="request.url_path"))
        case "caller":
            # The peer, and not whom X-Forwarded-For names: that anybody may write.
            config = typed(DirectSourceIpInput())
    return (RateLimitAction(extension=TypedExtensionConfig(name=by.kind, typed_config=config)),)
