"""Which requests a route is for (`mesh.model.RouteMatch`) in Envoy's terms; `mesh.routes.routing.matches`
says what that means."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, QueryParameterMatcher, RouteMatch
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)

from mesh.model import ClaimMatch, ValueMatch
from mesh.model import RouteMatch as Match
from xds.render.claims import claim
from xds.render.paths import path_matcher
from xds.render.rbac import header_name


def request_match(match: Match) -> RouteMatch:
    found = RouteMatch(
        **path_matcher(match.path),
        headers=[header_match(value) for value in match.headers],
        query_parameters=[_parameter(value) for value in match.query],
    )
    for asked in match.claims:
        found.dynamic_metadata.append(_claim(asked))
    if match.path.ignore_case:
        found.case_sensitive = False
    return found


def header_match(value: ValueMatch) -> HeaderMatcher:
    found = HeaderMatcher(name=header_name(value.name), invert_match=value.negated)
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


def _claim(value: ClaimMatch) -> MetadataMatcher:
    if value.kind == "present":
        return claim(value.path, ValueMatcher(present_match=True), value.negated)
    return claim(value.path, ValueMatcher(string_match=_string(value)), value.negated)


def _string(value: ValueMatch | ClaimMatch) -> StringMatcher:
    match value.kind:
        case "exact":
            return StringMatcher(exact=value.value)
        case "prefix":
            return StringMatcher(prefix=value.value)
    return StringMatcher(safe_regex=RegexMatcher(regex=value.value))
