"""What is done to requests of a route besides sending them on: faults and cross-origin checks.

The listener holds both filters asleep, a route wakes them with its own settings (rule 6). Istio's order: a
preflight is answered before a fault can hit it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache, lru_cache

from envoy_data_plane.envoy.extensions.filters.common.fault.v3 import FaultDelay
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy as EnvoyCors
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import FaultAbort, HttpFault
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType
from envoy_data_plane.google.protobuf import Any

from mesh.model import CorsPolicy, Fault, RouteRule, ValueMatch
from xds.render import naming
from xds.render.encoding import typed


@cache
def dormant() -> tuple[HttpFilter, ...]:
    return (
        HttpFilter(name=naming.CORS, typed_config=typed(Cors()), disabled=True),
        HttpFilter(name=naming.FAULT, typed_config=typed(HttpFault()), disabled=True),
    )


@cache
def awake() -> dict[str, Any]:
    """`typed_per_filter_config` of routes that may be chosen anew: the first one settles which filters a
    request meets, the last one what they do."""
    return {naming.CORS: typed(EnvoyCors()), naming.FAULT: typed(HttpFault())}


def asked(rule: RouteRule) -> dict[str, Any]:
    """`typed_per_filter_config` of a route."""
    found: dict[str, Any] = {}
    if rule.cors is not None:
        found[naming.CORS] = _cors(rule.cors)
    if rule.fault is not None:
        found[naming.FAULT] = _fault(rule.fault)
    return found


def millionths(share: int) -> FractionalPercent:
    return FractionalPercent(numerator=share, denominator=FractionalPercentDenominatorType.MILLION)


@lru_cache(maxsize=1024)
def _fault(fault: Fault) -> Any:
    found = HttpFault()
    if fault.delayed:
        found.delay = FaultDelay(
            fixed_delay=timedelta(milliseconds=fault.delay_ms), percentage=millionths(fault.delayed)
        )
    if fault.aborted and fault.grpc_status is not None:
        found.abort = FaultAbort(grpc_status=fault.grpc_status, percentage=millionths(fault.aborted))
    elif fault.aborted:
        found.abort = FaultAbort(http_status=fault.status, percentage=millionths(fault.aborted))
    return typed(found)


@lru_cache(maxsize=1024)
def _cors(cors: CorsPolicy) -> Any:
    return typed(
        EnvoyCors(
            allow_origin_string_match=[_origin(origin) for origin in cors.origins],
            allow_methods=",".join(cors.methods),
            allow_headers=",".join(cors.headers),
            expose_headers=",".join(cors.exposed),
            max_age="" if cors.max_age_s is None else str(cors.max_age_s),
            allow_credentials=cors.credentials,
            forward_not_matching_preflights=cors.forward_unmatched,
        )
    )


def _origin(origin: ValueMatch) -> StringMatcher:
    match origin.kind:
        case "exact":
            return StringMatcher(exact=origin.value)
        case "prefix":
            return StringMatcher(prefix=origin.value)
        case "present":
            return StringMatcher(safe_regex=RegexMatcher(regex=".*"))
    return StringMatcher(safe_regex=RegexMatcher(regex=origin.value))
