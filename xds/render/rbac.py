"""HTTP policy rules as Envoy's RBAC: a request passes if some rule fits it, else it is answered 403.

Filters themselves deny everything; what they allow travels in route configurations, because those bind live
connections (rule 6) and because a route that forgot them must not be an open door.

A header of several lines is judged as one value, joined by commas, because an allow must not be content with
one line that fits (threat N07). The bootstrap switches `rbac_match_headers_individually` off for that; a rule
that denies looks for its value among the others too (`xds.render.authorization`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

from mesh.model import HeaderAction, HeaderMatch, HttpMatch
from mesh.proxy import HttpRule
from xds.render import naming
from xds.render.encoding import typed

#: A match with more header actions than this would need too many routes (two for each combination).
MOST_ACTIONS = 4

Policies = Mapping[str, Policy]


@cache
def deny_all() -> HttpFilter:
    """The filter. Rules that are there and name no policy allow nothing; no rules would allow all."""
    return HttpFilter(name=naming.RBAC, typed_config=typed(RbacFilter(rules=Rbac(action=RbacAction.ALLOW))))


@cache
def dormant(name: str) -> HttpFilter:
    """A filter that judges only where a route brings it rules."""
    return HttpFilter(name=name, typed_config=typed(RbacFilter()), disabled=True)


def allow(policies: Policies, prefix: str = "") -> RbacFilter:
    """Some policy must fit. The answer stands in the metadata, under keys that begin with `prefix`."""
    rules = Rbac(action=RbacAction.ALLOW, policies=dict(policies))
    return RbacFilter(rules=rules, rules_stat_prefix=prefix)


def deny(policies: Policies, prefix: str = "") -> RbacFilter:
    """No policy may fit."""
    rules = Rbac(action=RbacAction.DENY, policies=dict(policies))
    return RbacFilter(rules=rules, rules_stat_prefix=prefix)


def shadow(judge: RbacFilter, prefix: str) -> RbacFilter:
    """The same without consequences."""
    return RbacFilter(shadow_rules=judge.rules, shadow_rules_stat_prefix=prefix)


def per_route(judge: RbacFilter) -> Any:
    """An entry of `typed_per_filter_config`."""
    return typed(RbacPerRoute(rbac=judge))


@lru_cache(maxsize=4096)
def policies(rules: tuple[HttpRule, ...] | None, acting: bool) -> Policies:
    """What `rules` allow, by name; None is everything. Where header actions cannot be taken (`acting` False),
    a request whose headers call for a change is not allowed (rule 18)."""
    if rules is None:
        return {
            naming.EVERYTHING: Policy(permissions=[Permission(any=True)], principals=[Principal(any=True)])
        }
    found = {
        naming.rbac_policy(rule.origin, rule.field): Policy(
            permissions=[_permission(match, acting) for match in rule.matches],
            principals=[Principal(any=True)],
        )
        for rule in rules
        if rule.matches
    }
    return dict(sorted(found.items()))


def changes(match: HttpMatch) -> tuple[HeaderAction, ...]:
    """The actions that change something."""
    return tuple(action for action in match.actions if action.action != "LOG")


def header_name(name: str) -> str:
    """Envoy keeps HTTP/1's Host and HTTP/2's :authority under the latter name."""
    return ":authority" if name == "host" else name


def matching(name: str, regex: str) -> HeaderMatcher:
    """The whole of a header matches an RE2 expression."""
    return HeaderMatcher(name=name, string_match=StringMatcher(safe_regex=RegexMatcher(regex=regex)))


def equal(name: str, value: str) -> HeaderMatcher:
    """A header is there and equals a value."""
    return HeaderMatcher(name=header_name(name), string_match=StringMatcher(exact=value))


def conditions(match: HttpMatch) -> Iterator[HeaderMatcher]:
    """What a match asks of a request, header actions aside."""
    for name, regex in ((":method", match.method), (":path", match.path), (":authority", match.host)):
        if regex is not None:
            yield matching(name, regex)
    for header in match.headers:
        yield _present(header) if header.value is None else equal(header.name, header.value)


def _present(header: HeaderMatch) -> HeaderMatcher:
    return HeaderMatcher(name=header_name(header.name), present_match=True)


def _permission(match: HttpMatch, acting: bool) -> Permission:
    found = [Permission(header=header) for header in conditions(match)]
    acts = changes(match)
    if not acting or len(acts) > MOST_ACTIONS:
        found += [Permission(header=equal(action.name, action.value)) for action in acts]
    if not found:
        return Permission(any=True)
    return Permission(and_rules=PermissionSet(rules=found))
