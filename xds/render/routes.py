"""What Envoy does with a request: the route configurations of routed service ports and of L7 classes.

Everything that an edit may change stands here, because Envoy applies it to live connections (rule 6). The
virtual host of a routed port takes every Host: it belongs to the address that was dialled (rule 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import DataSource, RuntimeFractionalPercent
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteActionRequestMirrorPolicy,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)

from mesh.hashed import Hashed
from mesh.model import HashKey, RouteBackend, RouteRule
from mesh.model import RouteMatch as Match
from mesh.proxy import L7Class, RoutedPort, RouteEntry, Target, Tracing
from xds.render import actions, balancing, filters, naming, rbac, retries, route_filters
from xds.render.encoding import encode
from xds.render.headers import FORGEABLE, header_mutations, host_change
from xds.render.paths import path_rewrite
from xds.render.protocol import FOREVER
from xds.render.redirects import redirect_action
from xds.render.request_match import request_match
from xds.render.tracing import traced

#: Envoy wants the sum of a route's weights to fit 32 bits.
_LARGEST_SUM = 1 << 31

#: Of a response that a route gives itself, as in Istio.
LARGEST_BODY = 1 << 20

#: What Envoy answers where the cluster of a share does not exist.
_LOST = {
    500: RouteActionClusterNotFoundResponseCode.INTERNAL_SERVER_ERROR,
    503: RouteActionClusterNotFoundResponseCode.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Share:
    """The backends of a target that one egress class judges (None: nothing does): their number counts
    only beside other shares, so that a backend more or less changes no route."""

    l7: L7Class | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Reached(Hashed):
    """What a route must know of a target: who judges what stands behind it, and what its requests are hashed
    by."""

    target: Target
    shares: tuple[Share, ...]
    hash: HashKey | None = None

    __hash__ = Hashed.__hash__


@lru_cache(maxsize=8192)
def routed_port(routed: RoutedPort, reached: tuple[Reached, ...], tracing: Tracing | None = None) -> bytes:
    """The routes of one service port. No entry matches: 404."""
    name = naming.routed_port(routed.service, routed.port, routed.address)
    known = {found.target: found for found in reached}
    return encode(
        RouteConfiguration(
            name=name,
            virtual_hosts=[
                VirtualHost(
                    name=name,
                    domains=["*"],
                    routes=traced((route(entry, routed.dialled, known) for entry in routed.entries), tracing),
                    retry_policy=retries.routed(retries.DEFAULT),
                )
            ],
            request_headers_to_remove=list(FORGEABLE),
            max_direct_response_body_size_bytes=LARGEST_BODY,
        )
    )


@lru_cache(maxsize=8192)
def l7_class(found: L7Class, tracing: Tracing | None = None) -> bytes:
    """The route of a class: what its rules allow goes on to where it was sent, the rest gets 403."""
    name = naming.class_routes(found.direction, found.number)

    def forward(host: str | None = None) -> RouteAction:
        return RouteAction(cluster=naming.behind(found), timeout=FOREVER, host_rewrite_literal=host)

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
                    retry_policy=retries.passed(),
                    typed_per_filter_config=filters.asked(found),
                )
            ],
            request_headers_to_remove=list(FORGEABLE),
        )
    )


def route(entry: RouteEntry, port: int, known: Mapping[Target, Reached], *, tls: bool = False) -> Route:
    """One entry, at a port that is dialled, behind `tls` that ended here."""
    rule = entry.rule
    found = Route(
        name=naming.route(entry.origin, rule.field),
        match=request_match(entry.match),
        typed_per_filter_config=route_filters.asked(rule),
    )
    answered = rule.redirect is not None or rule.direct is not None
    if not answered and (weights := list(_weights(rule, known))):
        found.route = _forward(rule, entry.match, weights, known)
        return found
    found.response_headers_to_add, found.response_headers_to_remove = header_mutations(rule.response_headers)
    if rule.redirect is not None:
        found.redirect = redirect_action(rule.redirect, entry.match.path, port, tls=tls)
    elif rule.direct is not None:
        body = DataSource(inline_bytes=rule.direct.body) if rule.direct.body else None
        found.direct_response = DirectResponseAction(status=rule.direct.status, body=body)
    else:
        found.direct_response = DirectResponseAction(status=rule.lost)
    return found


def _forward(
    rule: RouteRule,
    match: Match,
    weights: list[WeightedClusterClusterWeight],
    known: Mapping[Target, Reached],
) -> RouteAction:
    rewrite = rule.rewrite
    action = RouteAction(
        weighted_clusters=WeightedCluster(clusters=weights),
        cluster_not_found_response_code=_LOST[rule.lost],
        timeout=timedelta(milliseconds=rule.timeout_ms),
        request_mirror_policies=list(_mirrors(rule, known)),
        hash_policy=[balancing.route_hash(key) for key in _hash_keys(rule, known)],
        **path_rewrite(match.path, rewrite.path if rewrite else None),
    )
    if rule.retries is not None or rule.backend_timeout_ms:
        action.retry_policy = retries.routed(rule.retries or retries.DEFAULT, rule.backend_timeout_ms)
    return action


def _mirrors(rule: RouteRule, known: Mapping[Target, Reached]) -> Iterator[RouteActionRequestMirrorPolicy]:
    """Copies to backends that an egress class judges are not sent: a copy brings no rules with it, so the
    cluster would refuse it (rule 4)."""
    for mirror in rule.mirrors:
        target = Target.of(mirror)
        reached = known.get(target) if target else None
        if target and reached and any(share.l7 is None for share in reached.shares):
            yield RouteActionRequestMirrorPolicy(
                cluster=naming.cluster(target, 0),
                runtime_fraction=RuntimeFractionalPercent(
                    default_value=route_filters.millionths(mirror.share)
                ),
            )


def _hash_keys(rule: RouteRule, known: Mapping[Target, Reached]) -> list[HashKey]:
    """Of all to whom the rule sends, each once."""
    found = (known.get(target) for target in map(Target.of, rule.backends) if target)
    return list(dict.fromkeys(reached.hash for reached in found if reached and reached.hash))


def _weights(rule: RouteRule, known: Mapping[Target, Reached]) -> Iterator[WeightedClusterClusterWeight]:
    """Nothing if no backend is both valid and of some weight: then the whole route answers for itself."""
    found: list[tuple[RouteBackend, Share | None, int, int]] = []  # ..., weight = numerator / denominator
    for backend in rule.backends:
        target = Target.of(backend)
        parts = known[target].shares if target and target in known else ()
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
    target = Target.of(backend)
    if share is None or target is None:
        return cluster
    l7 = share.l7
    cluster.name = naming.cluster(target, l7.number if l7 else 0)
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
