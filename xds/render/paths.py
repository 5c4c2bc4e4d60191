"""Paths of the Gateway API (HTTPRouteSpec: HTTPPathMatch, HTTPPathModifier) and of VirtualServices in Envoy's
terms."""

from __future__ import annotations

from typing import TypedDict

import re2
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher

from mesh.model import PathChange, PathMatch


class PathMatcher(TypedDict, total=False):
    """Fields of RouteMatch."""

    path: str
    prefix: str
    path_separated_prefix: str
    safe_regex: RegexMatcher


class PathRewrite(TypedDict, total=False):
    """Fields that RouteAction and RedirectAction share."""

    prefix_rewrite: str
    regex_rewrite: RegexMatchAndSubstitute


def path_matcher(match: PathMatch) -> PathMatcher:
    """A prefix is of whole elements: `/foo` and `/foo/` both match `/foo` and `/foo/bar`, not `/foobar`."""
    match match.kind:
        case "exact":
            return {"path": match.value}
        case "start":
            return {"prefix": match.value}
        case "regex":
            return {"safe_regex": RegexMatcher(regex=match.value)}
        case "prefix":
            elements = match.value.rstrip("/")
            return {"path_separated_prefix": elements} if elements else {"prefix": "/"}


def path_rewrite(match: PathMatch, change: PathChange | None) -> PathRewrite:
    """The query stays. ReplacePrefixMatch needs a prefix match, without one the path stays too; slashes
    between the new prefix and the rest are made one, as the table at HTTPPathModifier shows."""
    if change is None:
        return {}
    if change.kind == "full":
        return {"regex_rewrite": _substitute("^.*$", change.value)}
    if change.kind == "regex":
        pattern = RegexMatcher(regex=change.pattern)
        return {"regex_rewrite": RegexMatchAndSubstitute(pattern=pattern, substitution=change.value)}
    if change.kind == "start":
        return {"prefix_rewrite": change.value}
    if match.kind != "prefix":
        return {}
    old, new = match.value.rstrip("/"), change.value.rstrip("/")
    if not old:
        return {"prefix_rewrite": f"{new}/"} if new else {}
    if not new:
        # A plain prefix rewrite would make an empty path of `/foo` itself.
        return {"regex_rewrite": _substitute(f"^{re2.escape(old)}/?", "/")}
    return {"prefix_rewrite": new}


def _substitute(pattern: str, replacement: str) -> RegexMatchAndSubstitute:
    return RegexMatchAndSubstitute(
        pattern=RegexMatcher(regex=pattern), substitution=replacement.replace("\\", "\\\\")
    )
