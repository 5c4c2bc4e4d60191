"""VirtualServices that hand requests on to others (istio/api, HTTPRoute.delegate).

A delegate has no hosts of its own and hands nothing on. A request must fit a match of the rule that delegates
and one of the delegate's; what the delegate's rule leaves unsaid, the other one says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mesh.model import Callers, ObjectRef, PathMatch, Rewrite, Route, RouteMatch, RouteRule

_ANY_PATH = PathMatch("prefix", "/")


def expanded(route: Route, routes: Mapping[ObjectRef, Route]) -> Iterator[RouteRule]:
    """The rules of a route, delegates' in place of those that delegate."""
    for rule in route.rules:
        if rule.delegate is None:
            yield rule
            continue
        delegate = routes.get(rule.delegate)
        if delegate is None or why_not(route, delegate):
            continue
        for inner in delegate.rules:
            matches = tuple(_both(rule, inner))
            if matches and inner.delegate is None:
                yield _joined(rule, inner, f"{rule.field} > {delegate.ref} {inner.field}", matches)


def why_not(route: Route, delegate: Route) -> str:
    """Why a route can hand nothing on to another one, and what would be right; "" if it can."""
    if delegate.names:
        return f"{delegate.ref} is no delegate, for it names hosts: take its spec.hosts out"
    if not {"*", route.ref.namespace} & set(delegate.exported):
        namespace = route.ref.namespace
        return f"{delegate.ref} is not for namespace {namespace}: add {namespace} to its spec.exportTo"
    return ""


def _both(outer: RouteRule, inner: RouteRule) -> Iterator[RouteMatch]:
    for one in outer.matches or (RouteMatch(),):
        for other in inner.matches or (RouteMatch(),):
            path = _narrower(one.path, other.path)
            if path is None or (one.port and other.port and one.port != other.port):
                continue
            callers = _same_callers(one.callers, other.callers)
            if callers is not None:
                yield RouteMatch(
                    path,
                    tuple(dict.fromkeys((*one.headers, *other.headers))),
                    tuple(dict.fromkeys((*one.query, *other.query))),
                    one.port or other.port,
                    callers,
                    claims=tuple(dict.fromkeys((*one.claims, *other.claims))),
                )


def _narrower(outer: PathMatch, inner: PathMatch) -> PathMatch | None:
    """The path that fits both; None where the delegate asks for what the other one does not give, in case
    as well. As in Istio, an expression cannot be joined with anything but any path."""
    if outer in (_ANY_PATH, inner):
        return inner
    if inner == _ANY_PATH:
        return outer
    longer = inner.kind in ("start", "exact") and inner.value.startswith(outer.value)
    return inner if outer.kind == "start" and longer and inner.ignore_case == outer.ignore_case else None


def _same_callers(outer: Callers, inner: Callers) -> Callers | None:
    labels = dict(outer.labels)
    if any(labels.setdefault(key, value) != value for key, value in inner.labels):
        return None
    if outer.namespace and inner.namespace and outer.namespace != inner.namespace:
        return None
    gateways = outer.gateways if inner.gateways is None else inner.gateways
    if outer.gateways is not None and gateways is not None:
        gateways = tuple(name for name in gateways if name in outer.gateways)
    return Callers(outer.namespace or inner.namespace, tuple(sorted(labels.items())), gateways)


def _joined(outer: RouteRule, inner: RouteRule, field: str, matches: tuple[RouteMatch, ...]) -> RouteRule:
    found = replace(
        inner,
        field=field,
        matches=matches,
        rewrite=_rewrite(outer, inner),
        timeout_ms=inner.timeout_ms or outer.timeout_ms,
        retries=inner.retries or outer.retries,
        fault=inner.fault or outer.fault,
        mirrors=inner.mirrors or outer.mirrors,
        cors=inner.cors or outer.cors,
    )
    return found if inner.says_headers else _with_headers_of(outer, found)


def _rewrite(outer: RouteRule, inner: RouteRule) -> Rewrite | None:
    """What `rewrite` says and what header changes say of the authority come from either on its own."""
    written = _written(inner) or _written(outer) or Rewrite()
    told = [inner] if inner.says_headers else [inner, outer]
    by_headers = (rule.rewrite.hostname for rule in told if rule.rewrite and rule.by_headers)
    found = replace(written, hostname=written.hostname or next(by_headers, None))
    return None if found == Rewrite() else found


def _written(rule: RouteRule) -> Rewrite | None:
    """Without what headers say."""
    if rule.rewrite is None or not rule.by_headers:
        return rule.rewrite
    return replace(rule.rewrite, hostname=None) if rule.rewrite.path else None


def _with_headers_of(outer: RouteRule, rule: RouteRule) -> RouteRule:
    """Before those of a rule's only destination, after those of several, as if the rule said them itself."""
    asked, told = outer.request_headers, outer.response_headers
    if not rule.backends:
        return replace(rule, request_headers=asked, response_headers=told)
    first = len(rule.backends) == 1
    backends = (
        replace(
            one,
            request_headers=asked.then(one.request_headers) if first else one.request_headers.then(asked),
            response_headers=told.then(one.response_headers) if first else one.response_headers.then(told),
        )
        for one in rule.backends
    )
    return replace(rule, backends=tuple(backends))
