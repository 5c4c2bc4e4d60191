"""What Envoy does with a request: the route configurations of routed service ports and of L7 classes.

Everything that an edit may change stands here, because Envoy applies it to live connections (rule 6). The
virtual host of a routed port takes every Host: it belongs to the address that was dialled (rule 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    QueryParameterMatcher,
    RetryPolicy,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from mesh.model import RouteBackend, RouteRule, ServiceName, ValueMatch
from mesh.model import RouteMatch as Match
from mesh.proxy import L7Class, RoutedPort, RouteEntry, Tracing
from xds.render import actions, filters, naming, rbac
from xds.render.encoding import encode, typed
from xds.render.headers import FORGEABLE, header_mutations, host_change
from xds.render.paths import path_matcher, path_rewrite
from xds.render.protocol import FOREVER
from xds.render.redirects import redirect_action
from xds.render.tracing import traced

#: Istio's default for requests that are routed, and its default for requests that are passed on: only what
#: never reached the application is sent again, such as a request on a connection that it was just closing.
_ROUTED_RETRIES = "connect-failure,refused-stream,unavailable,cancelled"
_PASSED_RETRIES = "reset-before-request"
_RETRIES = 2
_HOST_ATTEMPTS = 5

#: Envoy wants the sum of a route's weights to fit 32 bits.
_LARGEST_SUM = 1 << 31


@dataclass(frozen=True, slots=True)
class Share:
    """The backends of a destination that one egress class judges (None: nothing does): their number counts
    only beside other shares, so that a backend more or less changes no route."""

    l7: L7Class | None
    count: int = 1


Target = tuple[ServiceName, int]
#: The destinations of a routed port, sorted.
Shares = tuple[tuple[Target, tuple[Share, ...]], ...]


@lru_cache(maxsize=8192)
def routed_port(routed: RoutedPort, destinations: Shares, tracing: Tracing | None = None) -> bytes:
    """The routes of one service port. No entry matches: 404."""
    name = naming.routed_port(routed.service, routed.port)
    shares = dict(destinations)
    return encode(
        RouteConfiguration(
            name=name,
            virtual_hosts=[
                VirtualHost(
                    name=name,
                    domains=["*"],
                    routes=traced((_route(entry, routed.port, shares) for entry in routed.entries), tracing),
                    retry_policy=_retries(0),
                )
            ],
            request_headers_to_remove=list(FORGEABLE),
        )
    )


@lru_cache(maxsize=8192)
def l7_class(found: L7Class, tracing: Tracing | None = None) -> bytes:
    """The route of a class: what its rules allow goes on to where it was sent, the rest gets 403."""
    name = naming.class_routes(found.direction, found.number)

    def forward(host: str | None = None) -> RouteAction:
        cluster = naming.passthrough(found.direction)
        return RouteAction(cluster=cluster, timeout=FOREVER, host_rewrite_literal=host)

    return encode(
        RouteConfiguration(
            name=name,
            virtual_hosts=[
                VirtualHost(
                    name=name,
                    domains=["*"],
                    routes=traced(
                        (
                            *actions.routes(name, found.rules or (), forward),
                            Route(name=name, match=RouteMatch(prefix="/"), route=forward()),
                        ),
                        tracing,
                        sorted(found.keys),
                    ),
                    retry_policy=RetryPolicy(retry_on=_PASSED_RETRIES, num_retries=_RETRIES),
                    typed_per_filter_config=filters.asked(found),
                )
            ],
            request_headers_to_remove=list(FORGEABLE),
        )
    )


def _route(entry: RouteEntry, port: int, shares: Mapping[Target, tuple[Share, ...]]) -> Route:
    rule = entry.rule
    route = Route(name=naming.route(entry.origin, rule.field), match=_match(entry.match))
    if rule.redirect is None and (weights := list(_weights(rule, shares))):
        route.route = _forward(rule, entry.match, weights)
        return route
    route.response_headers_to_add, route.response_headers_to_remove = header_mutations(rule.response_headers)
    if rule.redirect is not None:
        route.redirect = redirect_action(rule.redirect, entry.match.path, port)
    else:
        route.direct_response = DirectResponseAction(status=500)
    return route


def _forward(rule: RouteRule, match: Match, weights: list[WeightedClusterClusterWeight]) -> RouteAction:
    rewrite = rule.rewrite
    return RouteAction(
        weighted_clusters=WeightedCluster(clusters=weights),
        cluster_not_found_response_code=RouteActionClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR,
        timeout=timedelta(milliseconds=rule.timeout_ms),
        retry_policy=_retries(rule.backend_timeout_ms) if rule.backend_timeout_ms else None,
        **path_rewrite(match.path, rewrite.path if rewrite else None),
    )


def _weights(
    rule: RouteRule, shares: Mapping[Target, tuple[Share, ...]]
) -> Iterator[WeightedClusterClusterWeight]:
    """Nothing if no backend is both valid and of some weight: then the whole route answers 500."""
    found: list[tuple[RouteBackend, Share | None, int, int]] = []  # ..., weight = numerator / denominator
    for backend in rule.backends:
        parts = shares.get((backend.service, backend.port), ()) if backend.service else ()
        total = sum(share.count for share in parts)
        found += [(backend, share, backend.weight * share.count, total) for share in parts]
        if not parts:
            found.append((backend, None, backend.weight, 1))
    if not any(share and weight for _, share, weight, _ in found):
        return
    scale = math.lcm(*(total for *_, total in found))
    weights = [weight * scale // total for *_, weight, total in found]
    excess = -(-sum(weights) // _LARGEST_SUM)
    for (backend, share, _, _), weight in zip(found, weights, strict=True):
        if weight:
            yield _weighted(rule, backend, share, max(1, weight // excess))


def _weighted(
    rule: RouteRule, backend: RouteBackend, share: Share | None, weight: int
) -> WeightedClusterClusterWeight:
    """Envoy applies header changes of a weight before those of its route, the Gateway API wants it the other
    way round (HTTPBackendRef.filters): so all of them stand at the weight."""
    cluster = WeightedClusterClusterWeight(name=naming.INVALID_BACKEND, weight=weight)
    cluster.response_headers_to_add, cluster.response_headers_to_remove = header_mutations(
        rule.response_headers, backend.response_headers
    )
    if share is None or backend.service is None:
        return cluster
    l7 = share.l7
    cluster.name = naming.cluster(backend.service, backend.port, l7.number if l7 else 0)
    cluster.request_headers_to_add, cluster.request_headers_to_remove = header_mutations(
        rule.request_headers, backend.request_headers
    )
    cluster.host_rewrite_literal = (
        host_change(backend.request_headers)
        or (rule.rewrite.hostname if rule.rewrite else None)
        or host_change(rule.request_headers)
    )
    if l7:
        # Nothing behind a route takes header actions.
        judge = rbac.allow(rbac.policies(l7.rules, False))
        cluster.typed_per_filter_config = {naming.RBAC: rbac.per_route(judge)}
    return cluster


def _match(match: Match) -> RouteMatch:
    found = RouteMatch(
        **path_matcher(match.path),
        headers=[_header(value) for value in match.headers],
        query_parameters=[_parameter(value) for value in match.query],
    )
    if match.path.ignore_case:
        found.case_sensitive = False
    return found


def _header(value: ValueMatch) -> HeaderMatcher:
    found = HeaderMatcher(name=rbac.header_name(value.name), invert_match=value.negated)
    if value.kind == "present":
        found.present_match = True
    else:
        found.string_match = _string(value)
        found.treat_missing_header_as_empty = value.negated
    return found


def _parameter(value: ValueMatch) -> QueryParameterMatcher:
    if value.kind == "present":
        return QueryParameterMatcher(name=value.name, present_match=True)
    return QueryParameterMatcher(name=value.name, string_match=_string(value))


def _string(value: ValueMatch) -> StringMatcher:
    match value.kind:
        case "exact":
            return StringMatcher(exact=value.value)
        case "prefix":
            return StringMatcher(prefix=value.value)
    return StringMatcher(safe_regex=RegexMatcher(regex=value.value))


@cache
def _retries(per_try_ms: int) -> RetryPolicy:
    return RetryPolicy(
        retry_on=_ROUTED_RETRIES,
        num_retries=_RETRIES,
        per_try_timeout=timedelta(milliseconds=per_try_ms) if per_try_ms else None,
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name=naming.PREVIOUS_HOSTS, typed_config=typed(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=_HOST_ATTEMPTS,
    )
