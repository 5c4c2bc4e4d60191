"""HTTPRoute of gateway.networking.k8s.io, on Services (GEP-1294, GEP-1426).

A reference to a backend that must not or cannot be followed leaves the route valid and that
backend without a service, so that its share of requests answers 500, as the API demands; anything
else that cannot be read leaves the route without effect. It knows nothing of precedence between
routes, nor of Envoy.
"""

from __future__ import annotations

import re

from mesh.dialects.gateway_filters import read_backend_filters, read_filters
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import created, expression, name, port, printable, token
from mesh.model import (
    ObjectRef,
    Parent,
    PathMatch,
    Route,
    RouteBackend,
    RouteMatch,
    RouteRule,
    ServiceName,
    ValueMatch,
)

OBJECT = Fields(("apiVersion", "kind", "metadata", "spec", "status"))
SPEC = Fields(("parentRefs", "hostnames", "rules"), refused=("useDefaultGateways",))
PARENT = Fields(("group", "kind", "namespace", "name", "port"), refused=("sectionName",))
RULE = Fields(
    ("name", "matches", "filters", "backendRefs", "timeouts"), refused=("retry", "sessionPersistence")
)
MATCH = Fields(("path", "method", "headers", "queryParams"))
VALUE = Fields(("type", "name", "value"))
PATH = Fields(("type", "value"))
BACKEND = Fields(("group", "kind", "namespace", "name", "port", "weight", "filters"))
TIMEOUTS = Fields(("request", "backendRequest"))

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
MAX_WEIGHT = 1_000_000

_PATH_KINDS = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}
_BAD_PATH = re.compile(r"//|/\.\.?(/|$)|%2[fF]|#")
_PATH_TEXT = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_GATEWAY_GROUP = "gateway.networking.k8s.io"
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_DURATION_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def read_http_route(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    root.fields(OBJECT)
    spec = root.at("spec").fields(SPEC)
    spec.require()
    parents = [p for item in spec.at("parentRefs").items(at_most=32) if (p := _parent(item))]
    if not spec.at("parentRefs").items():
        spec.at("parentRefs").refuse("is required: name the Service whose callers this route is for")
    if spec.at("hostnames").items():
        # GEP-1294: implementations should not infer any functionality from hostnames.
        spec.at("hostnames").note("has no effect on a Service: the address that is dialled selects the route")
    rules = spec.at("rules")
    found = tuple(_rule(item) for item in rules.items(at_most=16))
    if not rules.present:
        found = (RouteRule("rules[0]", (RouteMatch(),)),)  # the default that the CRD gives
    elif not found and rules.sound:
        rules.refuse("is empty; leave it out or give one rule")
    if not parents:
        return ()
    return (Route(ref, created(root), tuple(dict.fromkeys(parents)), found),)


def _parent(reader: Reader) -> Parent | None:
    reader.fields(PARENT)
    group = reader.at("group").text(_GATEWAY_GROUP)
    kind = reader.at("kind").text("Gateway")
    if kind == "Service" and group != "":
        reader.at("group").refuse(f'a Service is of group "", not {shown(group)}: write group: ""')
        return None
    if kind != "Service":
        reader.note(f"only routes on Services are read, not on {shown(kind)}: this parent is left to others")
        return None
    reader.at("name").require()
    service = ServiceName(
        name(reader.at("namespace"), reader.ref.namespace, label=True), name(reader.at("name"), label=True)
    )
    return Parent(service, port(reader.at("port")) if reader.at("port").present else None)


def _rule(reader: Reader) -> RouteRule:
    reader.fields(RULE)
    name(reader.at("name"))
    matches = tuple(_match(item) for item in reader.at("matches").items(at_most=64)) or (RouteMatch(),)
    filters = read_filters(reader.at("filters"), matches)
    backends = tuple(_backend(item) for item in reader.at("backendRefs").items(at_most=16))
    if filters.redirect and backends:
        reader.at("backendRefs").refuse("cannot stand beside a RequestRedirect, which answers at once")
    timeouts = reader.at("timeouts").fields(TIMEOUTS)
    whole, each = _duration_ms(timeouts.at("request")), _duration_ms(timeouts.at("backendRequest"))
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
    )


# --- what a rule is for ------------------------------------------------------------------------


def _match(reader: Reader) -> RouteMatch:
    reader.fields(MATCH)
    method = reader.at("method").choice(METHODS)
    methods = (ValueMatch(":method", "exact", method),) if method else ()
    headers = _values(reader.at("headers"), 4096, fold=True)
    query = _values(reader.at("queryParams"), 1024)
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


def _values(reader: Reader, longest: int, fold: bool = False) -> tuple[ValueMatch, ...]:
    """Of entries with the same name only the first counts (HTTPRouteMatch); header names fold case."""
    found: dict[str, ValueMatch] = {}
    for item in reader.items(at_most=16):
        item.fields(VALUE)
        kind = item.at("type").choice(("Exact", "RegularExpression"), "Exact")
        value = item.at("value")
        text = printable(value, longest)
        if value.require() and not text and value.sound:
            value.refuse("must not be empty")
        if kind == "RegularExpression":
            expression(value)
        item.at("name").require()
        own = token(item.at("name"), item.at("name").text())
        own = own.lower() if fold else own
        if own in found:
            item.note(f"has no effect: {shown(own)} stands here before")
        found.setdefault(own, ValueMatch(own, "exact" if kind == "Exact" else "regex", text))
    return tuple(found.values())


def _duration_ms(reader: Reader) -> int:
    """GEP-2257; 0 is none."""
    text = reader.text("0s")
    if not _DURATION.fullmatch(text):
        if reader.sound:
            reader.refuse(f"{shown(text)} is not a duration: write 1 to 4 parts such as 1h30m, 10s or 500ms")
        return 0
    return sum(int(n) * _UNIT_MS[unit] for n, unit in _DURATION_PART.findall(text))


# --- where requests go -------------------------------------------------------------------------


def _backend(reader: Reader) -> RouteBackend:
    reader.fields(BACKEND)
    group, kind = reader.at("group").text(), reader.at("kind").text("Service")
    namespace = name(reader.at("namespace"), reader.ref.namespace, label=True)
    weight = reader.at("weight").integer(0, MAX_WEIGHT, 1)
    number = port(reader.at("port"))
    filters = read_backend_filters(reader.at("filters"))
    reader.at("name").require()
    service: ServiceName | None = None
    if (group, kind) != ("", "Service"):
        reader.note(f"only a Service can be a backend, not {shown(kind)}: these requests answer 500")
    elif namespace != reader.ref.namespace:
        reader.note(
            f"is in namespace {shown(namespace)}, but ReferenceGrant is not supported yet: "
            "these requests answer 500"
        )
    else:
        reader.at("port").require()
        service = ServiceName(namespace, name(reader.at("name"), label=True))
    return RouteBackend(service, number, weight, filters.request_headers, filters.response_headers)
