"""HTTP policy rules as Envoy's RBAC: a request passes if some rule fits it, else it is answered 403.

Filters themselves deny everything; what they allow travels in route configurations, because those bind live
connections (rule 6) and because a route that forgot them must not be an open door.

A header of several lines is judged as one value, joined by commas, because an allow must not be content with
one line that fits (threat N07). The bootstrap switches `rbac_match_headers_individually` off for that; a rule
that denies would have to look for its value among the others.
"""

from __future__ import annotations

from functools import cache, lru_cache

from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Policy,
    Principal,
    Rbac,
    RbacAction,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from mesh.model import HttpMatch
from mesh.proxy import HttpRule
from xds.render import naming
from xds.render.encoding import typed


@cache
def deny_all() -> HttpFilter:
    """The filter. Rules that are there and name no policy allow nothing; no rules would allow all."""
    return HttpFilter(name=naming.RBAC, typed_config=typed(RbacFilter(rules=Rbac(action=RbacAction.ALLOW))))


@lru_cache(maxsize=4096)
def allow(rules: tuple[HttpRule, ...]) -> dict[str, Any]:
    """`typed_per_filter_config` of a virtual host, route or cluster weight: what `rules` allow."""
    permissions: dict[str, list[Permission]] = {}
    for rule in rules:
        # Objects of two kinds may share a name: then they share a policy, and each still allows its own.
        permissions.setdefault(naming.rbac_policy(rule), []).extend(_permission(m) for m in rule.matches)
    policies = {
        name: Policy(permissions=found, principals=[Principal(any=True)])
        for name, found in sorted(permissions.items())
        if found
    }
    return {naming.RBAC: typed(RbacPerRoute(rbac=RbacFilter(rules=Rbac(policies=policies))))}


def header_name(name: str) -> str:
    """Envoy keeps HTTP/1's Host and HTTP/2's :authority under the latter name."""
    return ":authority" if name == "host" else name


def matching(name: str, regex: str) -> HeaderMatcher:
    """The whole of a header matches an RE2 expression."""
    return HeaderMatcher(name=name, string_match=StringMatcher(safe_regex=RegexMatcher(regex=regex)))


def equal(name: str, value: str) -> HeaderMatcher:
    """A header is there and equals a value."""
    return HeaderMatcher(name=header_name(name), string_match=StringMatcher(exact=value))


def _permission(match: HttpMatch) -> Permission:
    conditions = [
        Permission(header=matching(name, regex))
        for name, regex in ((":method", match.method), (":path", match.path), (":authority", match.host))
        if regex is not None
    ]
    for header in match.headers:
        if header.value is None:
            present = HeaderMatcher(name=header_name(header.name), present_match=True)
            conditions.append(Permission(header=present))
        else:
            conditions.append(Permission(header=equal(header.name, header.value)))
    if not conditions:
        return Permission(any=True)
    return Permission(and_rules=PermissionSet(rules=conditions))
