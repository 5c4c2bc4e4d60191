"""GRPCRoute of gateway.networking.k8s.io, on Services and Gateways.

A call is a request to `/service/method` (gRPC over HTTP2, Requests), so its matches become matches of
a path. What it shares with other routes is in `gateway_route`, filters are in `gateway_filters`. It
knows nothing of precedence between routes, nor of Envoy.
"""

from __future__ import annotations

import re

from mesh.dialects import gateway_route
from mesh.dialects.gateway_filters import GRPC_BACKEND_FILTER, read_backend_filters, read_grpc_filters
from mesh.dialects.reading import Fields, Reader, shown
from mesh.dialects.syntax import expression, name
from mesh.expression import ExpressionError, compile_expression
from mesh.model import ObjectRef, PathMatch, Route, RouteBackend, RouteMatch, RouteRule

SPEC = Fields(("parentRefs", "hostnames", "rules"), refused=("useDefaultGateways",))
RULE = Fields(("name", "matches", "filters", "backendRefs"), refused=("sessionPersistence",))
MATCH = Fields(("method", "headers"))
METHOD = Fields(("type", "service", "method"))
BACKEND = Fields((*gateway_route.TARGET, "weight", "filters"))

#: What gRPC takes for UNAVAILABLE (HTTP to gRPC Status Code Mapping), as GRPCRouteRule demands.
UNAVAILABLE = 503

_SERVICE = re.compile(r"\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_ANY = "[^/]+"


def read_grpc_route(root: Reader, ref: ObjectRef) -> tuple[Route, ...]:
    spec = gateway_route.read_spec(root, SPEC)
    names = gateway_route.hostnames(spec.at("hostnames"), 16)
    rules = spec.at("rules")
    found = tuple(_rule(item) for item in rules.items(at_most=16))
    if not found and rules.sound:
        rules.refuse("is required: give at least one rule")
    return gateway_route.routes(root, names, found)


def _rule(reader: Reader) -> RouteRule:
    reader.fields(RULE)
    name(reader.at("name"))
    filters = read_grpc_filters(reader.at("filters"))
    matches = tuple(_match(item) for item in reader.at("matches").items(at_most=64))
    return RouteRule(
        field=reader.rule_field,
        matches=matches or (RouteMatch(call=(0, 0)),),
        backends=tuple(_backend(item) for item in reader.at("backendRefs").items(at_most=16)),
        request_headers=filters.request_headers,
        response_headers=filters.response_headers,
        mirrors=filters.mirrors,
        lost=UNAVAILABLE,
    )


def _match(reader: Reader) -> RouteMatch:
    reader.fields(MATCH)
    headers = gateway_route.values(reader.at("headers"), 4096, fold=True)
    call = reader.at("method")
    named = len(call.at("service").text()), len(call.at("method").text())
    return RouteMatch(_path(call), headers, call=named)


def _path(reader: Reader) -> PathMatch:
    reader.fields(METHOD)
    service, method = reader.at("service"), reader.at("method")
    if reader.present and reader.sound and not (service.text() or method.text()):
        reader.refuse("is empty: name a service, a method or both")
    if reader.at("type").choice(("Exact", "RegularExpression"), "Exact") == "RegularExpression":
        return _pattern(reader, service, method)
    _exact(service, _SERVICE, "a service such as shop.v1.Cart")
    _exact(method, _METHOD, "a method such as AddItem")
    if service.text() and method.text():
        return PathMatch("exact", f"/{service.text()}/{method.text()}")
    if method.text():
        return PathMatch("regex", f"/{_ANY}/{method.text()}")
    return PathMatch("prefix", f"/{service.text()}")


def _exact(reader: Reader, form: re.Pattern[str], what: str) -> None:
    text = reader.text()
    if text and (len(text) > 1024 or not form.fullmatch(text)):
        reader.refuse(f"{shown(text)} is not {what}")


def _pattern(reader: Reader, service: Reader, method: Reader) -> PathMatch:
    of_service, of_method = expression(service), expression(method)
    whole = f"/{_group(of_service)}/{_group(of_method)}"
    if reader.sound:
        try:
            compile_expression(whole)
        except ExpressionError as error:
            reader.refuse(f"service and method do not make one expression: {error}")
    return PathMatch("regex", whole)


def _group(pattern: str | None) -> str:
    return _ANY if pattern is None else f"(?:{pattern})"


def _backend(reader: Reader) -> RouteBackend:
    reader.fields(BACKEND)
    service, number = gateway_route.target(reader, "these calls answer UNAVAILABLE")
    filters = read_backend_filters(reader.at("filters"), GRPC_BACKEND_FILTER)
    return RouteBackend(
        service, number, gateway_route.weight(reader), filters.request_headers, filters.response_headers
    )
