"""What judges a request, in order. The listener holds the filters, a route what they ask for (rule 6).

Tokens come first, for everything behind may ask for their claims. Then network policy, so that what it
refuses reaches no authorization service; then AuthorizationPolicy's CUSTOM, DENY and ALLOW. Rate limits are
last, for what is refused must not use up what others may ask for. WasmPlugins stand before tokens (AUTHN),
behind them (AUTHZ), or behind the policies. Before the judges stand shadows that say
what would be if policies in audit mode counted: behind them they would never see what is refused now.
"""

from __future__ import annotations

from functools import cache, lru_cache

from envoy_data_plane.envoy.extensions.filters.http.grpc_stats.v3 import FilterConfig as GrpcStats
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from mesh.proxy import AuthorizationPart, L7Class
from xds.render import (
    authentication,
    authorization,
    naming,
    plugins,
    providers,
    rate_limits,
    rbac,
    route_filters,
)
from xds.render.encoding import typed
from xds.render.plugins import Slot

#: What the metadata keys begin with that say what a filter answered (read by `agent.judgement`). Those of
#: network policy have no prefix.
_DENY, _ALLOW = "deny_", "allow_"
_AUDIT_ACTION, _AUDIT_RBAC = "audit_action_", "audit_rules_"
_AUDIT_DENY, _AUDIT_ALLOW = "audit_deny_", "audit_allow_"


@lru_cache(maxsize=1024)
def judging(found: tuple[Slot, ...] = (), *, routed: bool = False) -> tuple[HttpFilter, ...]:
    """All but the one of network policy sleep until a route brings them rules; plugins never do. What they
    let pass may be `routed`, and so be given faults."""
    return (
        *plugins.standing(found, "AUTHN"),
        authentication.dormant(),
        *plugins.standing(found, "AUTHZ"),
        rbac.dormant(naming.AUDIT_ACTION),
        rbac.dormant(naming.AUDIT_RBAC),
        rbac.dormant(naming.AUDIT_DENY),
        rbac.dormant(naming.AUDIT_ALLOW),
        rbac.deny_all(),
        providers.dormant(),
        rbac.dormant(naming.DENY),
        rbac.dormant(naming.ALLOW),
        *plugins.standing(found, "STATS", "UNSPECIFIED_PHASE"),
        rate_limits.dormant(),
        *(route_filters.dormant() if routed else ()),
        *ending(),
    )


@cache
def ending() -> tuple[HttpFilter, ...]:
    """What counts the messages of gRPC, for the access records, and what sends requests on. As in Istio it
    stands in every chain; without statistics of its own by method, whose names are the client's."""
    counting = GrpcStats(emit_filter_state=True, stats_for_all_methods=False)
    return HttpFilter(name=naming.GRPC_STATS, typed_config=typed(counting)), router()


@cache
def router() -> HttpFilter:
    return HttpFilter(name=naming.ROUTER, typed_config=typed(Router(suppress_envoy_headers=True)))


@lru_cache(maxsize=4096)
def asked(found: L7Class, *, acting: bool = True) -> dict[str, Any]:
    """`typed_per_filter_config` of a class's virtual host; `acting`: its routes do what rules want done to
    headers."""
    parts = found.authorization
    enforced = tuple(part for part in parts if not part.audit)
    entries = {naming.RBAC: rbac.per_route(rbac.allow(rbac.policies(found.rules, acting)))}
    if found.authentication:
        entries[naming.AUTHENTICATION] = authentication.per_route(found.authentication)
    if custom := providers.asking(enforced):
        entries[naming.CUSTOM] = providers.per_route(custom)
    if denying := _denying(enforced):
        entries[naming.DENY] = rbac.per_route(rbac.deny(authorization.policies(denying), _DENY))
    if allowing := _allowing(enforced):
        entries[naming.ALLOW] = rbac.per_route(rbac.allow(authorization.policies(allowing), _ALLOW))
    if found.limits:
        entries[naming.RATE_LIMITS] = rate_limits.per_route(found.limits)
    return dict(sorted((entries | _audits(found)).items()))


def _audits(found: L7Class) -> dict[str, Any]:
    """Each shadow judges a whole stage, enforced policies included: together they know the verdict."""
    judges: dict[str, RbacFilter] = {}
    parts = found.authorization
    if told := [part for part in parts if part.action == "audit"]:
        judges[naming.AUDIT_ACTION] = rbac.shadow(rbac.allow(authorization.policies(told)), _AUDIT_ACTION)
    if found.audit is not None or any(part.audit for part in parts):
        rules = found.rules if found.audit is None else found.audit
        judges[naming.AUDIT_RBAC] = rbac.shadow(rbac.allow(rbac.policies(rules, True)), _AUDIT_RBAC)
        if denying := _denying(parts):
            judge = rbac.deny(authorization.policies(denying))
            judges[naming.AUDIT_DENY] = rbac.shadow(judge, _AUDIT_DENY)
        if allowing := _allowing(parts):
            judges[naming.AUDIT_ALLOW] = rbac.shadow(
                rbac.allow(authorization.policies(allowing)), _AUDIT_ALLOW
            )
    return {name: rbac.per_route(judge) for name, judge in judges.items()}


def _denying(parts: tuple[AuthorizationPart, ...]) -> list[AuthorizationPart]:
    """Where nobody can be asked for consent, it is refused."""
    lost = [part for part in parts if part.action == "custom" and part.provider is None]
    return lost + [part for part in parts if part.action == "deny"]


def _allowing(parts: tuple[AuthorizationPart, ...]) -> list[AuthorizationPart]:
    return [part for part in parts if part.action == "allow"]
