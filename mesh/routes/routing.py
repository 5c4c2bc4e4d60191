"""Which route entry a request takes: the reference for what Envoy is configured to do.

Follows Gateway API's HTTPRouteMatch; entries come in the order of precedence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import re2

from mesh.expression import compile_expression
from mesh.model import (
    ClaimMatch,
    HeaderChange,
    PathChange,
    PathMatch,
    RouteBackend,
    RouteMatch,
    ValueMatch,
)
from mesh.proxy import RouteEntry
from mesh.request import Request


def choose(entries: Sequence[RouteEntry], request: Request) -> RouteEntry | None:
    """The first entry that matches; None is answered with 404."""
    return next((entry for entry in entries if matches(entry.match, request)), None)


def forwarded(entry: RouteEntry, backend: RouteBackend, request: Request) -> Request:
    """The request as it leaves the caller's Envoy: what egress and ingress rules are asked about."""
    rule = entry.rule
    headers = dict(request.headers)
    for change in (rule.request_headers, backend.request_headers):
        _change(headers, change)
    path, authority = request.path, request.authority
    if rule.rewrite is not None:
        authority = rule.rewrite.hostname or authority
        if rule.rewrite.path is not None:
            path = _replaced(rule.rewrite.path, entry.match.path, path)
    return replace(request, path=path, authority=authority, headers=tuple(headers.items()))


def _change(headers: dict[str, str], change: HeaderChange) -> None:
    headers.update(change.set)
    for name, value in change.add:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    for name in change.remove:
        headers.pop(name, None)


def _replaced(change: PathChange, match: PathMatch, path: str) -> str:
    """Gateway API, HTTPPathModifier: a prefix is replaced element by element."""
    head, mark, query = path.partition("?")
    match change.kind:
        case "full":
            head = change.value
        case "regex":
            head = re2.sub(change.pattern, change.value, head)
        case "start":
            head = change.value + (head[len(match.value) :] if match.kind in ("start", "prefix") else "")
        case "prefix":
            head = change.value.rstrip("/") + head[len(match.value.rstrip("/")) :] or "/"
    return head + mark + query


def matches(match: RouteMatch, request: Request) -> bool:
    """Does the request fit every part? Query parameters are compared as they are written."""
    path, _, query = request.path.partition("?")
    headers = request.fields
    parameters: dict[str, str] = {}
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        parameters.setdefault(name, value)
    return (
        _path_fits(match.path, path)
        and all(value_fits(header, headers) for header in match.headers)
        and all(value_fits(parameter, parameters) for parameter in match.query)
        and all(_claim_fits(claim, dict(request.claims)) for claim in match.claims)
    )


def _claim_fits(match: ClaimMatch, claims: Mapping[tuple[str, ...], Sequence[str]]) -> bool:
    """One value is enough. What is no text is in nobody's list of values."""
    wanted = ValueMatch("", match.kind, match.value)
    return any(value_fits(wanted, {"": value}) for value in claims.get(match.path, ())) != (match.negated)


def _path_fits(match: PathMatch, path: str) -> bool:
    value = match.value
    if match.kind == "regex":
        return compile_expression(value).matches(path)
    if match.ignore_case:
        path, value = path.lower(), value.lower()
    if match.kind == "exact":
        return path == value
    if match.kind == "start":
        return path.startswith(value)
    prefix = value.rstrip("/")
    return path == prefix or path.startswith(prefix + "/")


def value_fits(match: ValueMatch, values: Mapping[str, str]) -> bool:
    """Of a negated match what is absent counts as empty."""
    value = values.get(match.name)
    if match.kind == "present":
        return (value is None) == match.negated
    if value is None:
        if not match.negated:
            return False
        value = ""
    match match.kind:
        case "exact":
            fits = value == match.value
        case "prefix":
            fits = value.startswith(match.value)
        case "regex":
            fits = compile_expression(match.value).matches(value)
    return fits != match.negated
