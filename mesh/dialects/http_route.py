"""HTTPRoute of gateway.networking.k8s.io, on Services and Gateways.

What it shares with other routes is in `gateway_route`, filters are in `gateway_filters`. It knows
nothing of precedence between routes, nor of Envoy.
"""

from __future__ import annotations

import re

from mesh.dialects import gateway_route
from mesh.dialects.duration import duration_ms
from mesh.dialects.gateway_filters import HTTP_BACKEND_FILTER, read_backend_filters, read_http_filters
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import expression, name
from mesh.model import ObjectRef, PathMatch, Retries, Route, RouteBackend, RouteMatch, RouteRule, ValueMatch

SPEC = Fields(("parentRefs", "hostnames", "rules"), refused=("useDefaultGateways",))
RULE = Fields(
    ("name", "matches", "filters", "backendRefs", "timeouts", "retry"), refused=("sessionPersistence",)
)
MATCH = Fields(("path", "method", "headers", "queryParams"))
PATH = Fields(("type", "value"))
BACKEND = Fields((*gateway_route.TARGET, "weight", "filters"))
TIMEOUTS = Fields(("request", "backendRequest"))
RETRY = Fields(("codes", "attempts", "backoff"))

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

#: HTTPRouteRetry: what should be tried again beside the codes is every error of a connection.
CONNECTION_ERRORS = ("connect-failure", "refused-stream", "reset")
#: How often is ours to choose where the API leaves it open: as often as Istio does.
ATTEMPTS = 2

_PATH_KINDS = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}
_BAD_PATH = re.compile(r"//|/\.\.?(/|$)|%2[fF]|#")
_PATH_TEXT = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")


def read_http_route(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    spec = gateway_route.read_spec(root, SPEC)
    names = gateway_route.hostnames(spec.at("hostnames"), 16)
    rules = spec.at("rules")
    found = tuple(_rule(item) for item in rules.items(at_most=16))
    if not rules.present:
        found = (RouteRule("rules[0]", (RouteMatch(),)),)  # the default that the CRD gives
    elif not found and rules.sound:
        rules.refuse("is empty; leave it out or give one rule")
    return gateway_route.routes(root, names, found)


def _rule(reader: Reader) -> RouteRule:
    reader.fields(RULE)
    name(reader.at("name"))
    matches = tuple(_match(item) for item in reader.at("matches").items(at_most=64)) or (RouteMatch(),)
    filters = read_http_filters(reader.at("filters"), matches)
    backends = tuple(_backend(item) for item in reader.at("backendRefs").items(at_most=16))
    if filters.redirect and backends:
        reader.at("backendRefs").refuse("cannot stand beside a RequestRedirect, which answers at once")
    timeouts = reader.at("timeouts").fields(TIMEOUTS)
    whole, each = duration_ms(timeouts.at("request")), duration_ms(timeouts.at("backendRequest"))
    if whole and each > whole:
        timeouts.at("backendRequest").refuse("must not be longer than request")
    return RouteRule(
        field=reader.rule_field,
        matches=matches,
        backends=backends,
        request_headers=filters.request_headers,
        response_headers=filters.response_headers,
        redirect=filters.redirect,
        rewrite=filters.rewrite,
        timeout_ms=whole,
        backend_timeout_ms=each,
        retries=_retries(reader.at("retry")),
        mirrors=filters.mirrors,
        cors=filters.cors,
    )


# --- what a rule is for ------------------------------------------------------------------------


def _match(reader: Reader) -> RouteMatch:
    reader.fields(MATCH)
    method = reader.at("method").choice(METHODS)
    methods = (ValueMatch(":method", "exact", method),) if method else ()
    headers = gateway_route.values(reader.at("headers"), 4096, fold=True)
    query = gateway_route.values(reader.at("queryParams"), 1024)
    return RouteMatch(_path(reader.at("path")), (*methods, *headers), query)


def _path(reader: Reader) -> PathMatch:
    reader.fields(PATH)
    value = reader.at("value")
    kind = _PATH_KINDS.get(reader.at("type").choice(tuple(_PATH_KINDS), "PathPrefix"))
    text = value.text("/")
    if kind == "regex":
        return PathMatch("regex", expression(value) or "/")
    if value.sound and (len(text) > 1024 or _BAD_PATH.search(text) or not _PATH_TEXT.fullmatch(text)):
        value.refuse(f"{shown(text)} is not a path: it begins with / and has no empty, . or .. element")
    if kind == "exact":
        return PathMatch("exact", text)
    # HTTPPathMatch: a trailing slash of a prefix is ignored.
    return PathMatch("prefix", text.rstrip("/") or "/")


# --- what is done to requests ------------------------------------------------------------------


def _backend(reader: Reader) -> RouteBackend:
    reader.fields(BACKEND)
    service, number = gateway_route.target(reader, "these requests answer 500")
    filters = read_backend_filters(reader.at("filters"), HTTP_BACKEND_FILTER)
    return RouteBackend(
        service, number, gateway_route.weight(reader), filters.request_headers, filters.response_headers
    )


def _retries(reader: Reader) -> Retries | None:
    """GEP-1731; each attempt has the time of `backendRequest`."""
    if not reader.fields(RETRY).present:
        return None
    codes = {item.integer(400, 599, 500) for item in reader.at("codes").items()}
    return Retries(
        attempts=reader.at("attempts").integer(1, 1_000, ATTEMPTS),
        on=CONNECTION_ERRORS,
        statuses=tuple(sorted(codes)),
        backoff_ms=duration_ms(reader.at("backoff")),
    )
